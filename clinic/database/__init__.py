"""The database: open it, migrate it, and work on it in transactions.

========================  ========================================================================
``connection.py``         what everyone may use: ``Database``, ``Connection``, the errors
``opening.py``            from a URL to an open database
``sqlite.py``             the embedded engine
``postgresql.py``         the engine for many hosts
``times.py``              times as they go in and come out
``migration.py``          bring the schema up to date, one process at a time
========================  ========================================================================
"""

from clinic.database.connection import (
    Connection,
    Database,
    DatabaseUnavailable,
    DataRefused,
    Dialect,
    LostRace,
    Row,
    Sql,
    StatementRefused,
    again_if_lost,
    as_row,
)
from clinic.database.migration import CannotMigrate, migrate
from clinic.database.opening import BadDatabaseURL, open_database, read_database_url
from clinic.database.times import as_day, as_wall_clock, utc_now, wall_clock_text

__all__ = [
    "BadDatabaseURL",
    "CannotMigrate",
    "Connection",
    "DataRefused",
    "Database",
    "DatabaseUnavailable",
    "Dialect",
    "LostRace",
    "Row",
    "Sql",
    "StatementRefused",
    "again_if_lost",
    "as_day",
    "as_row",
    "as_wall_clock",
    "migrate",
    "open_database",
    "read_database_url",
    "utc_now",
    "wall_clock_text",
]
