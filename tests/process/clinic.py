"""The real process: started, asked over HTTP, signalled, killed."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.process.described import CheckedClient
from tests.process.environment import clean_environment
from tests.servers import free_port
from tests.timing import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]


class ClinicProcess:
    """One ``python clinic.py`` in a folder of its own, its settings given by environment.

    ``under`` is a command that starts it in turn; ``source`` is where the clinic's code is, and
    ``program`` what is started instead of its door.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        port: int | None = None,
        under: Sequence[str] = (),
        source: Path = ROOT,
        program: Sequence[str | Path] = (),
        **environment: object,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = (folder / f"log-{self.port}-{time.monotonic_ns()}.txt").open("w+")
        self.process = subprocess.Popen(
            [
                *under,
                *(program or (sys.executable, source / "clinic.py")),
                "--port",
                str(self.port),
                *arguments,
            ],
            cwd=folder,
            env=clean_environment(environment),
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.http = CheckedClient(base_url=self.url, timeout=PATIENCE_SECONDS)

    @property
    def log(self) -> str:
        """What the process has printed so far."""
        self._log.seek(0)
        return self._log.read()

    @property
    def peak_mib(self) -> int:
        """The most memory that the process has had at a time."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024

    def until_ready(self) -> "ClinicProcess":
        """Wait until the process says that it is ready."""

        def ready() -> bool:
            assert self.process.poll() is None, self.log
            with contextlib.suppress(httpx.TransportError):
                return self.http.get("/health/ready").status_code == 200
            return False

        until(ready)
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, and to no other."""
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the process to end and return its exit status."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """Ask the process to stop and return its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End the process as a power cut would."""
        self.signal(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        """Leave nothing of the process behind."""
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def book(self, number: int = 1, /, **fields: object) -> httpx.Response:
        """Book an appointment; different numbers never overlap."""
        body = {
            "patient_name": "Иван Иванов",
            "office_number": f"office {number}",
            "date_time": "2027-12-01T15:30:00",
            **fields,
        }
        return self.http.post("/appointment", json=body)

    def totals(self) -> dict[str, int]:
        """Return what analytics has counted: bookings, and whatever else happened."""
        totals: dict[str, int] = self.http.get("/analytics").json()["totals"]
        return {kind: count for kind, count in totals.items() if count or kind == "booked"}


def until(condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


@contextlib.contextmanager
def running(
    folder: Path,
    *arguments: str,
    port: int | None = None,
    under: Sequence[str] = (),
    program: Sequence[str | Path] = (),
    **environment: Any,
) -> Iterator[ClinicProcess]:
    """Run a clinic that is ready, and leave nothing of it behind."""
    clinic = ClinicProcess(
        folder, *arguments, port=port, under=under, program=program, **environment
    )
    try:
        yield clinic.until_ready()
    finally:
        clinic.close()
