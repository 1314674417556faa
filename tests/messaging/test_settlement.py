"""``settle`` brings each delivery to one of three ends."""

from dataclasses import dataclass, field

import pytest

from clinic.messaging.broker import MOST_DEATHS
from clinic.messaging.message import Message, Unreadable
from clinic.messaging.settlement import Ending, settle

pytestmark = pytest.mark.anyio


MESSAGE = Message("id", "type", "subject", "body")


@dataclass
class Noted:
    """A delivery that notes its end; the promises are tested on real brokers in test_broker."""

    deaths: int
    message: Message = MESSAGE
    ends: list[str] = field(default_factory=list)

    async def solved(self) -> None:
        self.ends.append("solved")

    async def retry(self) -> None:
        self.ends.append("retry")

    async def not_solved(self, reason: str) -> str:
        self.ends.append(f"not solved: {reason}")
        return "a key"


UNKNOWN = "an unknown number of times (no broker wrote its header x-death)"


@pytest.mark.parametrize(
    ("failure", "deaths", "end"),
    [
        (None, 0, "solved"),
        (None, 99, "solved"),
        (ValueError("a name"), 0, "retry"),
        (ValueError("a name"), 2, "retry"),
        (ValueError("a name"), 3, "not solved: failed 4 times, at last with ValueError"),
        (ValueError("a name"), 4, "not solved: failed 5 times, at last with ValueError"),
        (
            ValueError("a name"),
            MOST_DEATHS,
            f"not solved: failed {UNKNOWN}, at last with ValueError",
        ),
        (Unreadable("no JSON"), 0, "not solved: unreadable: no JSON"),
    ],
)
async def test_settle(failure: Exception | None, deaths: int, end: str) -> None:
    delivery = Noted(deaths)
    ending = await settle(delivery, failure, death_limit=3)
    assert delivery.ends == [end]
    set_aside = end.removeprefix("not solved: ")
    endings = {"retry": None, "solved": Ending()}
    assert ending == endings.get(end, Ending("a key", set_aside))


async def test_without_a_second_chance_the_first_failure_is_the_last() -> None:
    delivery = Noted(deaths=0)
    await settle(delivery, ValueError(), death_limit=0)
    assert delivery.ends == ["not solved: failed 1 times, at last with ValueError"]
