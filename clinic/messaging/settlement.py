"""What becomes of a message that was tried: the whole retry policy."""

from clinic.messaging.broker import MOST_DEATHS, Delivery
from clinic.messaging.message import Unreadable


async def settle(delivery: Delivery, failure: Exception | None, death_limit: int) -> bool:
    """Bring a delivery to its end; return whether that is the end of its message, too.

    Handled: solved. Unreadable: not solved, since no further try can help. Failed: retry, until the
    message has died ``death_limit`` times; its next failure makes it not solved. An outage is not a
    failure of the message and never comes here: such a delivery goes back unsettled.
    """
    match failure:
        case None:
            await delivery.solved()
        case Unreadable():
            await delivery.not_solved(f"unreadable: {failure}")
        case _ if delivery.deaths >= death_limit:
            # Only its type: the message of an unknown exception may quote a patient's name.
            kind = type(failure).__name__
            times = f"{delivery.deaths + 1} times"
            if delivery.deaths >= MOST_DEATHS:
                times = "an unknown number of times (no broker wrote its header x-death)"
            await delivery.not_solved(f"failed {times}, at last with {kind}")
        case _:
            await delivery.retry()
            return False
    return True
