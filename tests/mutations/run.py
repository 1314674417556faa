"""Plant mutants of the core in copies of the house, one at a time, and see whether tests fail.

Neither mutmut nor cosmic-ray changes what SQL says, and half of the core's rules stand there.
"""

import argparse
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.mutations.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
BOOK = "tests/appointments"
# The files of the core, each with the tests that should notice: those that fail soon come first.
CORE = {
    "clinic/appointments/booking.py": (f"{BOOK}/test_booking.py", f"{BOOK}/test_lives.py"),
    "clinic/appointments/queries.py": (
        *(f"{BOOK}/test_booking.py", f"{BOOK}/test_list.py", f"{BOOK}/test_changes.py"),
        *(f"{BOOK}/test_availability.py", f"{BOOK}/test_feed.py", f"{BOOK}/test_lives.py"),
    ),
    "clinic/appointments/conflicts.py": (
        *(f"{BOOK}/test_availability.py", f"{BOOK}/test_booking.py", f"{BOOK}/test_lives.py"),
    ),
    "clinic/appointments/idempotency.py": (
        *(f"{BOOK}/test_booking.py", f"{BOOK}/test_routes.py", f"{BOOK}/test_lives.py"),
        "tests/database/test_postgresql.py",
    ),
    "clinic/messaging/outbox.py": (
        *("tests/messaging/test_outbox.py", "tests/messaging/test_relay.py"),
        "tests/database/test_postgresql.py",
    ),
    "clinic/messaging/settlement.py": (
        *("tests/messaging/test_settlement.py", "tests/messaging/test_consumer.py"),
    ),
    "clinic/messaging/consumer.py": (
        *("tests/messaging/test_consumer.py", "tests/messaging/test_settlement.py"),
    ),
    "clinic/analytics/recorded.py": ("tests/analytics", "tests/messaging/test_consumer.py"),
    "clinic/analytics/recording.py": ("tests/analytics", "tests/messaging/test_consumer.py"),
    "clinic/analytics/counts.py": ("tests/analytics",),
    "clinic/analytics/hours.py": ("tests/analytics",),
    "clinic/registry/memory.py": ("tests/registry", f"{BOOK}/test_booking.py"),
    "migrations/sqlite/0002.clinic.sql": (
        *(f"{BOOK}/test_schema.py", f"{BOOK}/test_booking.py", f"{BOOK}/test_lives.py"),
    ),
    "migrations/postgresql/0002.clinic.sql": (
        *(f"{BOOK}/test_schema.py", f"{BOOK}/test_booking.py", f"{BOOK}/test_lives.py"),
    ),
}
# RabbitMQ takes seconds to start, and what is tried here knows nothing of it.
WITHOUT_RABBIT = "not quorum and not classic and not rabbit"
# What a mutant that never ends may take beyond three times what the tests take without it.
MORE_SECONDS = 30.0


