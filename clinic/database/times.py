"""Times as they go into the database and come out of it.

A moment (``..._at``) is aware UTC. A wall-clock time has no zone. SQLite keeps both as ISO 8601
text that sorts as the times do.
"""

import datetime


def utc_now() -> datetime.datetime:
    """Return the present moment."""
    return datetime.datetime.now(datetime.UTC)


def as_wall_clock(value: datetime.datetime | str) -> datetime.datetime:
    """Return a wall-clock time that was read from a row."""
    return datetime.datetime.fromisoformat(value) if isinstance(value, str) else value


def as_day(value: datetime.date | str) -> datetime.date:
    """Return a day that was read from a row."""
    return datetime.date.fromisoformat(value) if isinstance(value, str) else value


def wall_clock_text(value: datetime.datetime) -> str:
    """Return a wall-clock time as ISO 8601 text, in the one form that both databases give it.

    PostgreSQL's JSON leaves out the zeros at the end of a fraction of a second.
    """
    text = value.isoformat()
    return text.rstrip("0") if value.microsecond else text
