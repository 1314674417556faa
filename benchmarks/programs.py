"""Programs that run to their end and print what they found."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.process.environment import clean_environment

ROOT = Path(__file__).parents[1]


class BenchFailed(Exception):
    """Something under measurement did not do what it was started for."""


def run(command: Sequence[str], settings: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment({"PYTHONPATH": str(ROOT), **(settings or {})}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchFailed(f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout
