"""What is kept of a delivery that failed: when, which one, which error, by which process.

No text of a message is ever kept here, for that may be a patient's name. So the words of an error
are kept only where they are our own: those of other exceptions may quote what they failed over.
"""

import datetime
import linecache
import os
import socket
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from clinic.database import Connection, Row, Sql, as_row

# In characters; with it a batch of 250 attempts is at most 1.3 MB.
LONGEST_TEXT = 500
LONGEST_TRACEBACK = 4000
# The innermost frames tell most; the outer ones are the consumer's own.
MOST_FRAMES = 12
# Exceptions that were raised because of another one.
MOST_CAUSES = 5

ROOT = Path(__file__).parents[2]
HOST = socket.gethostname()

INSERT_ATTEMPTS = Sql(
    sqlite="""
        insert into attempt (
            failed_at, event_id, event_type, delivery, kind, text, traceback, host, pid
        )
        select
            value->>'failed_at', value->>'event_id', value->>'event_type', value->>'delivery',
            value->>'kind', value->>'text', value->>'traceback', value->>'host', value->>'pid'
        from json_each(:attempts)
    """,
    postgresql="""
        insert into attempt (
            failed_at, event_id, event_type, delivery, kind, text, traceback, host, pid
        )
        select failed_at, event_id, event_type, delivery, kind, text, traceback, host, pid
        from json_to_recordset(cast(:attempts as json)) as failed (
            failed_at timestamptz, event_id text, event_type text, delivery int, kind text,
            text text, traceback text, host text, pid int
        )
    """,
)

SELECT_ATTEMPTS = Sql(
    sqlite="""
        select event_id, failed_at, delivery, kind, text, traceback, host, pid
        from attempt where event_id in (select value from json_each(:ids)) order by id
    """,
    postgresql="""
        select event_id, failed_at, delivery, kind, text, traceback, host, pid
        from attempt
        where event_id in (select value from json_array_elements_text(cast(:ids as json)))
        order by id
    """,
)

_OLD = "select id from attempt where failed_at < :before order by failed_at limit :limit"
DELETE_OLD_ATTEMPTS = Sql(
    sqlite=f"delete from attempt where id in ({_OLD}) returning id",  # noqa: S608 - no input
    postgresql=f"delete from attempt where id = any (array({_OLD})) returning id",  # noqa: S608
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A delivery that failed.

    ``event_id`` and ``event_type`` are those of an event of our log, None of other messages;
    ``delivery`` counts the message's deliveries from 1, and is None where nobody knows.
    """

    failed_at: datetime.datetime
    event_id: str | None
    event_type: str | None
    delivery: int | None
    kind: str
    text: str
    traceback: str
    host: str
    pid: int


def attempt(
    failure: Exception,
    failed_at: datetime.datetime,
    event: tuple[str, str] | None,
    delivery: int | None,
) -> Attempt:
    """Return what is to be kept of a delivery that failed just now, in this process.

    ``event`` is the id and the type of the event, if the message is one of our log.
    """
    event_id, event_type = event or (None, None)
    return Attempt(
        failed_at,
        event_id,
        event_type,
        delivery,
        type(failure).__name__,
        text_of(failure),
        traceback_of(failure),
        HOST,
        os.getpid(),
    )


def text_of(failure: BaseException) -> str:
    """Return the words of an error of our own; another's may quote a message, and are not kept."""
    if type(failure).__module__.partition(".")[0] != "clinic":
        return ""
    return cleaned(str(failure))[:LONGEST_TEXT]


def traceback_of(failure: BaseException) -> str:
    """Return the innermost frames of an error and of its causes: places and source, no values."""
    found: list[str] = []
    error: BaseException | None = failure
    for _ in range(MOST_CAUSES):
        if error is None:
            break
        words = text_of(error)
        found.append(f"{type(error).__name__}{': ' if words else ''}{words}")
        found += frames_of(error.__traceback__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if error is not None:
            found.append("because of:")
    return cleaned("\n".join(found))[:LONGEST_TRACEBACK]


def frames_of(trace: TracebackType | None) -> list[str]:
    """Return one line for each of the innermost frames, the outermost of them first."""
    frames = list(traceback.walk_tb(trace))[-MOST_FRAMES:]
    return [
        f"  {placed(frame.f_code.co_filename)}:{line} in {frame.f_code.co_name}: "
        + linecache.getline(frame.f_code.co_filename, line).strip()
        for frame, line in frames
    ]


def placed(file: str) -> str:
    """Return a file's path below the clinic's folder, or the end of another's."""
    path = Path(file)
    if path.is_relative_to(ROOT):
        return str(path.relative_to(ROOT))
    return "/".join(path.parts[-3:])


def cleaned(text: str) -> str:
    """Return a text that every database takes: without NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


async def insert_attempts(connection: Connection, attempts: Sequence[Attempt]) -> None:
    """Keep attempts."""
    await connection.execute(INSERT_ATTEMPTS, {"attempts": [as_row(one) for one in attempts]})


async def select_attempts(connection: Connection, ids: Sequence[str]) -> list[Row]:
    """Return the attempts at events, by their ids, oldest first."""
    return await connection.fetch_all(SELECT_ATTEMPTS, {"ids": list(ids)})


async def delete_old_attempts(connection: Connection, before: datetime.datetime, limit: int) -> int:
    """Delete up to a number of attempts that failed before a moment; return how many."""
    values = {"before": before, "limit": limit}
    return len(await connection.fetch_all(DELETE_OLD_ATTEMPTS, values))
