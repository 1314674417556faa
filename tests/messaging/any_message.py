"""Messages of any bytes, as hypothesis thinks of them."""

import json
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.messaging.attacked import MAIN, Attacked, integer
from tests.messaging.stranger import long, properties, short, table

SIZES = {b"t": 1, b"b": 1, b"B": 1, b"s": 2, b"u": 2, b"I": 4, b"i": 4, b"l": 8, b"L": 8}
SIZES |= {b"f": 4, b"d": 8, b"D": 5, b"T": 8, b"V": 0}
NAMES = st.sampled_from([b"subject", b"x-death", b"x-attempts", b"x-reason", b"count", b"queue"])
ANY_NAME = NAMES | st.binary(max_size=255)


def of_size(kind: bytes) -> st.SearchStrategy[bytes]:
    size = SIZES[kind]
    return st.binary(min_size=size, max_size=size).map(lambda raw: kind + raw)


TEXTS = st.sampled_from([MAIN.encode(), b"rejected", b"expired", b"dlq-for-retries"]) | st.binary()
SIMPLE = st.one_of(
    st.sampled_from(sorted(SIZES)).flatmap(of_size),
    TEXTS.map(lambda raw: b"S" + long(raw)),
    st.binary().map(lambda raw: b"x" + long(raw)),
)
VALUES = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: b"A" + long(b"".join(items)))
        | st.dictionaries(ANY_NAME, inner, max_size=4).map(lambda fields: b"F" + table(fields))
    ),
)
DEATH = st.fixed_dictionaries(
    {},
    optional={
        b"queue": TEXTS.map(lambda raw: b"S" + long(raw)) | VALUES,
        b"reason": TEXTS.map(lambda raw: b"S" + long(raw)) | VALUES,
        b"count": st.integers(-(2**63), 2**63 - 1).map(integer) | VALUES,
    },
).map(lambda fields: b"F" + table(fields))
HEADERS = st.dictionaries(ANY_NAME, VALUES, max_size=5) | st.lists(DEATH, max_size=3).map(
    lambda entries: {b"x-death": b"A" + long(b"".join(entries))}
)
SHORT = st.binary(max_size=255).map(short)
SOME: dict[str, st.SearchStrategy[bytes]] = {
    "content_type": SHORT,
    "content_encoding": SHORT,
    "headers": HEADERS.map(table),
    "delivery_mode": st.sampled_from([b"\1", b"\2"]),
    "priority": st.binary(min_size=1, max_size=1),
    "correlation_id": SHORT,
    "reply_to": SHORT,
    "message_id": SHORT,
    "timestamp": st.binary(min_size=8, max_size=8),
    "message_type": SHORT,
    "app_id": SHORT,
    "cluster_id": SHORT,
}
# A server accepts few or none of these. A message with a number as its expiration may be gone
# before anybody has seen it.
ODD: dict[str, st.SearchStrategy[bytes]] = {
    "headers": st.binary(max_size=50).map(long)
    | st.dictionaries(ANY_NAME, st.binary(max_size=9), max_size=3).map(table),
    "delivery_mode": st.binary(min_size=1, max_size=1),
    "expiration": st.just(short(b"soon")),
    "user_id": SHORT | st.just(short(b"guest")),
    "correlation_id": st.binary(max_size=9),
}


def any_of(fields: dict[str, st.SearchStrategy[bytes]]) -> st.SearchStrategy[bytes]:
    return st.fixed_dictionaries({}, optional=fields).map(lambda raw: properties(**raw))


WHOLE = st.one_of(any_of(SOME), any_of(SOME), any_of(SOME | ODD), st.binary(max_size=100))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
BODY = st.binary() | JSON.map(lambda value: json.dumps(value).encode())
MESSAGES = st.lists(st.tuples(WHOLE, BODY), min_size=1, max_size=10)


def everything_is_set_aside(
    attacked: Attacked, examples: int, beside: Callable[[], object] = lambda: None
) -> None:
    """Publish whatever hypothesis thinks of, and after each batch do something beside."""

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(MESSAGES)
    def publish(messages: list[tuple[bytes, bytes]]) -> None:
        taken = [body for raw, body in messages if attacked.stranger.takes(raw, body)]
        beside()
        found = attacked.set_aside(len(taken))
        assert sorted(body for _, body in found) == sorted(taken)
        assert all(headers["x-reason"] for headers, _ in found)

    publish()
