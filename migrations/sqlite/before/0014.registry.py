"""Names of offices and doctors become records: clinic/registry/takeover.py does it."""

from functools import partial
from pathlib import Path

from yoyo import step

from clinic.registry.takeover import take_over

SCHEMA = Path(__file__).parents[1] / "0002.clinic.sql"

step(partial(take_over, schema=SCHEMA, sqlite=True))
