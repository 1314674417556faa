"""Chunked bodies, cut at any byte: as h11 reads them, and never beyond their end."""

import itertools
from typing import Any

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from clinic.web.refusals import Refusal
from clinic.web.serving.bodies import Chunked
from clinic.web.serving.limits import LIMITS

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET / HTTP/1.1\r\n"

sizes = st.builds(
    lambda digits, value: b"%0*x" % (digits, value), st.integers(1, 8), st.integers(0, 20)
)
pieces = st.one_of(
    sizes,
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b";a=b", b"; c", b" ", b"0", b"a: b", b"A", b"\x00", b"-"]
    ),
    st.binary(max_size=3),
)


@st.composite
def well_formed(draw: st.DrawFn) -> bytes:
    contents = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=5))
    extension = st.sampled_from([b"", b";a", b"; a=b"])
    trailers = draw(st.lists(st.sampled_from([b"A: b\r\n", b"Host: c\r\n", b"D:\r\n"]), max_size=3))
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(one), draw(extension), one) for one in contents)
    return body + b"0\r\n" + b"".join(trailers) + b"\r\n"


def ours(sent: bytes, cuts: list[int]) -> tuple[str, bytes, bytes]:
    """Return how it ended, the content, and what was left unread."""
    body, unread, content = Chunked(LIMITS), bytearray(), bytearray()
    edges = sorted({0, len(sent), *(cut % (len(sent) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(edges):
        unread += sent[begin:end]
        try:
            if not body.complete:
                content += body.read(unread)
        except Refusal as refusal:
            return f"refused with {refusal.status}", b"", b""
    return "complete" if body.complete else "incomplete", bytes(content), bytes(unread)


def by_h11(sent: bytes) -> tuple[str, bytes, bytes]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(HEAD + sent)
    content = b""
    try:
        while True:
            event: Any = connection.next_event()
            if isinstance(event, h11.Data):
                content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return "complete", content, connection.trailing_data[0]
            elif event is h11.NEED_DATA:
                return "incomplete", content, connection.trailing_data[0]
    except h11.RemoteProtocolError:
        return "refused with 400", b"", b""


@given(well_formed(), st.lists(st.integers(0, 10_000), max_size=10))
@example(b"0\r\n\r\n", [1, 2, 3, 4])
def test_a_body_is_read_to_its_end_and_no_further(sent: bytes, cuts: list[int]) -> None:
    outcome, content, left = ours(sent + NEXT, cuts)
    assert (outcome, left) == ("complete", NEXT)
    assert by_h11(sent + NEXT) == ("complete", content, NEXT)


@given(st.lists(pieces, max_size=12).map(b"".join), st.lists(st.integers(0, 200), max_size=6))
def test_h11_accepts_each_accepted_body_and_reads_the_same(sent: bytes, cuts: list[int]) -> None:
    """We are stricter, never more lenient: a proxy in front may read it in one way only."""
    outcome, content, left = ours(sent, cuts)
    assert ours(sent, []) == (outcome, content, left)
    if outcome == "complete":
        assert by_h11(sent) == (outcome, content, left)
