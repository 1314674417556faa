"""What a consumer reads, whatever is in it, and what that relies on in pamqp and aiormq."""

import asyncio
import datetime
import struct
from typing import Any, cast

import anyio
import pytest
from aiormq.connection import FrameReceiver
from aiormq.exceptions import AMQPConnectionError, ProtocolSyntaxError
from hypothesis import given
from hypothesis import strategies as st
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Queue
from pamqp.exceptions import PAMQPException
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from clinic.messaging.message import Message
from clinic.messaging.rabbitmq.copies import LARGEST_BODY, LONGEST_SUBJECT, publishable
from clinic.messaging.rabbitmq.frames import Frames, Incoming, framed
from clinic.messaging.rabbitmq.properties import Properties, read_properties
from tests.messaging.attacked import HOSTILE
from tests.messaging.stranger import long, properties, short, table
from tests.messaging.test_broker import message
from tests.timing import SLACK_SECONDS

pytestmark = pytest.mark.anyio

CHANNEL = 7


def raw(frame: Frame | ContentHeader | ContentBody | Heartbeat) -> bytes:
    return marshal(frame, CHANNEL)


def content_header(properties: bytes, size: int = 2) -> bytes:
    return framed(2, CHANNEL, struct.pack(">HHQ", 60, 0, size) + properties)


def deliver(tag: int, exchange: bytes = b"", routing_key: bytes = b"") -> bytes:
    arguments = short(b"a consumer") + struct.pack(">QB", tag, 1)
    return framed(1, CHANNEL, b"\0\x3c\0\x3c" + arguments + short(exchange) + short(routing_key))


def fed(*pieces: bytes) -> asyncio.StreamReader:
    """Return a stream that has these bytes and ends."""
    stream = asyncio.StreamReader()
    for piece in pieces:
        stream.feed_data(piece)
    stream.feed_eof()
    return stream


def receiver(stream: asyncio.StreamReader, incoming: Incoming | None = None) -> FrameReceiver:
    """Return aiormq's reader of frames over ours."""
    return FrameReceiver(cast("asyncio.StreamReader", Frames(stream, incoming or Incoming())))


@pytest.mark.parametrize(
    "frame",
    [
        content_header(HOSTILE["time in microseconds"]),
        content_header(HOSTILE["binary correlation_id"]),
        content_header(HOSTILE["tables nested deep"]),
        deliver(1, routing_key=b"\xff"),
    ],
)
def test_pamqp_fails_over_what_a_publisher_may_send(frame: bytes) -> None:
    """If pamqp ever decodes all of this, ``Frames`` is no longer needed."""
    with pytest.raises((ValueError, RecursionError, PAMQPException)):
        unmarshal(frame)


@pytest.mark.parametrize("size", [1, 3, 1000, 2**20])
async def test_aiormq_is_given_frames_that_pamqp_understands(size: int) -> None:
    hostile = HOSTILE if size >= 1000 else {"": HOSTILE["binary correlation_id"]}
    sent = marshal(Heartbeat(), 0) + raw(Queue.BindOk())
    for tag, sealed in enumerate(hostile.values(), 2**40):
        sent += deliver(tag, b"\xff", b"\xfe" * 255) + content_header(sealed)
        sent += raw(ContentBody(b"{}"))
    incoming, stream = Incoming(), asyncio.StreamReader()
    reading = receiver(stream, incoming)

    async def feed() -> None:
        for start in range(0, len(sent), size):
            stream.feed_data(sent[start : start + size])
            await asyncio.sleep(0)

    feeding = asyncio.create_task(feed())
    frames = [(await reading.get_frame())[1:] for _ in range(2 + 3 * len(hostile))]
    await feeding
    assert [(channel, frame.name) for channel, frame in frames[:2]] == [
        (0, "Heartbeat"),
        (CHANNEL, "Queue.BindOk"),
    ]
    told: list[Any] = [frame for _, frame in frames[2:]]
    for number, sealed in enumerate(hostile.values()):
        method, header, body = told[3 * number : 3 * number + 3]
        assert isinstance(method, Basic.Deliver)
        assert (method.consumer_tag, method.redelivered) == ("a consumer", True)
        assert method.delivery_tag == 2**40 + number
        assert (header.body_size, body.value) == (2, b"{}")
        assert incoming.take_properties(2**40 + number) == sealed


