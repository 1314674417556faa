"""Limit: the disk alone, written to as PostgreSQL writes its log. python -m benchmarks.disk FOLDER.

A request comes each millisecond and is answered by the next write that is synced. Nothing else
happens, so what these requests wait for is what the disk makes everyone wait for. Prints JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

SECONDS = 2.0
# What a batch of bookings writes, and how often, at half the rate.
BYTES = 20 * 1024
PAUSE_SECONDS = 0.002
# PostgreSQL's files of log, too, are written over and over.
FILE_BYTES = 64 * 1024 * 1024


def waits(file: int) -> list[float]:
    """Return how long each request waited, in seconds."""
    found: list[float] = []
    start = due = time.perf_counter()
    place = 0
    while due < start + SECONDS:
        began = time.perf_counter()
        os.pwrite(file, b"x" * BYTES, place % FILE_BYTES)
        os.fdatasync(file)
        place += BYTES
        ended = time.perf_counter()
        while due <= began:
            found.append(ended - due)
            due += 0.001
        time.sleep(PAUSE_SECONDS)
    return found


def main() -> None:
    """Write, and print the 99th percentile and the longest wait."""
    file = os.open(Path(sys.argv[1]) / "log", os.O_CREAT | os.O_RDWR)
    os.pwrite(file, bytes(FILE_BYTES), 0)
    os.fsync(file)
    found = sorted(1000 * wait for wait in waits(file))
    print(json.dumps({"p99_ms": found[len(found) * 99 // 100], "longest_ms": found[-1]}))


if __name__ == "__main__":
    main()