class House:
    """A copy of the house, to plant mutants in."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "house"
        self._temporary = folder / "tmp"
        self._temporary.mkdir(parents=True)
        ignored = shutil.ignore_patterns(".*", "__pycache__", "node_modules")
        shutil.copytree(ROOT, self._root, ignore=ignored)
        for name in (".env.example", ".dockerignore", ".gitignore"):
            shutil.copy(ROOT / name, self._root)

    def notices(self, mutant: Mutant, source: str, limit_seconds: float) -> bool:
        """Tell whether the tests fail, or do not end, with a mutant."""
        path = self._root / mutant.file
        path.write_text(mutant.plant(source))
        try:
            return not self.passes(mutant.file, limit_seconds)
        finally:
            path.write_text(source)

    def passes(self, file: str, limit_seconds: float) -> bool:
        """Tell whether the tests of a file pass."""
        # Python takes what it compiled for up to date if size and second of the source agree.
        for compiled in self._root.rglob("*.pyc"):
            compiled.unlink(missing_ok=True)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
                *("-k", WITHOUT_RABBIT, *CORE[file]),
            ],
            cwd=self._root,
            env=os.environ | {"TMPDIR": str(self._temporary), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(limit_seconds) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Trial:
    """Mutants that are tried one after the other, in several houses, until the time is over."""

    def __init__(self, chosen: list[Mutant], minutes: float) -> None:
        self._waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
        for mutant in chosen:
            self._waiting.put(mutant)
        self._deadline = time.monotonic() + minutes * 60
        self._sources = {file: (ROOT / file).read_text() for file in {one.file for one in chosen}}
        self._limits: dict[str, float] = {}
        self._limiting = threading.Lock()
        self.tried: Counter[str] = Counter()
        self.survivors: list[Mutant] = []
        self.failing: list[str] = []
        """Files whose tests fail without any mutant."""

    def run(self, house: House) -> None:
        """Try mutants in a house until there are no more, or no more time."""
        while time.monotonic() < self._deadline:
            try:
                mutant = self._waiting.get_nowait()
            except queue.Empty:
                return
            limit = self._limit(house, mutant.file)
            if mutant.file in self.failing:
                continue
            noticed = house.notices(mutant, self._sources[mutant.file], limit)
            self.tried[mutant.file] += 1
            if not noticed:
                self.survivors.append(mutant)
            print("." if noticed else "S", end="", flush=True)

    def _limit(self, house: House, file: str) -> float:
        with self._limiting:
            if file not in self._limits:
                began = time.monotonic()
                if not house.passes(file, 1200):
                    self.failing.append(file)
                self._limits[file] = 3 * (time.monotonic() - began) + MORE_SECONDS
            return self._limits[file]


def explained() -> dict[tuple[str, str, str], str]:
    """Return why no test can or need notice a mutant, by its file and what was and is said."""
    found = tomllib.loads(Path(__file__).with_name("explained.toml").read_text())
    return {(one["file"], one["was"], one["now"]): one["why"] for one in found["mutant"]}


def keys(file: str) -> Iterator[tuple[str, str, str]]:
    """Yield what names each mutant of a file."""
    source = (ROOT / file).read_text()
    for mutant in mutants(file, source):
        yield file, *mutant.told(source)


def main() -> int:
    """Try mutants, tell of those that no test has noticed, and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=main.__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help="of the core; all, if none is")
    parser.add_argument("--minutes", type=float, default=30, help="start none after that (30)")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which they come (1)")
    parser.add_argument("--houses", type=int, default=os.cpu_count(), help="side by side")
    chosen = parser.parse_args()
    files: list[str] = chosen.files or list(CORE)
    if unknown := [file for file in files if file not in CORE]:
        parser.error(f"{unknown[0]} is not of the core: {', '.join(CORE)}")
    found = [one for file in files for one in mutants(file, (ROOT / file).read_text())]
    random.Random(chosen.seed).shuffle(found)
    reasons = explained()
    trial = Trial([one for one in found if key(one) not in reasons], chosen.minutes)
    roomy = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="clinic-mutants-", dir=roomy) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user than root
        houses = [House(Path(folder) / str(number)) for number in range(chosen.houses)]
        threads = [threading.Thread(target=trial.run, args=[house]) for house in houses]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for one in sorted(trial.survivors, key=lambda one: (one.file, one.start)):
        _, was, now = key(one)
        line = one.line((ROOT / one.file).read_text())
        print(f"\n{one.file}:{line} survived\n  was: {was}\n  now: {now}", end="")
    print()
    for file in files:
        print(f"{file}: {trial.tried[file]} of {sum(one.file == file for one in found)} tried")
    tried, survived = trial.tried.total(), len(trial.survivors)
    print(f"{tried} tried, {survived} survived, {len(reasons)} are explained")
    for file in trial.failing:
        print(f"The tests of {file} fail without any mutant, so none of its were tried.")
    return 1 if survived or trial.failing or not tried else 0


def key(mutant: Mutant) -> tuple[str, str, str]:
    """Return what names a mutant, wherever its line is."""
    return mutant.file, *mutant.told((ROOT / mutant.file).read_text())


if __name__ == "__main__":
    sys.exit(main())
