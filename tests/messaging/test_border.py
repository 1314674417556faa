"""Whatever a server does, or answers in its place: ``BrokerUnavailable`` and nothing else."""

import asyncio
import gc
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest
from pamqp import commands
from pamqp.base import Frame
from pamqp.frame import marshal

from clinic.messaging.broker import BrokerUnavailable
from clinic.messaging.message import Message
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.messaging.rabbitmq.connection import FAREWELL_SECONDS, STEP_SECONDS
from clinic.messaging.rabbitmq.publishing import PUBLISH_SECONDS, DoesNotFit
from clinic.messaging.rabbitmq.topology import QueueType
from tests.messaging.brokers import message, through_proxy, topology
from tests.messaging.pretender import START, Misbehave, pretending
from tests.servers import FaultyProxy
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

# When its connection has been cut, aiormq goes on for some turns of the event loop.
LAST_WORDS_SECONDS = 1.0
# How long a server may keep us waiting: for a step, a confirmation, and both farewells.
WAITING_SECONDS = STEP_SECONDS + PUBLISH_SECONDS + 2 * FAREWELL_SECONDS


def broker(url: str) -> RabbitBroker:
    return RabbitBroker(url, topology(QueueType.QUORUM))


async def publish(url: str) -> None:
    async with broker(url).publishing() as hand_over:
        await hand_over([message(1)])
        await hand_over([message(2)])


async def consume(url: str) -> None:
    async with broker(url).consuming(1) as receive:
        (delivery,) = await receive()
        await delivery.solved()


@dataclass(frozen=True)
class Session:
    """A session, and how many frames a server sends in it before its farewell, and in that."""

    run: Callable[[str], Awaitable[None]]
    needed: int
    farewell: int

    @property
    def frames(self) -> int:
        return self.needed + self.farewell


SESSIONS = [
    pytest.param(Session(publish, 16, 1), id="publishing"),
    pytest.param(Session(consume, 24, 3), id="consuming"),
]


def close(writer: asyncio.StreamWriter, _number: int) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter, _number: int) -> None:
    writer.transport.abort()


