"""Requests of every kind over a raw socket: what is answered, and that nothing is smuggled."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.timing import PATIENCE_SECONDS
from tests.web.corpus import CASES, ENDS, Case
from tests.web.serving import Served, Stage, answers, served, until_closed

PROBE = b"GET /echo?probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="module")
def server(stage: Stage) -> Iterator[Served]:
    with served(stage.app(), linger_seconds=PATIENCE_SECONDS) as server:
        yield server


def whole(sent: bytes) -> list[bytes]:
    return [sent]


def in_pieces(sent: bytes) -> list[bytes]:
    """Cut where a reader may stumble: in the middle of line ends, names and numbers."""
    size = 7 if len(sent) < 1000 else 4999
    return [sent[i : i + size] for i in range(0, len(sent), size)]


@pytest.mark.parametrize(
    ("case", "cut"),
    [(case, cut) for case in CASES for cut in (whole, in_pieces)]
    + [(case, whole) for case in ENDS],
    ids=lambda given: given.name if isinstance(given, Case) else given.__name__,
)
def test_a_request_has_the_outcome_that_its_bytes_ask_for(
    server: Served, stage: Stage, case: Case, cut: Callable[[bytes], list[bytes]]
) -> None:
    stage.seen.clear()
    with server.connect() as connection:
        for piece in cut(case.sent):
            connection.sendall(piece)
            if cut is in_pieces:
                time.sleep(0.0002)
        if case.kept:
            connection.sendall(PROBE)
        found = answers(until_closed(connection))
    if case.kept:
        assert found.pop().json["query"] == "probe"
        assert stage.seen.pop() == "GET /echo"
    assert [answer.status for answer in found] == list(case.statuses)
    assert tuple(stage.seen) == case.seen
    for answer in found:
        if answer.status >= 400:
            assert answer.headers["content-type"].partition(";")[0] == "application/problem+json"
            assert answer.json["status"] == answer.status
        assert ("close" in answer.headers.get("connection", "")) == (
            not case.kept and answer is found[-1]
        )
