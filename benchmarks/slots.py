"""Slots: no two bookings of one database ever overlap.

A slot is a number. It stands for a quarter of an hour in one of 100 rooms; ``load.lua`` counts the
same way. Each load takes a stretch of a million slots to itself.
"""

import datetime
import itertools
import json

OFFICES = 100
FIRST_TIME = datetime.datetime(2027, 1, 1)  # noqa: DTZ001 - wall-clock time
STRETCH = 1_000_000

# Times end with the year 2199: there is room for more than 500 stretches.
_stretches = itertools.count()


def next_slot() -> int:
    """Return the first slot of a stretch that nobody has."""
    return next(_stretches) % 500 * STRETCH


def body(slot: int) -> bytes:
    """Return the booking of a slot."""
    time = FIRST_TIME + slot // OFFICES * datetime.timedelta(minutes=15)
    booking = {
        "patient_name": "Иван Иванов",
        "office_number": f"room {slot % OFFICES}",
        "date_time": time.isoformat(),
    }
    return json.dumps(booking, ensure_ascii=False).encode()
