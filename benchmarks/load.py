"""The load, always from another process: wrk for the most there is, our own for constant rates."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import ROOT, BenchFailed, run
from benchmarks.slots import next_slot

SCRIPT = Path(__file__).with_name("load.lua")
PACED_CONNECTIONS = 128


@dataclass(frozen=True)
class Load:
    """What a load met with; ``generator_share`` is the part of one core that it took itself."""

    rate: float
    p50_ms: float
    p99_ms: float
    generator_share: float = 0.0
    requests: int = 0


def most(url: str, connections: int, seconds: float, *, post: bool = True) -> Load:
    """Send one request after the other on each connection; return the rate and the times.

    Raises:
        BenchFailed: a request was not answered, or with an error.
    """
    slot = [str(next_slot())] if post else []
    before = os.times()
    load = _of(run(_wrk(url, connections, seconds, slot)))
    after = os.times()
    used = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return dataclasses.replace(load, generator_share=used / seconds)


def start_paced(
    url: str, rate: float, seconds: float, answer_ms: float = 0.0
) -> subprocess.Popen[str]:
    """Start to book at about a rate, by connections that rest at random in between.

    It takes a fifth of what a constant rate takes, and leaves the rest to what is measured. An
    answer is expected to take ``answer_ms``; if it takes longer, the rate is lower.
    """
    pause = max(1, round(1000 * PACED_CONNECTIONS / rate - answer_ms))
    command = _wrk(url, PACED_CONNECTIONS, seconds, [str(next_slot()), str(pause)])
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish_paced(process: subprocess.Popen[str]) -> Load:
    """Wait for its end and return what it met with.

    Raises:
        BenchFailed: a request was not answered, or with an error.
    """
    printed, _ = process.communicate()
    return _of(printed)


def _wrk(url: str, connections: int, seconds: float, arguments: list[str]) -> list[str]:
    # wrk has no fractions of a second; one thread suffices, and so counts slots by itself.
    how = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout=20s"]
    return ["wrk", *how, "-s", str(SCRIPT), url, "--", *arguments]


def _of(printed: str) -> Load:
    found = json.loads(printed.splitlines()[-1])
    if found["refused"] or found["broken"] or not found["requests"]:
        raise BenchFailed(f"wrk: {found}")
    rate = found["requests"] / found["seconds"]
    return Load(rate, found["p50_ms"], found["p99_ms"], requests=found["requests"])


def start_steady(url: str, rate: float, seconds: float) -> subprocess.Popen[str]:
    """Start to book at a constant rate."""
    command = [sys.executable, "-m", "benchmarks.steady", url]
    return subprocess.Popen(
        [*command, str(rate), str(seconds), str(next_slot())],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish_steady(process: subprocess.Popen[str]) -> Load:
    """Wait for a constant rate's end and return what it met with.

    Raises:
        BenchFailed: a request was not answered, or with an error.
    """
    printed, _ = process.communicate()
    if process.returncode:
        raise BenchFailed(f"steady: exit {process.returncode}")
    return Load(**json.loads(printed))


def steady(url: str, rate: float, seconds: float) -> Load:
    """Book at a constant rate, whatever the server does; times count from when each was due."""
    return finish_steady(start_steady(url, rate, seconds))


def settle_down(seconds: float = 0.3) -> None:
    """Let what was just started, or stopped, come to rest, and what it wrote reach the disk."""
    os.sync()
    time.sleep(seconds)
