"""The command line: read the arguments and the settings, run."""

import argparse
import gc
import logging
import socket
import sys
from collections.abc import Sequence

import anyio

from clinic import __version__, roles
from clinic.database import BadDatabaseURL, migrate
from clinic.logs import never_waiting, open_standard_streams, set_up_logging
from clinic.messaging.rabbitmq.address import BadBrokerURL
from clinic.settings import BadSetting, Role, Settings, read_settings
from clinic.supervisor import GaveUp, Misconfigured
from clinic.web.server import CannotListen, listen

log = logging.getLogger("clinic")

EPILOG = """\
commands:
  migrate          bring the database up to date and end (every start does so, too)

Settings come from these flags, then the environment, then the file .env in the working directory,
then defaults; .env.example lists and explains them all. Without any, everything is kept in the file
clinic.db in the working directory.

  python clinic.py                                  a whole clinic on http://127.0.0.1:8000
  python clinic.py --role api --host 0.0.0.0        HTTP only, for all to reach
  python clinic.py --role consumer --port 8002      analytics only; its health on port 8002

SIGTERM or Ctrl-C finishes what is in hand and stops; a second one stops at once. The exit status is
0 after an orderly stop; 1 when a service went on failing or did not stop in time, or the database
file was deleted or replaced; 2 when there is something to put right before it can start. A database
or a broker that is away is waited for.
"""

# A booking that comes alone takes two thirds of the time on it (benchmarks/README.md).
LOOP = {"use_uvloop": True}

# So many new objects before the young are searched, so many searches before the older ones are.
GARBAGE_THRESHOLDS = (20_000, 20, 50)
# How long a thread asks for the interpreter before the one that has it must give it up: 5 ms if
# nobody says otherwise.
SWITCH_SECONDS = 0.0001


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    open_standard_streams()
    parsed = parser().parse_args(arguments)
    flags = {
        "CLINIC_ROLE": parsed.role,
        "CLINIC_HOST": parsed.host,
        "CLINIC_PORT": parsed.port,
    }
    try:
        settings = read_settings({name: value for name, value in flags.items() if value})
        roles.check(settings)
        if parsed.command == "migrate":
            set_up_logging(settings.log_level)
            for name in migrate(settings.database_url):
                log.info("migrated: %s", name)
            return 0
        # A port that is in use is found out before anything is touched.
        with listen(settings.host, settings.port) as listener, never_waiting() as outlet:
            set_up_logging(settings.log_level, outlet)
            return serve(settings, listener)
    except (BadSetting, BadDatabaseURL, BadBrokerURL, Misconfigured, CannotListen) as error:
        return refuse(error)


def serve(settings: Settings, listener: socket.socket) -> int:
    """Run the services of the role and return the exit status."""
    tune_python()
    try:
        stopped_in_time = anyio.run(roles.run, settings, listener, backend_options=LOOP)
    except Misconfigured as error:
        return refuse(error)
    except GaveUp as error:
        log.critical("Ended: %s", error)
        return 1
    except Exception:
        log.critical("Ended by a fault of the clinic's own", exc_info=True)
        return 1
    return 0 if stopped_in_time else 1


def refuse(error: Exception) -> int:
    """Say in one line what a person has to put right, and return the exit status."""
    print(f"clinic: {error}", file=sys.stderr)  # noqa: T201 - for a person, not for the log
    return 2


def tune_python() -> None:
    """Have Python look for garbage seldom, and its threads take turns often.

    Modules are there to stay: to look through them, as happens every second under load, would hold
    up everyone for 60 ms. And requests leave hardly anything that only a search would find: one in
    every few of them finds nothing, at a twentieth of the process's time. SQLite works in a thread
    of its own, and rests after each of its statements until it has the interpreter again
    (benchmarks/README.md).
    """
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    sys.setswitchinterval(SWITCH_SECONDS)


def parser() -> argparse.ArgumentParser:
    """Return the description of the command line."""
    found = argparse.ArgumentParser(
        prog="clinic.py",
        description="An appointment book for clinics: books, lists, and counts what was booked.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("command", nargs="?", choices=["migrate"], help=argparse.SUPPRESS)
    found.add_argument(
        "--role",
        choices=[str(role) for role in Role],
        help="all (the default): everything in one process; api: HTTP and the relay to the broker; "
        "consumer: analytics",
    )
    found.add_argument("--host", help="the address to listen on (127.0.0.1)")
    found.add_argument("--port", help="the port to listen on (8000; a consumer: 8001)")
    found.add_argument("--version", action="version", version=f"clinic {__version__}")
    return found