def say_and_close(words: bytes) -> Misbehave:
    def say(writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(words)
        writer.close()

    return say


def say(words: bytes) -> Misbehave:
    return lambda writer, _number: writer.write(words)


def answer(frame: Frame) -> Misbehave:
    return lambda writer, number: writer.write(marshal(frame, number))


FORCED = commands.Connection.Close(320, "CONNECTION_FORCED - test", 0, 0)
ENDS: dict[str, Misbehave] = {
    "closes, as a proxy with no server behind it": close,
    "resets": reset,
    "is a web server": say_and_close(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "sends zeros": say_and_close(bytes(64)),
    "sends ones": say_and_close(b"\xff" * 64),
    "sends noise": say_and_close(random.Random(7).randbytes(4096)),
    "speaks another version": say_and_close(b"AMQP\x00\x01\x00\x00"),
    "calls a method that is none": say_and_close(
        b"\x01\x00\x01\x00\x00\x00\x04\x00\x0a\xff\xff\xce"
    ),
    "sends a method without arguments": say_and_close(
        b"\x01\x00\x01\x00\x00\x00\x04\x00\x0a\x00\x0a\xce"
    ),
    "ends no frame": say_and_close(b"\x01\x00\x01\x00\x00\x00\x04\x00\x0a\x00\x33\x00"),
    "closes in order": say_and_close(marshal(FORCED, 0)),
    "closes the connection and stays": say(marshal(FORCED, 0)),
}
STAYS: dict[str, Misbehave] = {
    "falls silent": say(b""),
    "stops in a frame": say(b"\x01\x00\x01\x00\x00\x10\x00"),
    "announces what never comes": say(b"\xff" * 64),
    "answers something else": answer(commands.Basic.QosOk()),
    "begins again": answer(START),
    "closes the channel": answer(commands.Channel.Close(541, "INTERNAL_ERROR - test", 0, 0)),
    "finds nothing": answer(commands.Channel.Close(404, "NOT_FOUND - test", 0, 0)),
    "takes the channel for closed": answer(commands.Channel.CloseOk()),
    "takes the connection for closed": answer(commands.Connection.CloseOk()),
}


@asynccontextmanager
async def nothing_left(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fail if the body leaves a task, a word in the log, or an exception that nobody looked at."""
    before = asyncio.all_tasks()
    yield
    with anyio.fail_after(LAST_WORDS_SECONDS):
        while asyncio.all_tasks() - before:
            await anyio.sleep(0.01)
    gc.collect()
    await asyncio.sleep(0)
    # cli.MUTE keeps aiormq's own words out of the log.
    words = [record for record in caplog.records if not record.name.startswith("aiormq")]
    assert not [record for record in words if record.levelno >= logging.WARNING]


async def outcomes(
    session: Session, misbehave: Misbehave, *, at_once: bool
) -> list[BrokerUnavailable | None]:
    """Run a session for each frame after which a server may misbehave, all side by side.

    Return of each what it said of the server; nothing if all but the farewell went well.
    """
    found: list[BrokerUnavailable | None] = [None] * session.frames

    async def run(patience: int) -> None:
        async with pretending(patience, misbehave, at_once=at_once) as server:
            try:
                await session.run(server.url)
            except BrokerUnavailable as error:
                found[patience] = error

    async with anyio.create_task_group() as tasks:
        for patience in range(session.frames):
            tasks.start_soon(run, patience)
    return found


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("session", SESSIONS)
async def test_a_server_that_ends_the_connection_after_any_frame_is_away(
    caplog: pytest.LogCaptureFixture, session: Session, how: str, *, at_once: bool
) -> None:
    async with nothing_left(caplog):
        found = await outcomes(session, ENDS[how], at_once=at_once)
    needed, farewell = found[: session.needed], found[session.needed :]
    assert None not in needed
    assert farewell[at_once:] == [None] * len(farewell[at_once:])  # or which end comes first
    # The end was noticed at once, not at a deadline.
    assert not [error for error in found if error is not None and is_late(error)]


def is_late(error: BrokerUnavailable) -> bool:
    """Tell whether the error was raised only when a deadline had passed."""
    return isinstance(error.__cause__, TimeoutError) or "did not confirm" in str(error)


@pytest.mark.long  # each waits for the deadlines, and so takes nine seconds
@pytest.mark.parametrize("how", STAYS)
@pytest.mark.parametrize("session", SESSIONS)
async def test_a_server_that_stays_and_makes_no_sense_is_away(
    caplog: pytest.LogCaptureFixture, session: Session, how: str
) -> None:
    began = time.monotonic()
    async with nothing_left(caplog):
        with anyio.fail_after(PATIENCE_SECONDS):
            found = await outcomes(session, STAYS[how], at_once=False)
    assert None not in found[: session.needed]
    assert time.monotonic() - began < WAITING_SECONDS + SLACK_SECONDS


@pytest.mark.parametrize("session", SESSIONS)
async def test_the_sessions_that_are_broken_here_are_whole_ones(
    caplog: pytest.LogCaptureFixture, session: Session
) -> None:
    async with nothing_left(caplog), pretending(1000, close) as server:
        await session.run(server.url)
    assert server.sent == session.frames


async def test_a_stream_that_is_cut_after_any_byte_is_an_outage(
    vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Cutting after each byte would take minutes, so it is each seventh, from a random one on."""
    async with nothing_left(caplog):
        with through_proxy(vhost) as (url, proxy):
            for count in range(random.randrange(1, 8), 1_000_000, 7):
                proxy.mode("limit_data", count, "to_client")
                try:
                    await publish(url)
                except BrokerUnavailable:
                    continue
                break
        assert count > 500


@pytest.mark.parametrize("kind", ["amqp", "amqps"])
async def test_a_port_on_which_nobody_listens_is_named(kind: str) -> None:
    with FaultyProxy(1) as proxy:
        proxy.mode("down")
        server = f"127.0.0.1:{proxy.port}"
        with pytest.raises(
            BrokerUnavailable, match=f"cannot be reached at {server}: Conn.* refused"
        ):
            await publish(f"{kind}://guest:guest@{server}/")


@pytest.mark.parametrize("patience", [0, 1])
async def test_a_server_without_tls_is_away_for_a_client_with_tls(
    caplog: pytest.LogCaptureFixture, patience: int
) -> None:
    async with nothing_left(caplog), pretending(patience, close) as server:
        url = server.url.replace("amqp:", "amqps:")
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            await publish(url)


async def test_a_bug_of_ours_is_no_outage() -> None:
    async with pretending(1000, close) as server, broker(server.url).publishing() as hand_over:
        with pytest.raises(AttributeError):
            await hand_over([Message("id", "type", "subject", None)])  # type: ignore[arg-type]
        assert await hand_over([message(1)]) == {"id-1"}


@pytest.mark.parametrize(
    "misfit",
    [
        Message("i" * 256, "type", "subject", "{}"),
        Message("id", "t" * 256, "subject", "{}"),
        Message("id", "type", "s" * 131_072, "{}"),
        Message("\ud800", "type", "subject", "{}"),
    ],
)
async def test_a_message_that_does_not_fit_is_not_sent_and_the_session_goes_on(
    misfit: Message,
) -> None:
    async with pretending(1000, close) as server, broker(server.url).publishing() as hand_over:
        sent = server.sent
        with pytest.raises(DoesNotFit):
            await hand_over([misfit])
        assert server.sent == sent
        assert await hand_over([message(1)]) == {"id-1"}
