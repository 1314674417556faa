"""Peer: a consumer as dramatiq's documentation has it, recording in PostgreSQL by SQLAlchemy.

Started by dramatiq's own command with its defaults: a process a core, eight threads each. As a
script it sends the messages of a file, a JSON list of bodies: what it takes has to be its own.
"""

import json
import os
import sys
from pathlib import Path

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from sqlalchemy import create_engine

from benchmarks.recorded_table import insert_recorded

engine = create_engine(os.environ["DATABASE_URL"])
dramatiq.set_broker(RabbitmqBroker(url=os.environ["AMQP_URL"]))


@dramatiq.actor
def record(body: str) -> None:
    """Record an event."""
    with engine.begin() as connection:
        connection.execute(insert_recorded(body))


if __name__ == "__main__":
    for sent in json.loads(Path(sys.argv[1]).read_text()):
        record.send(sent)
