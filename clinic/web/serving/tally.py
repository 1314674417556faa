"""Tell a crowd of the same thing in one line a minute, with a count."""

import logging
import time
from collections import Counter
from enum import StrEnum

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0


class Happened(StrEnum):
    """What happens because of clients, by what the log says of it."""

    MALFORMED = "Requests refused that are no HTTP/1.1, or beyond its limits here"
    SLOW = "Connections closed whose clients did not send a request in time"
    UNTAKEN = "Connections cut whose clients did not take the answer"
    CROWDED = (
        "Requests answered 503, for too many are in hand (see who asks, or start more processes)"
    )
    MADE_ROOM = "Connections closed to make room for others, for there are as many as may be"
    NO_DESCRIPTORS = (
        "Looks at which the system had no descriptor for a connection (raise the limit of open "
        "files: ulimit -n, LimitNOFILE)"
    )


# Nothing of the clinic's is wrong, and nothing is to be done.
USUAL = frozenset({Happened.MALFORMED, Happened.SLOW})


class Tally:
    """Counts what happens. The first is told at once, more of it once a minute."""

    def __init__(self) -> None:
        self._counts: Counter[Happened] = Counter()
        self._told: dict[Happened, float] = {}

    def count(self, what: Happened) -> None:
        """Count one more."""
        self._counts[what] += 1
        self._tell(what)

    def tell(self, *, everything: bool = False) -> None:
        """Tell what has been counted and is due; call it now and then, and for everything last."""
        for what in [what for what, count in self._counts.items() if count]:
            self._tell(what, due=everything)

    def _tell(self, what: Happened, *, due: bool = False) -> None:
        now = time.monotonic()
        if due or now - self._told.get(what, -EVERY_SECONDS) >= EVERY_SECONDS:
            level = logging.INFO if what in USUAL else logging.WARNING
            log.log(level, "%s: %d. More are told once a minute.", what, self._counts[what])
            self._counts[what] = 0
            self._told[what] = now
