"""The index of not solved, and the operations on it: one function, one statement."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

from clinic.database import Connection, Database, Row, Sql
from clinic.operating.selection import Selection

# PostgreSQL's bigint: after the last position that there can be.
LAST_POSITION: Final = 2**63 - 1

# Which rows a ``Selection`` admits, up to a position.
_ON_SQLITE = """
    set_aside.position <= :up_to
    and (:ids is null or set_aside.position in (select value from json_each(:ids)))
    and (:kind is null or set_aside.kind = :kind)
    and (:event_type is null or set_aside.event_type = :event_type)
    and (:office_id is null or set_aside.office_id = :office_id)
    and (:after is null or set_aside_at >= :after)
    and (:before is null or set_aside_at < :before)
"""
_ON_POSTGRESQL = """
    set_aside.position <= :up_to
    and (
        cast(:ids as json) is null or set_aside.position in (
            select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
        )
    )
    and (cast(:kind as text) is null or set_aside.kind = :kind)
    and (cast(:event_type as text) is null or set_aside.event_type = :event_type)
    and (cast(:office_id as bigint) is null or set_aside.office_id = :office_id)
    and (cast(:after as timestamptz) is null or set_aside_at >= :after)
    and (cast(:before as timestamptz) is null or set_aside_at < :before)
"""


def _selecting(statement: str) -> Sql:
    """Return a statement with the selection in the place of {selected}, in each dialect."""
    return Sql(
        sqlite=statement.format(selected=_ON_SQLITE),
        postgresql=statement.format(selected=_ON_POSTGRESQL),
    )


def _values(selection: Selection, up_to: int = LAST_POSITION, **more: Any) -> dict[str, Any]:
    return {**selection.values(), "up_to": up_to, **more}


SELECT_GROUPS = _selecting("""
    select
        kind, count(*) as messages, min(set_aside_at) as first_at, max(set_aside_at) as last_at
    from set_aside where state = 'waiting' and {selected}
    group by kind order by count(*) desc, kind
""")


async def select_groups(database: Database, selection: Selection) -> list[Row]:
    """Return the kinds of error of what waits: how often, first and last seen."""
    return await database.look(SELECT_GROUPS, _values(selection))


_COLUMNS = """
    position, event_id, event_type, office_id, kind, reason, deliveries, set_aside_at, state,
    ended_at, operation_id
"""
SELECT_WAITING = _selecting(f"""
    select {_COLUMNS} from set_aside
    where state = 'waiting' and position > :past and {{selected}}
    order by position limit :limit
""")  # noqa: S608 - no input
SELECT_OF_OPERATION = f"""
    select {_COLUMNS} from set_aside
    where operation_id = :operation_id and position > :past order by position limit :limit
"""  # noqa: S608 - no input


async def select_waiting(
    database: Database, selection: Selection, past: int, limit: int
) -> list[Row]:
    """Return what waits, oldest first, after a position."""
    return await database.look(SELECT_WAITING, _values(selection, past=past, limit=limit))


async def select_of_operation(
    database: Database, operation_id: int, past: int, limit: int
) -> list[Row]:
    """Return what an operation has dealt with, in the order of the index, after a position."""
    values = {"operation_id": operation_id, "past": past, "limit": limit}
    return await database.look(SELECT_OF_OPERATION, values)


SELECT_ONE = f"""
    select {_COLUMNS}, message, event.body, event.type as logged_type, event.subject
    from set_aside left join event on event.id = event_id where set_aside.position = :position
""".replace(" position,", " set_aside.position,")  # noqa: S608 - no input


async def select_one(database: Database, position: int) -> Row | None:
    """Return a row of the index, with the event in the log or the message that was kept."""
    rows = await database.look(SELECT_ONE, {"position": position})
    return rows[0] if rows else None


# What an operation is about, by its verb: what waits, or what was discarded.
_PLANNED = """
    select
        count(*) as messages, count(recorded.event_id) as recorded,
        count(*) - count(set_aside.event_id) as foreign_messages,
        coalesce(max(set_aside.position), 0) as up_to
    from set_aside left join recorded on recorded.event_id = set_aside.event_id
    where state = '{state}' and {{selected}}
"""
SELECT_PLANNED = {
    state: _selecting(_PLANNED.format(state=state)) for state in ("waiting", "discarded")
}


async def select_planned(
    connection: Connection, state: str, selection: Selection, up_to: int = LAST_POSITION
) -> Row:
    """Return how many rows of a state are selected, how many are recorded, and the last one."""
    (row,) = await connection.fetch_all(SELECT_PLANNED[state], _values(selection, up_to))
    return row


SELECT_LAST = "select coalesce(max(position), 0) as position from set_aside"


async def select_last(connection: Connection) -> int:
    """Return the last position of the index."""
    (row,) = await connection.fetch_all(SELECT_LAST)
    return int(row["position"])


_OF_KEYS = """
    select
        position, key, state, event_id, (state = 'waiting' and {selected}) as selected
    from set_aside
    where state in ('waiting', 'missing') and key in (select value from {keys})
    order by position
