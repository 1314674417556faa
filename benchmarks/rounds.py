"""Interleaved rounds: whatever else the machine does meets all sides alike."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Self, TypeVar

T = TypeVar("T")

ROUNDS = 3


def interleaved(sides: Mapping[str, Callable[[], T]], rounds: int = ROUNDS) -> dict[str, list[T]]:
    """Measure each side once a round, every second round in the opposite order."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in order:
            found[name].append(sides[name]())
    return found


class Ratio(float):
    """The median of the ratios of several rounds, and how far these lie apart.

    ``machine`` is what of it is the day's machine: how far the figures of the other side lie apart,
    as a part of their median. It is the same program in each round, so nothing else tells its
    rounds from one another.
    """

    least: float
    most: float
    machine: float

    def __new__(cls, ours: Sequence[float], others: Sequence[float]) -> Self:
        """Make it of the figures of each round."""
        rounds = [our / other for our, other in zip(ours, others, strict=True)]
        made = super().__new__(cls, statistics.median(rounds))
        made.least, made.most = min(rounds), max(rounds)
        made.machine = (max(others) - min(others)) / statistics.median(others)
        return made


def ratio(ours: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return the median of the rounds' own ratios: each compares what was measured side by side."""
    return Ratio(ours, others)


middle = statistics.median
