"""How often somebody may ask: so many a second, with a reserve for a burst."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

# Somebody of whom nothing is known has a whole reserve. So whoever has recovered theirs is
# forgotten, and when this many are known, all are: a crowd that large has other limits.
MOST_KNOWN = 10_000


@dataclass
class Rate:
    """At most ``per_second`` requests of each on average, ``burst`` at once.

    The generic cell rate algorithm: of each it keeps one number, the time until which what they
    asked for is paid for (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm).
    """

    per_second: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _paid_until: dict[str, float] = field(default_factory=dict)

    def wait_seconds(self, who: str) -> float:
        """Count a request, and return 0; or count none, and return when there is room for it."""
        now = self.clock()
        cost = 1 / self.per_second
        paid = max(self._paid_until.get(who, now), now) + cost
        late = paid - now - self.burst * cost
        # Less than a microsecond is what floating point leaves over.
        if late > 1e-6:  # noqa: PLR2004
            return late
        if len(self._paid_until) >= MOST_KNOWN and who not in self._paid_until:
            self._forget(now)
        self._paid_until[who] = paid
        return 0.0

    def _forget(self, now: float) -> None:
        self._paid_until = {who: paid for who, paid in self._paid_until.items() if paid > now}
        if len(self._paid_until) >= MOST_KNOWN:
            self._paid_until.clear()