"""
SELECT_OF_KEYS = Sql(
    sqlite=_OF_KEYS.format(selected=_ON_SQLITE, keys="json_each(:keys)"),
    postgresql=_OF_KEYS.format(
        selected=_ON_POSTGRESQL, keys="json_array_elements_text(cast(:keys as json))"
    ),
)


async def select_of_keys(
    connection: Connection,
    keys: Sequence[str],
    selection: Selection,
    up_to: int,
) -> list[Row]:
    """Return rows that messages of these keys may be of, and whether they are selected."""
    values = _values(selection, up_to, keys=list(keys))
    return await connection.fetch_all(SELECT_OF_KEYS, values)


SELECT_DISCARDED = _selecting("""
    select
        set_aside.position, set_aside.message, set_aside.reason,
        event.id, event.type, event.subject, event.body
    from set_aside left join event on event.id = set_aside.event_id
    where state = 'discarded' and {selected}
    order by set_aside.position limit :limit
""")


async def select_discarded(
    connection: Connection, selection: Selection, up_to: int, limit: int
) -> list[Row]:
    """Return discarded rows, with the event in the log or the message that was kept."""
    return await connection.fetch_all(SELECT_DISCARDED, _values(selection, up_to, limit=limit))


_ENDED = "('replayed', 'dropped', 'discarded', 'missing')"
UPDATE_STATES = Sql(
    sqlite=f"""
        update set_aside
        set state = told.value->>'state', operation_id = :operation_id,
            key = coalesce(told.value->>'key', set_aside.key),
            message = coalesce(told.value->>'message', set_aside.message),
            ended_at = case when told.value->>'state' in {_ENDED} then :now end
        from json_each(:rows) as told
        where set_aside.position = told.value->>'position'
    """,  # noqa: S608 - no input
    postgresql=f"""
        update set_aside
        set state = told.state, operation_id = :operation_id,
            key = coalesce(told.key, set_aside.key),
            message = coalesce(told.message, set_aside.message),
            ended_at = case when told.state in {_ENDED} then cast(:now as timestamptz) end
        from json_to_recordset(cast(:rows as json))
            as told (position bigint, state text, key text, message text)
        where set_aside.position = told.position
    """,  # noqa: S608 - no input
)


async def update_states(
    connection: Connection,
    rows: Sequence[Mapping[str, object]],
    operation_id: int | None,
    now: datetime.datetime,
) -> None:
    """Give rows, by their ``position``, a ``state``, and a new ``key`` or ``message`` if any.

    An ended state has the moment at which it ended.
    """
    values = {"rows": [dict(row) for row in rows], "operation_id": operation_id, "now": now}
    await connection.execute(UPDATE_STATES, values)


UPDATE_IN_HAND = "update operation set in_hand = cast(:in_hand as text) where id = :id"


async def update_in_hand(
    connection: Connection, operation_id: int, positions: Sequence[int]
) -> None:
    """Write down which messages an operation is about to take out of the queue."""
    await connection.execute(UPDATE_IN_HAND, {"id": operation_id, "in_hand": list(positions)})


UPDATE_TAKEN = Sql(
    sqlite="""
        update set_aside set state = :state, operation_id = :operation_id, ended_at = :now
        where state in ('waiting', 'missing') and position in (
            select value from operation, json_each(in_hand) where operation.id = :operation_id
        )
    """,
    postgresql="""
        update set_aside set state = :state, operation_id = :operation_id, ended_at = :now
        where state in ('waiting', 'missing') and position in (
            select cast(value as bigint)
            from operation, json_array_elements_text(cast(in_hand as json))
            where operation.id = :operation_id
        )
    """,
)


async def update_taken(
    connection: Connection, operation_id: int, state: str, now: datetime.datetime
) -> None:
    """End what an operation has in hand, and was not in the queue any more: it was taken out."""
    values = {"operation_id": operation_id, "state": state, "now": now}
    await connection.execute(UPDATE_TAKEN, values)


UPDATE_NOT_FOUND = _selecting("""
    update set_aside set state = 'missing', operation_id = :operation_id, ended_at = :now
    where state = 'waiting' and {selected}
