"""``clinic run``: run the services of a role; the default command."""

import argparse
import gc
import logging
import socket
import sys

import anyio

from clinic import parts, roles
from clinic.cli.command import Command
from clinic.logs import never_waiting, set_up_logging
from clinic.settings import Role, Settings, read_settings
from clinic.supervisor import GaveUp, Misconfigured
from clinic.web.server import listen

log = logging.getLogger("clinic")

# With uvloop a lone booking takes two thirds of the time (benchmarks/README.md).
LOOP = {"use_uvloop": True}

# For Python's three generations (gc.set_threshold): new objects before the youngest is searched for
# garbage, then searches of a generation before one of the next older.
GARBAGE_THRESHOLDS = (20_000, 20, 50)
# How long a thread waits before it makes another one give up the interpreter; 5 ms by default.
SWITCH_SECONDS = 0.0001

FLAGS = {"role": "CLINIC_ROLE", "host": "CLINIC_HOST", "port": "CLINIC_PORT"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add flags for the settings that are most often given by hand."""
    # No default: it would overwrite a flag that stands before the command.
    nothing = argparse.SUPPRESS
    parser.add_argument(
        "--role",
        choices=[str(role) for role in Role],
        default=nothing,
        help="all (the default): everything in one process; api: HTTP and the relay to the broker; "
        "consumer: analytics",
    )
    parser.add_argument("--host", default=nothing, help="the address to listen on (127.0.0.1)")
    parser.add_argument(
        "--port", default=nothing, help="the port to listen on (8000; a consumer: 8001)"
    )


def execute(parsed: argparse.Namespace) -> int:
    """Run the services of the role until asked to stop."""
    given = {name: getattr(parsed, flag, None) for flag, name in FLAGS.items()}
    settings = read_settings({name: value for name, value in given.items() if value})
    parts.check(settings)
    # Listen first: a port in use is then noticed before anything is changed.
    form = settings.log_format
    with listen(settings.host, settings.port) as listener, never_waiting(form) as outlet:
        set_up_logging(settings.log_level, form, outlet)
        return serve(settings, listener)


def serve(settings: Settings, listener: socket.socket) -> int:
    """Run the services of the role and return the exit status.

    Raises:
        Misconfigured: a person has to correct something first.
    """
    tune_python()
    try:
        stopped_in_time = anyio.run(roles.run, settings, listener, backend_options=LOOP)
    except Misconfigured:
        raise
    except GaveUp as error:
        log.critical("Ended: %s", error)
        return 1
    except Exception:
        log.critical("Ended by a bug in the clinic", exc_info=True)
        return 1
    return 0 if stopped_in_time else 1


def tune_python() -> None:
    """Make garbage collection rare, and switches between threads frequent.

    Modules are never garbage, but under load Python would search them every second, and block all
    requests for 60 ms. Requests leave almost no garbage that only a search finds, and by default
    these searches take a twentieth of the process's time. SQLite works in a thread of its own,
    which waits for the interpreter after each statement (benchmarks/README.md).
    """
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    sys.setswitchinterval(SWITCH_SECONDS)


COMMAND = Command(
    "run",
    "run the clinic until it is asked to stop; the default",
    "Run the services of a role until SIGTERM or Ctrl-C.",
    add_arguments,
    execute,
)
