"""Log many occurrences of the same thing as one line a minute, with a count."""

import logging
import time
from collections import Counter
from enum import StrEnum

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0


class Happened(StrEnum):
    """What clients cause; the values are the texts of the log."""

    MALFORMED = "Requests refused because they were not HTTP/1.1, or exceeded a limit"
    SLOW = "Connections closed because the client did not send a request in time"
    UNTAKEN = "Connections cut because the client did not read the answer"
    CROWDED = (
        "Requests answered 503 because too many were in hand (find out who sends them, or start "
        "more processes)"
    )
    MADE_ROOM = "Connections closed to make room for new ones, at the limit of open connections"
    NO_DESCRIPTORS = (
        "Times the system had no descriptor for a connection (raise the limit of open files: "
        "ulimit -n, LimitNOFILE)"
    )


# Only a client is at fault; nobody has to act.
USUAL = frozenset({Happened.MALFORMED, Happened.SLOW})


class Tally:
    """Counts what happens. The first occurrence is logged at once, further ones once a minute."""

    def __init__(self) -> None:
        self._counts: Counter[Happened] = Counter()
        self._told: dict[Happened, float] = {}

    def count(self, what: Happened) -> None:
        """Count one more."""
        self._counts[what] += 1
        self._tell(what)

    def tell(self, *, everything: bool = False) -> None:
        """Log the counts that are due; call it regularly, and with ``everything`` at the end."""
        for what in [what for what, count in self._counts.items() if count]:
            self._tell(what, due=everything)

    def _tell(self, what: Happened, *, due: bool = False) -> None:
        now = time.monotonic()
        if due or now - self._told.get(what, -EVERY_SECONDS) >= EVERY_SECONDS:
            level = logging.INFO if what in USUAL else logging.WARNING
            log.log(
                level, "%s: %d. Further ones are logged once a minute.", what, self._counts[what]
            )
            self._counts[what] = 0
            self._told[what] = now