""")


async def update_not_found(
    connection: Connection,
    operation_id: int,
    selection: Selection,
    up_to: int,
    now: datetime.datetime,
) -> None:
    """Mark what an operation is about and did not find in the whole queue."""
    values = _values(selection, up_to, operation_id=operation_id, now=now)
    await connection.execute(UPDATE_NOT_FOUND, values)


UPDATE_MISSING = Sql(
    sqlite="""
        update set_aside set state = 'missing', operation_id = :operation_id, ended_at = :now
        where state = 'waiting' and position <= :up_to
            and position not in (select value from json_each(:seen))
    """,
    postgresql="""
        update set_aside set state = 'missing', operation_id = :operation_id, ended_at = :now
        where state = 'waiting' and position <= :up_to and position not in (
            select cast(value as bigint) from json_array_elements_text(cast(:seen as json))
        )
    """,
)


async def update_missing(
    connection: Connection,
    operation_id: int,
    seen: Sequence[int],
    up_to: int,
    now: datetime.datetime,
) -> None:
    """Mark what waits up to a position and was not seen in the whole queue."""
    values = {"operation_id": operation_id, "seen": list(seen), "up_to": up_to, "now": now}
    await connection.execute(UPDATE_MISSING, values)


INSERT_OPERATION = """
    insert into operation (
        verb, selection, up_to, messages, recorded, foreign_messages, reason, rate, planned_by,
        planned_at
    )
    values (
        :verb, :selection, :up_to, :messages, :recorded, :foreign_messages, :reason, :rate,
        :planned_by, :planned_at
    )
    returning id
"""


async def insert_operation(connection: Connection, operation: Row) -> int:
    """Write what is planned; return its id."""
    (row,) = await connection.fetch_all(INSERT_OPERATION, operation)
    return int(row["id"])


SELECT_OPERATION = "select * from operation where id = :id"
SELECT_OPERATIONS = "select * from operation order by id desc limit :limit"
SELECT_RUNNING = "select * from operation where status = 'running' order by id limit 1"


async def select_operation(target: Connection | Database, operation_id: int) -> Row | None:
    """Return an operation."""
    read = target.look if isinstance(target, Database) else target.fetch_all
    rows = await read(SELECT_OPERATION, {"id": operation_id})
    return rows[0] if rows else None


async def select_operations(database: Database, limit: int) -> list[Row]:
    """Return the newest operations, the newest first."""
    return await database.look(SELECT_OPERATIONS, {"limit": limit})


async def select_running(database: Database) -> Row | None:
    """Return the operation that is to go on next, if any."""
    rows = await database.look(SELECT_RUNNING)
    return rows[0] if rows else None


SELECT_RESULTS = Sql(
    sqlite="""
        select operation_id, state, count(*) as messages from set_aside
        where operation_id in (select value from json_each(:ids)) group by operation_id, state
    """,
    postgresql="""
        select operation_id, state, count(*) as messages from set_aside
        where operation_id in (
            select cast(value as bigint) from json_array_elements_text(cast(:ids as json))
        )
        group by operation_id, state
    """,
)


async def select_results(database: Database, ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """Return by operation how many messages it has brought into each state."""
    found: dict[int, dict[str, int]] = {one: {} for one in ids}
    for row in await database.look(SELECT_RESULTS, {"ids": list(ids)}):
        found[row["operation_id"]][row["state"]] = row["messages"]
    return found


UPDATE_STATUS = Sql(
    sqlite="""
        update operation
        set status = :status, trouble = null,
            started_at = case when :status = 'running' then coalesce(started_at, :now)
                else started_at end,
            ended_at = case when :status = 'done' then :now end
        where id = :id and status in (select value from json_each(:from))
        returning id
    """,
    postgresql="""
        update operation
        set status = :status, trouble = null,
            started_at = case when cast(:status as text) = 'running'
                then coalesce(started_at, cast(:now as timestamptz)) else started_at end,
            ended_at = case when cast(:status as text) = 'done'
                then cast(:now as timestamptz) end
        where id = :id
            and status in (select value from json_array_elements_text(cast(:from as json)))
        returning id
    """,
)


async def update_status(
    connection: Connection,
    operation_id: int,
    before: Sequence[str],
    status: str,
    now: datetime.datetime,
) -> bool:
    """Bring an operation from one of some statuses to another; return whether it had one."""
    values = {"id": operation_id, "from": list(before), "status": status, "now": now}
    return bool(await connection.fetch_all(UPDATE_STATUS, values))


UPDATE_TROUBLE = "update operation set trouble = :trouble where id = :id"


async def update_trouble(database: Database, operation_id: int, trouble: str | None) -> None:
    """Note why an operation does not go on at this moment, or that it does."""
    await database.at_once(UPDATE_TROUBLE, {"id": operation_id, "trouble": trouble})


CLAIM_LEASE = Sql(
    sqlite="""
        update operation_lease set holder = :holder, ends_at = :ends_at
        where holder = :holder or ends_at < :now
        returning holder
    """,
    postgresql="""
        update operation_lease
        set holder = :holder, ends_at = statement_timestamp() + cast(:lease as interval)
        where holder = cast(:holder as text) or ends_at < statement_timestamp()
        returning holder
    """,
)
RENEW_LEASE = Sql(
    sqlite="""
        update operation_lease set holder = :holder, ends_at = :ends_at
        where (holder = :holder or ends_at < :now)
            and exists (select 1 from operation where id = :id and status = 'running')
        returning holder
    """,
    postgresql="""
        update operation_lease
        set holder = :holder, ends_at = statement_timestamp() + cast(:lease as interval)
        where (holder = cast(:holder as text) or ends_at < statement_timestamp())
            and exists (select 1 from operation where id = :id and status = 'running')
        returning holder
    """,
)
GIVE_BACK_LEASE = Sql(
    sqlite="update operation_lease set ends_at = '' where holder = :holder",
    postgresql="update operation_lease set ends_at = '-infinity' where holder = :holder",
)


async def claim_lease(
    connection: Connection, holder: str, lease: datetime.timedelta, now: datetime.datetime
) -> bool:
    """Take the lease to carry out operations, or renew it; return whether it could be had.

    The database's clock decides, of which SQLite has none but this host's, ``now``.
    """
    values = {"holder": holder, "lease": lease, "ends_at": now + lease, "now": now}
    return bool(await connection.fetch_all(CLAIM_LEASE, values))


async def renew_lease(
    connection: Connection,
    holder: str,
    operation_id: int,
    lease: datetime.timedelta,
    now: datetime.datetime,
) -> bool:
    """Renew the lease to carry out an operation; return whether it could be had, and still runs."""
    values = {"holder": holder, "id": operation_id, "lease": lease, "now": now}
    return bool(await connection.fetch_all(RENEW_LEASE, {**values, "ends_at": now + lease}))


async def give_back_lease(database: Database, holder: str) -> None:
    """Let others carry out operations at once."""
    await database.at_once(GIVE_BACK_LEASE, {"holder": holder})


_OLD_ROWS = "select position from set_aside where ended_at < :before order by ended_at limit :limit"
DELETE_OLD_ROWS = Sql(
    sqlite=f"""
        delete from set_aside where position in ({_OLD_ROWS}) returning position
    """,  # noqa: S608 - no input
    postgresql=f"""
        delete from set_aside where position = any (array({_OLD_ROWS})) returning position
    """,  # noqa: S608 - no input
)
DELETE_OLD_OPERATIONS = """
    delete from operation
    where planned_at < :before and status in ('planned', 'done')
        and not exists (select 1 from set_aside where operation_id = operation.id)
