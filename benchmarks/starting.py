"""Rows about the start, and about the generator itself."""

import contextlib
import sys
import time
from collections.abc import Iterator

from benchmarks.load import most, settle_down, steady
from benchmarks.programs import run
from benchmarks.rounds import interleaved, middle, ratio
from benchmarks.servers import Bench, Program, free_port
from benchmarks.table import Line, at_most, per_second

# What any clinic on these libraries has to import before it can serve from SQLite.
LIBRARIES = "aiosqlite, anyio, databases, pydantic, starlette, uvicorn, uvloop, yoyo"


def start(bench: Bench) -> Iterator[Line]:
    """``python clinic.py`` with nothing configured: from the command to ready; idle memory."""
    # The first start of all writes Python's compiled files.
    with bench.clinic():
        pass

    def turn() -> tuple[float, float]:
        began = time.perf_counter()
        with bench.clinic() as clinic:
            took = time.perf_counter() - began
            settle_down(2)
            return took, clinic.memory_kib() / 1024

    def libraries() -> float:
        began = time.perf_counter()
        run([sys.executable, "-c", f"import {LIBRARIES}"])
        return time.perf_counter() - began

    found = interleaved({"ours": turn, "libraries": lambda: (libraries(), 0.0)})
    took, memory = zip(*found["ours"], strict=True)
    bare = [seconds for seconds, _ in found["libraries"]]
    yield Line(
        "`python clinic.py` to ready, embedded; idle memory",
        f"{middle(took):.2f} s; {middle(memory):.0f} MiB",
        limit=f"Python with the libraries {middle(bare):.2f} s",
        demands=[
            at_most(ratio(took, bare), 2, "x Python with the libraries"),
            at_most(middle(memory), 90, "MiB"),
        ],
    )


def generator(bench: Bench) -> Iterator[Line]:
    """The load generators against a bare responder: neither is what holds the others up."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        bare = stack.enter_context(bench.program("-m", "benchmarks.static", str(port), port=port))
        bare.until_answers("/")
        echo = stack.enter_context(bench.echo())

        def fastest(program: Program) -> tuple[float, float]:
            load = most(program.url, 32, 2)
            return load.rate, load.generator_share

        found = interleaved({"bare": lambda: fastest(bare), "echo": lambda: fastest(echo)})
        constant = steady(bare.url, 4000, 2)
    bare_rates, echo_rates = ([rate for rate, _ in found[name]] for name in ("bare", "echo"))
    share = middle([share for _, share in found["echo"]])
    yield Line(
        "the generators, checked",
        f"wrk takes {share:.0%} of one core while echo is at its limit; the constant rate "
        f"{constant.generator_share:.0%} at 4,000/s, its own median {constant.p50_ms:.2f} ms",
        limit=f"bare responder {per_second(middle(bare_rates))}, "
        f"{ratio(bare_rates, echo_rates):.1f} x echo",
    )