@given(st.binary(max_size=300), st.integers(0, 2**16 - 1))
def test_any_bytes_may_be_read_as_properties(rest: bytes, flags: int) -> None:
    found = read_properties(struct.pack(">H", flags) + rest)
    assert isinstance(found, Properties)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(width=32)
    | st.text(max_size=20)
    | st.builds(bytearray, st.binary(max_size=20))
    | st.decimals(-1000, 1000, places=2)
    | st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2106, 1, 1))
)
TABLES = st.dictionaries(
    st.text(max_size=20).filter(lambda name: name not in {"subject", "x-death"}),
    st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3)),
    max_size=5,
)
SHORT = st.text(max_size=60)
DEATHS = st.lists(
    st.fixed_dictionaries(
        {"queue": SHORT, "reason": SHORT, "count": st.integers(-(2**63), 2**63 - 1)}
    ),
    max_size=3,
)


@given(TABLES, SHORT, SHORT, SHORT, DEATHS, st.sets(st.sampled_from(Basic.Properties.__slots__)))
def test_properties_that_pamqp_writes_are_read_alike(  # noqa: PLR0913, PLR0917
    others: dict[str, Any],
    subject: str,
    message_id: str,
    message_type: str,
    deaths: list[dict[str, Any]],
    without: set[str],
) -> None:
    everything = Basic.Properties(
        content_type="a/b",
        content_encoding="c",
        headers=others | {"subject": subject, "x-death": deaths},
        delivery_mode=2,
        priority=9,
        correlation_id="d",
        reply_to="e",
        expiration="1",
        message_id=message_id,
        timestamp=datetime.datetime(2027, 1, 1),
        message_type=message_type,
        user_id="guest",
        app_id="f",
    )
    for name in without:
        setattr(everything, name, None)
    found = read_properties(everything.marshal())
    assert found.message_id == (everything.message_id or "")
    assert found.message_type == (everything.message_type or "")
    expected = {"subject": subject, "x-death": deaths} if everything.headers else {}
    assert found.headers == expected


@pytest.mark.parametrize(
    "headers",
    [
        b"\x01aV" * 40_000 + short(b"x-death") + b"V",
        short(b"a") + b"Z" + short(b"x-death") + b"V",
        short(b"a") + b"S" + struct.pack(">I", 2**32 - 1),
        (short(b"x-death") + b"A" + long(b"")) * 2,
        short(b"x-death") + b"A" + long(b"F" + long(b"\x05countV\x05countV")),
    ],
)
def test_deaths_are_unknown_if_the_headers_have_no_end(headers: bytes) -> None:
    assert read_properties(properties(headers=long(headers))).headers["x-death"] is None


def test_deaths_are_read_as_deep_as_they_are_nested() -> None:
    entry = {
        b"count": b"l" + struct.pack(">q", 3),
        b"queue": b"S" + long(b"q"),
        b"reason": b"S" + long(b"\xff"),
        b"routing-keys": b"A" + long(b"A" + long(b"V")),
        b"more": b"F" + table({b"a": b"F" + table({b"b": b"V"})}),
    }
    death = b"A" + long(b"F" + table(entry))
    assert read_properties(properties(headers=table({b"x-death": death}))).headers == {
        "x-death": [{"count": 3, "queue": "q", "reason": "\udcff"}]
    }