"""


async def delete_old_rows(connection: Connection, before: datetime.datetime, limit: int) -> int:
    """Delete up to a number of rows that ended before a moment; return how many."""
    values = {"before": before, "limit": limit}
    return len(await connection.fetch_all(DELETE_OLD_ROWS, values))


async def delete_old_operations(connection: Connection, before: datetime.datetime) -> None:
    """Delete operations of which nothing is left in the index."""
    await connection.execute(DELETE_OLD_OPERATIONS, {"before": before})


SELECT_EVENTS_OF = """
    select
        event.id, event.type, event.body, event.position, outbox.position as open,
        published_at, publications, recorded_at
    from event
    left join outbox on outbox.position = event.position
    left join recorded on recorded.event_id = event.id
    where event.subject = :subject order by event.position
"""
SELECT_STAYS = Sql(
    sqlite="""
        select
            set_aside.position, event_id, kind, set_aside.reason, deliveries, set_aside_at, state,
            set_aside.ended_at, operation_id, operation.reason as why, planned_by
        from set_aside left join operation on operation.id = operation_id
        where event_id in (select value from json_each(:ids)) order by set_aside.position
    """,
    postgresql="""
        select
            set_aside.position, event_id, kind, set_aside.reason, deliveries, set_aside_at, state,
            set_aside.ended_at, operation_id, operation.reason as why, planned_by
        from set_aside left join operation on operation.id = operation_id
        where event_id in (select value from json_array_elements_text(cast(:ids as json)))
        order by set_aside.position
    """,
)


async def select_events_of(connection: Connection, subject: str) -> list[Row]:
    """Return the events of a subject, each with its row in the outbox and when it was recorded."""
    return await connection.fetch_all(SELECT_EVENTS_OF, {"subject": subject})


async def select_stays(connection: Connection, ids: Sequence[str]) -> list[Row]:
    """Return the stays of events in not solved, oldest first, each with what was done with it."""
    return await connection.fetch_all(SELECT_STAYS, {"ids": list(ids)})
