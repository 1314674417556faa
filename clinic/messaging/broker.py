"""What every broker promises; ``tests/messaging/test_broker.py`` restates it promise by promise.

A broker has three queues. Messages are published to *main*. A delivery that failed goes to the
*dead letter* queue, which gives it back to main after the TTL. A message that nobody should try
again is put into *not solved*, where it stays until a person acts.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from clinic.messaging.message import Message
from clinic.supervisor import Unavailable

# A reason is for a person to read; a longer one is cut.
LONGEST_REASON = 500
# More than any limit of deaths.
MOST_DEATHS = 1_000_000


class BrokerUnavailable(Unavailable):
    """The broker is away, or no longer answers.

    After a publish that fails with this, the broker may have stored any of the messages or none:
    publish them again.
    Deliveries that were not settled come back by themselves.
    """


class Delivery(Protocol):
    """One try at one message, to be settled by exactly one of its three verbs.

    A verb takes effect at the latest when its session next receives or ends. If the process dies
    before it has, the message comes back without a further death.
    """

    @property
    def message(self) -> Message:
        """What was published, unchanged."""

    @property
    def deaths(self) -> int:
        """How many earlier deliveries of this message failed (were settled by ``retry``).

        ``MOST_DEATHS`` if the publisher has put something else in place of that count.
        """

    async def solved(self) -> None:
        """End the message: it is never delivered again."""

    async def retry(self) -> None:
        """Count a death, and deliver the message again after the TTL, not before."""

    async def not_solved(self, reason: str) -> str:
        """Set the message aside with its reason, cut to ``LONGEST_REASON``, until a person acts.

        Return the key under which ``Broker.set_aside`` finds it.
        """


Publish = Callable[[Sequence[Message]], Awaitable[set[str]]]
"""Hand messages over; return the ids of those that the broker has safely stored.

Publish the others again. An empty call checks that the session is alive. Delivery is at least once:
a message may be stored twice, never lost. Messages are delivered in about the order in which they
were published; do not rely on it.

Raises:
    BrokerUnavailable: it is not known what was stored.
"""

Receive = Callable[[], Awaitable[Sequence[Delivery]]]
"""Wait for messages and return a batch of deliveries, at least one and at most the limit.

No two live sessions hold the same message at the same time, in this process or any other.
Cancelling the wait loses nothing.

Raises:
    BrokerUnavailable: the session is over.
"""


@dataclass(frozen=True, slots=True)
class Aside:
    """A message in not solved, with the reason for which it is there; none if nobody gave one.

    ``key`` is the same in every session; messages that are alike to the last byte may share one.
    ``attempts`` is how often it was tried, where that is known.
    """

    key: str
    message: Message
    reason: str
    attempts: int | None
    tag: int
    """By which its session knows it."""


class NotSolved(Protocol):
    """A session over the messages set aside. Those that no verb takes out of it stay there.

    A verb has taken full effect when it returns. If the process or the broker dies before that, a
    message may be in both places, never in none. To take out a message that has gone is no error.

    Each of these raises ``BrokerUnavailable`` when the session is over.
    """

    async def look(self) -> Sequence[Aside]:
        """Return the next messages, the oldest first; those that a session gave back in any order.

        Each is returned once. An empty batch says that all there were have been returned; messages
        that others hold at this moment are not among them.
        """

    async def replay(self, messages: Sequence[Aside]) -> None:
        """Send messages round again: they go to main, as if they had never died."""

    async def discard(self, messages: Sequence[Aside]) -> None:
        """Take messages out for good."""

    async def restore(self, messages: Sequence[tuple[Message, str]]) -> Sequence[str]:
        """Set messages aside again, each with its reason; return the key of each, in order."""

    async def count(self) -> int:
        """Return how many messages are there that no session has been given."""


class Broker(Protocol):
    """Carries messages from publishers to consumers, and survives the death of any process."""

    def publishing(self) -> AbstractAsyncContextManager[Publish]:
        """Open a session for publishing.

        Raises:
            BrokerUnavailable: the broker cannot be reached now.
        """

    def consuming(self, limit: int) -> AbstractAsyncContextManager[Receive]:
        """Open a session for receiving batches of at most ``limit``.

        When the session ends, its unsettled deliveries go back at once, without a death. When the
        process dies they go back by themselves, too.

        Raises:
            BrokerUnavailable: the broker cannot be reached now.
        """

    def set_aside(self) -> AbstractAsyncContextManager[NotSolved]:
        """Open a session over the messages in not solved.

        When it ends, the messages that are left stay as they are, for everyone to see again. Until
        then no other session may see those that it has returned.

        Raises:
            BrokerUnavailable: the broker cannot be reached now.
        """
