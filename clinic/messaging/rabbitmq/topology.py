"""Queues and exchanges on a RabbitMQ server, their arguments, and what headers tell.

All of it is pure; the other modules of ``rabbitmq`` talk to the server.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from clinic.messaging.broker import MOST_DEATHS

# How often a message may be given back (by a drain, by a crash): more than happens to any message,
# and more than DEATH_LIMIT can be. By default RabbitMQ 4 drops a message after 20.
DELIVERY_LIMIT = 1_000_000

# Why a message that failed leaves the main queue.
FAILED = frozenset({"rejected", "delivery_limit"})


class QueueType(StrEnum):
    """How RabbitMQ keeps the queues."""

    QUORUM = "quorum"
    """Replicated, and dead-lettered without loss."""
    CLASSIC = "classic"
    """Declared just as the older project does, to take over its queues as they are."""


@dataclass(frozen=True)
class Topology:
    """The queues and exchanges of the contract: their names, and how they are declared."""

    main: str
    main_exchange: str
    dead_letter: str
    dead_letter_exchange: str
    not_solved: str
    ttl_ms: int
    queue_type: QueueType

    def arguments(self) -> dict[str, dict[str, Any]]:
        """Return the arguments with which each queue is declared, by the queue's name."""
        if self.queue_type is QueueType.CLASSIC:
            return {
                self.main: {"x-dead-letter-exchange": self.dead_letter_exchange},
                self.dead_letter: {
                    "x-message-ttl": self.ttl_ms,
                    "x-dead-letter-exchange": self.main_exchange,
                    # Means nothing to RabbitMQ, but the older project declares it.
                    "x-dead-letter-queue": self.main,
                },
                self.not_solved: {},
            }
        quorum = {"x-queue-type": "quorum"}
        # Without both of these a broker that crashes loses messages on their way between the
        # queues: 177 to 2,659 of 4,000 (docs/libraries.md).
        kept = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
        limit = {"x-delivery-limit": DELIVERY_LIMIT}
        return {
            self.main: quorum
            | limit
            | kept
            | {"x-dead-letter-exchange": self.dead_letter_exchange},
            self.dead_letter: quorum
            | kept
            | {"x-message-ttl": self.ttl_ms, "x-dead-letter-exchange": self.main_exchange},
            self.not_solved: quorum | limit,
        }

    def deaths(self, headers: Mapping[str, Any] | None) -> int:
        """Return how often a message failed, from the ``x-death`` header that brokers keep.

        It is a list with one entry for each queue and reason, whose ``count`` goes up; 3.10 and 4.x
        write it alike. A publisher may have put anything there. A header that no broker writes
        counts as ``MOST_DEATHS``, so that the message is never rejected: a queue of RabbitMQ 3.10
        crashes when it cannot add 1 to a count, and loses the message.
        """
        if "x-death" not in (headers or {}):
            return 0
        entries = (headers or {})["x-death"]
        if not isinstance(entries, list) or not all(map(self._believable, entries)):
            return MOST_DEATHS
        died: int = sum(entry["count"] for entry in entries if entry["queue"] == self.main)
        return min(died, MOST_DEATHS)

    def _believable(self, entry: object) -> bool:
        """Return whether a broker may have written an entry of ``x-death``."""
        if not isinstance(entry, dict):
            return False
        queue, reason, count = (entry.get(name) for name in ("queue", "reason", "count"))
        return (
            isinstance(queue, str)
            and isinstance(reason, str)
            and type(count) is int  # True is an int, too
            and 0 < count <= MOST_DEATHS
            # RabbitMQ drops a message that goes round without being rejected, so a message that
            # left main for any other reason never comes back (https://www.rabbitmq.com/docs/dlx).
            and (queue != self.main or reason in FAILED)
        )


def explain_misfit(error: str) -> str:
    """Return in one sentence why a queue could not be declared, and the ways out."""
    found = re.search(
        r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>\w+) '(?P<name>[^']+)' in vhost "
        r"'[^']*': received (?P<wanted>.+?) but current is (?P<stands>[^\"]+)",
        error,
    )
    if not found:
        return "RabbitMQ has queues or exchanges that differ from what the clinic declares"
    return (
        f"RabbitMQ has the {found['kind']} {found['name']} with another {found['argument']}: "
        f"{found['stands'].strip()}, but the clinic wants {found['wanted']}. Change the clinic's "
        "setting to RabbitMQ's value (CLINIC_QUEUE_TYPE=classic takes over the queues of the older "
        f"project), or choose another name, or delete the {found['kind']} once it is empty"
    )


def explain_refusal(error: str) -> str:
    """Return in one sentence which permission a user lacks, from what RabbitMQ says of it."""
    found = re.search(
        r"access to (?P<kind>queue|exchange|topic) '(?P<name>[^']*)' in (?:exchange|vhost) "
        r"'[^']*'.* refused for user '(?P<user>[^']*)'",
        error,
    )
    if not found:
        return "its user lacks a permission (rabbitmqctl set_permissions)"
    # A queue is read by its consumers; what is published goes through an exchange, even the
    # default one, amq.default: https://www.rabbitmq.com/docs/access-control#authorisation
    permission = "read" if found["kind"] == "queue" else "write"
    return (
        f"the user {found['user']} lacks the permission {permission} for the {found['kind']} "
        f"{found['name']} (rabbitmqctl set_permissions)"
    )
