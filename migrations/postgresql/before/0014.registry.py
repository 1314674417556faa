"""Names of offices and doctors become records; clinic/registry/takeover.py does it."""

from functools import partial
from pathlib import Path

from yoyo import step
from yoyo.migrations import read_sql_migration

from clinic.registry.takeover import take_over

_, _, SCHEMA = read_sql_migration(str(Path(__file__).parents[1] / "0002.clinic.sql"))

step(partial(take_over, schema=SCHEMA, sqlite=False))
