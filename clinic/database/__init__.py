"""The database: open it, migrate it, and work on it in transactions.

========================  ========================================================================
``connection.py``         what everyone may use: ``Database``, ``Connection``
``engine.py``             what a kind of database does its own way; the errors
``sqlite.py``             the embedded engine
``files.py``              ... and its files: private, and watched
``postgresql.py``         the engine for many hosts
``reads.py``              expensive reads: few at a time, shared by those who ask for the same
``opening.py``            from a URL to an open database
``times.py``              times as they go in and come out
``migration.py``          bring the schema up to date, one process at a time
``upkeep.py``             ... as a service, for which the others wait
``wiping.py``             give up the copies of what was erased
``backup.py``             back up while the clinic runs; restore into an empty database
========================  ========================================================================
"""

from clinic.database.backup import SKIPPED, BackupFailed, NoBackup, back_up, restore
from clinic.database.connection import (
    Connection,
    Database,
    Sql,
    again_if_lost,
    as_row,
)
from clinic.database.engine import (
    DatabaseLost,
    DatabaseUnavailable,
    DataRefused,
    Dialect,
    LostRace,
    OutcomeUnknown,
    Row,
    SchemaUnfit,
    StatementRefused,
)
from clinic.database.migration import CannotMigrate, migrate
from clinic.database.opening import BadDatabaseURL, open_database, read_database_url
from clinic.database.reads import WAIT_SECONDS, Crowded, ExpensiveReads
from clinic.database.times import as_day, as_wall_clock, utc_now, wall_clock_text
from clinic.database.upkeep import Upkeep, in_thread
from clinic.database.wiping import wipe

__all__ = [
    "SKIPPED",
    "WAIT_SECONDS",
    "BackupFailed",
    "BadDatabaseURL",
    "CannotMigrate",
    "Connection",
    "Crowded",
    "DataRefused",
    "Database",
    "DatabaseLost",
    "DatabaseUnavailable",
    "Dialect",
    "ExpensiveReads",
    "LostRace",
    "NoBackup",
    "OutcomeUnknown",
    "Row",
    "SchemaUnfit",
    "Sql",
    "StatementRefused",
    "Upkeep",
    "again_if_lost",
    "as_day",
    "as_row",
    "as_wall_clock",
    "back_up",
    "in_thread",
    "migrate",
    "open_database",
    "read_database_url",
    "restore",
    "utc_now",
    "wall_clock_text",
    "wipe",
]
