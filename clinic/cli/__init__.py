"""The command line: parse, and hand over to a command."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from clinic import __version__
from clinic.cli import backup, closures, migrate, not_solved, patient, restore, run, token
from clinic.cli.command import Command
from clinic.database import BadDatabaseURL
from clinic.logs import open_standard_streams
from clinic.messaging.rabbitmq.address import BadBrokerURL
from clinic.settings import BadSetting
from clinic.supervisor import Misconfigured
from clinic.web.server import CannotListen

# The first is the default.
COMMANDS: tuple[Command, ...] = (
    run.COMMAND,
    migrate.COMMAND,
    closures.COMMAND,
    not_solved.COMMAND,
    token.COMMAND,
    patient.COMMAND,
    backup.COMMAND,
    restore.COMMAND,
)

EPILOG = """\
Settings come from flags, then the environment, then the file .env in the working directory, then
defaults; .env.example lists and explains them all. Without any, everything is kept in the file
clinic.db in the working directory.

  {door}                                  a whole clinic on http://127.0.0.1:8000
  {door} --role api --host 0.0.0.0        HTTP only, for all to reach
  {door} --role consumer --port 8002      analytics only; its health on port 8002
  {door} token make NAME --permission desk   a token, without which others do not get in
  {door} not-solved list                  what could not be handled; replay it, discard it
  {door} migrate --help                   what a command does, and what it takes

SIGTERM or Ctrl-C finishes the work in hand and stops; a second signal stops at once.
The exit status is 0 after an orderly stop or a command that succeeded; 1 when a service kept
failing or did not stop in time, or the database file was deleted or replaced; 2 when something has
to be corrected before the clinic can start. If the database or the broker is away, the clinic waits
for it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    open_standard_streams()
    parsed = parser().parse_args(arguments)
    command: Command = parsed.command
    try:
        return command.execute(parsed)
    except (BadSetting, BadDatabaseURL, BadBrokerURL, Misconfigured, CannotListen) as error:
        print(f"clinic: {error}", file=sys.stderr)  # noqa: T201 - for a person, not for the log
        return 2


def door() -> str:
    """Return the command that started the clinic, so that examples can be copied."""
    called = {"clinic.py": "python clinic.py", "__main__.py": "python -m clinic"}
    return called.get(Path(sys.argv[0]).name, "clinic")


def parser() -> argparse.ArgumentParser:
    """Return the description of the command line."""
    found = argparse.ArgumentParser(
        prog=door(),
        description="An appointment book for clinics: books, lists, and counts what was booked.",
        epilog=EPILOG.format(door=door()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--version", action="version", version=f"clinic {__version__}")
    COMMANDS[0].add_arguments(found)
    found.set_defaults(command=COMMANDS[0])
    named = found.add_subparsers(
        title="commands", metavar="COMMAND", description=f"Without one: {COMMANDS[0].name}."
    )
    for command in COMMANDS:
        added = named.add_parser(command.name, help=command.help, description=command.description)
        # Flags before the command count as well, unless they are repeated after it.
        command.add_arguments(added)
        added.set_defaults(command=command)
    return found
