"""``clinic migrate``: bring the database up to date."""

import argparse
import logging

from clinic import parts
from clinic.cli.command import Command
from clinic.database import migrate
from clinic.logs import set_up_logging
from clinic.settings import read_settings

log = logging.getLogger("clinic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""
    del parser


def execute(parsed: argparse.Namespace) -> int:
    """Apply the migrations that the database lacks."""
    del parsed
    settings = read_settings({})
    parts.check(settings)
    set_up_logging(settings.log_level, settings.log_format)
    for name in migrate(settings.database_url):
        log.info("migrated: %s", name)
    return 0


COMMAND = Command(
    "migrate",
    "bring the database up to date and end",
    "Bring the schema of the database up to date, then end. Every start does the same; this "
    "command is for clinics where only an administrator may change the schema. It logs the "
    "migrations that it applied, if any. The exit status is 0, or 2 if the database cannot be "
    "reached or brought up to date.",
    add_arguments,
    execute,
)
