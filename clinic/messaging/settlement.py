"""What becomes of a message that was tried: the whole retry policy."""

from dataclasses import dataclass

from clinic.messaging.broker import LONGEST_REASON, MOST_DEATHS, Delivery
from clinic.messaging.message import Unreadable


@dataclass(frozen=True, slots=True)
class Ending:
    """How a message ended: solved, or set aside for a ``reason``, under a ``key`` of the broker."""

    key: str = ""
    reason: str = ""


SOLVED = Ending()


async def settle(delivery: Delivery, failure: Exception | None, death_limit: int) -> Ending | None:
    """Bring a delivery to its end; return that of its message, or None if it comes back.

    Handled: solved. Unreadable: not solved, since no further try can help. Failed: retry, until the
    message has died ``death_limit`` times; its next failure makes it not solved. An outage is not a
    failure of the message and never comes here: such a delivery goes back unsettled.
    """
    match failure:
        case None:
            await delivery.solved()
            return SOLVED
        case Unreadable():
            reason = f"unreadable: {failure}"
        case _ if delivery.deaths >= death_limit:
            # Only its type: the message of an unknown exception may quote a patient's name.
            kind = type(failure).__name__
            times = f"{delivery.deaths + 1} times"
            if delivery.deaths >= MOST_DEATHS:
                times = "an unknown number of times (no broker wrote its header x-death)"
            reason = f"failed {times}, at last with {kind}"
        case _:
            await delivery.retry()
            return None
    return Ending(await delivery.not_solved(reason), reason[:LONGEST_REASON])