@pytest.mark.parametrize("cut", [1, 6, 7, 20])
async def test_a_server_that_goes_in_the_middle_of_a_frame_is_away(cut: int) -> None:
    reading = receiver(fed(deliver(1), deliver(2)[:cut]))
    assert isinstance((await reading.get_frame())[2], Basic.Deliver)
    with pytest.raises(AMQPConnectionError):
        await reading.get_frame()


async def test_a_server_that_goes_between_frames_is_away() -> None:
    assert [frame async for _, _, frame in receiver(fed(deliver(1), deliver(2)))]


async def test_a_server_that_refuses_the_protocol_is_understood() -> None:
    with pytest.raises(ProtocolSyntaxError):
        await receiver(fed(b"AMQP\0\0\x09\x01")).get_frame()


async def test_unsettled_bodies_are_bounded() -> None:
    incoming = Incoming(most_bytes=10)
    content = content_header(b"\0\0", 8) + raw(ContentBody(b"12345678"))
    reading = receiver(fed(*(deliver(tag) + content for tag in (1, 2, 3, 4))), incoming)

    async def read(count: int) -> None:
        with anyio.fail_after(SLACK_SECONDS):
            for _ in range(count):
                await reading.get_frame()

    await read(6)
    waiting = asyncio.create_task(read(3))
    await anyio.sleep(0.05)
    assert not waiting.done()
    incoming.remove_bytes(8)
    await waiting


async def test_messages_after_the_end_are_read_without_their_bodies() -> None:
    """The answer to a cancel comes after all messages that are on their way, of any size."""
    content = content_header(b"\0\0", 16) + raw(ContentBody(b"12345678")) * 2
    incoming = Incoming(most_bytes=10)
    answer = raw(Basic.CancelOk("a consumer"))
    reading = receiver(fed(deliver(1) + content, (deliver(2) + content) * 2, answer), incoming)
    frames: list[Any] = [(await reading.get_frame())[2] for _ in range(3)]
    incoming.discard()
    with anyio.fail_after(SLACK_SECONDS):
        frames += [(await reading.get_frame())[2] for _ in range(6)]
    assert [frame.value for frame in frames if isinstance(frame, ContentBody)] == [b"12345678"] * 2
    assert [frame.body_size for frame in frames if isinstance(frame, ContentHeader)] == [16, 0, 0]
    assert isinstance(frames[-1], Basic.CancelOk)


TEXT = st.text(max_size=300) | st.binary(max_size=300).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)


@given(TEXT, TEXT, TEXT | st.just("ж" * LONGEST_SUBJECT), TEXT, st.text(max_size=600))
def test_a_copy_can_be_published_with_the_smallest_frames(
    message_id: str, message_type: str, subject: str, body: str, reason: str
) -> None:
    copy, why = publishable(Message(message_id, message_type, subject, body), reason)
    header = ContentHeader(
        properties=Basic.Properties(
            content_type="application/cloudevents+json",
            delivery_mode=2,
            message_id=copy.id or "0" * 32,
            message_type=copy.type,
            headers={"subject": copy.subject, "x-reason": why, "x-attempts": 1_000_001},
        )
    )
    assert len(raw(header)) <= 4096
    assert copy.body == body
    assert len(why) <= 500
    lacks = [
        name
        for name, before, after in (
            ("message_id", message_id, copy.id),
            ("type", message_type, copy.type),
            ("subject", subject, copy.subject),
        )
        if before != after
    ]
    assert all(f"{name} (" in why for name in lacks)


def test_a_copy_of_an_ordinary_message_lacks_nothing() -> None:
    assert publishable(message(1), "why") == (message(1), "why")


def test_a_copy_of_a_body_that_is_too_large_has_its_beginning() -> None:
    fits = Message("id", "", "", "ж" * (LARGEST_BODY // 2))
    assert publishable(fits, "why") == (fits, "why")
    copy, reason = publishable(Message("id", "", "", fits.body + "я"), "why")
    assert copy == fits
    assert f"lacks its body after {LARGEST_BODY} bytes" in reason
