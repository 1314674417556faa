"""Transactions: all or nothing, whoever is cancelled and whatever is refused."""

import random
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest

from clinic.database import Database, DatabaseUnavailable, StatementRefused, utc_now
from clinic.database.postgresql import MOST_CONNECTIONS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

INSERT = """
    insert into message (queue, id, type, subject, body, ready_at)
    values ('main', :id, 't', 's', '{}', :ready_at) returning position
"""


async def count(database: Database) -> int:
    async with database.snapshot() as connection:
        return int((await connection.fetch_all("select count(*) as n from message"))[0]["n"])


async def insert(database: Database, name: str) -> None:
    async with database.transaction() as connection:
        await connection.fetch_all(INSERT, {"id": name, "ready_at": utc_now()})


async def insert_at_once(database: Database, name: str) -> None:
    await database.at_once(INSERT, {"id": name, "ready_at": utc_now()})


async def test_what_the_body_writes_is_committed_when_it_ends(database: Database) -> None:
    called = []
    async with database.transaction() as connection:
        connection.after_commit(lambda: called.append(1))
        await connection.fetch_all(INSERT, {"id": "a", "ready_at": utc_now()})
        assert called == []
        assert await count(database) == 0
    assert await count(database) == 1
    assert called == [1]


async def test_nothing_is_written_when_the_body_raises(database: Database) -> None:
    called = []
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            connection.after_commit(lambda: called.append(1))
            await connection.fetch_all(INSERT, {"id": "a", "ready_at": utc_now()})
            raise ZeroDivisionError
    assert await count(database) == 0
    assert called == []


async def test_one_statement_is_a_transaction_of_its_own(database: Database) -> None:
    made = await database.at_once(INSERT, {"id": "a", "ready_at": utc_now()})
    assert [row["position"] for row in made] == [1]
    assert await count(database) == 1
    # More often than there are connections: a leak would be a hang.
    for _ in range(MOST_CONNECTIONS + 1):
        with pytest.raises(StatementRefused):
            await database.at_once("insert into message (queue) values ('main')")
    assert await count(database) == 1


async def test_one_statement_reads_without_a_transaction(database: Database) -> None:
    await insert(database, "a")
    # More often than there are connections: a leak would be a hang.
    for _ in range(MOST_CONNECTIONS + 1):
        assert await database.look("select count(*) as n from message") == [{"n": 1}]
        with pytest.raises(StatementRefused):
            await database.look("selec 1")
        with anyio.move_on_after(0):
            await database.look("select count(*) as n from message")
    assert await count(database) == 1


@pytest.mark.parametrize("insert", [insert, insert_at_once])
async def test_three_hundred_random_cancellations_leave_the_database_sound(
    database: Database, insert: Callable[[Database, str], Awaitable[None]]
) -> None:
    """With the transactions of ``databases`` each would leak a connection: docs/libraries.md."""
    done = 0

    async def try_one(name: str) -> None:
        nonlocal done
        with anyio.move_on_after(random.uniform(0, 0.05)):
            await insert(database, name)
            done += 1

    for batch in range(10):
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(try_one, f"{batch}-{number}")
    await insert(database, "last")
    # A cancelled one may have been committed just before: nobody can know.
    assert done + 1 <= await count(database) <= 301


async def test_nobody_is_let_in_while_the_database_is_shut(database: Database) -> None:
    inside = database.bypass()
    database.shut("being brought up to date")
    for way in (database.ping, partial(insert, database, "a"), partial(count, database)):
        with pytest.raises(DatabaseUnavailable, match="being brought up to date"):
            await way()
    await insert(inside, "b")
    database.reopen()
    assert await count(database) == 1


async def test_two_hundred_writers_at_once_all_get_their_turn(database: Database) -> None:
    async def read_then_write(name: str) -> None:
        async with database.transaction() as connection:
            await connection.fetch_all("select max(position) as p from message")
            await connection.fetch_all(INSERT, {"id": name, "ready_at": utc_now()})

    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(read_then_write, str(number))
    assert await count(database) == 200


async def test_a_snapshot_sees_one_state_throughout(database: Database) -> None:
    async with database.snapshot() as connection:
        before = await connection.fetch_all("select count(*) as n from message")
        await insert(database, "a")
        assert await connection.fetch_all("select count(*) as n from message") == before


async def test_a_refusal_names_the_constraint_and_quotes_no_values(database: Database) -> None:
    sql = """
        insert into event (id, type, subject, body) values (:id, 't', 's', '{}')
    """
    with pytest.raises(StatementRefused) as refused:
        async with database.transaction() as connection:
            for _ in range(2):
                await connection.execute(sql, {"id": "Иванов"})
    assert "Иванов" not in str(refused.value)
    assert "event" in refused.value.constraint
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


async def test_a_failed_commit_is_an_error_and_writes_nothing(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("create table parent (id integer primary key)")
        await connection.execute(
            "create table child (parent integer references parent deferrable initially deferred)"
        )
    # More often than there are connections: a leak would be a hang.
    for _ in range(MOST_CONNECTIONS + 1):
        with pytest.raises(StatementRefused):
            async with database.transaction() as connection:
                await connection.execute("insert into child values (1)")
    async with database.snapshot() as connection:
        assert await connection.fetch_all("select * from child") == []
