"""What both consuming peers record: the same row as ours, in the same table, by SQLAlchemy."""

import datetime
from dataclasses import asdict, fields

from pydantic import TypeAdapter
from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, MetaData, String, Table
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.types import TypeEngine

from clinic.analytics.recorded import Recorded, recorded
from clinic.events import Event

TYPES: dict[object, TypeEngine[object]] = {
    int: BigInteger(),
    bool: Boolean(),
    datetime.date: Date(),
    datetime.datetime: DateTime(timezone=True),
}

EVENT = TypeAdapter(Event)
TABLE = Table(
    "recorded",
    MetaData(),
    *(Column(field.name, TYPES.get(field.type, String())) for field in fields(Recorded)),
    Column("recorded_at", DateTime(timezone=True)),
)


def insert_recorded(body: str | bytes) -> Insert:
    """Return the statement that records an event once."""
    row = asdict(recorded(EVENT.validate_json(body)))
    row["recorded_at"] = datetime.datetime.now(datetime.UTC)
    return insert(TABLE).values(row).on_conflict_do_nothing(index_elements=["event_id"])
