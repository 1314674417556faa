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

# A booking that comes alone takes two thirds of the time on it (benchmarks/README.md).
LOOP = {"use_uvloop": True}

# Objects that are made before the young are searched for garbage, searches of the young before one
# of the older ones, and of these before one of the oldest.
GARBAGE_THRESHOLDS = (20_000, 20, 50)
# How long a thread asks for the interpreter before the one that has it must give it up: 5 ms if
# nobody says otherwise.
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
    # A port that is in use is found out before anything is touched.
    with listen(settings.host, settings.port) as listener, never_waiting() as outlet:
        set_up_logging(settings.log_level, outlet)
        return serve(settings, listener)


def serve(settings: Settings, listener: socket.socket) -> int:
    """Run the services of the role and return the exit status.

    Raises:
        Misconfigured: a person has to put something right first.
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
        log.critical("Ended by a fault of the clinic's own", exc_info=True)
        return 1
    return 0 if stopped_in_time else 1


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


COMMAND = Command(
    "run",
    "run the clinic until it is asked to stop; the default",
    "Run the services of a role until SIGTERM or Ctrl-C.",
    add_arguments,
    execute,
)
