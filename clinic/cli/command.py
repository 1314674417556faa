"""What a command is."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

# What a command returns: it did what was asked for; it did not, or found what should not be; the
# command line or a setting has to be corrected.
DONE, FAILED, USAGE = 0, 1, 2


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    ``help`` is half a line among the other commands, ``description`` all that its own help says.
    ``execute`` returns the exit status, and raises errors that a person has to correct.
    """

    name: str
    help: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace], int]
