"""Clients that are malformed, slow, silent, greedy or never read, beside friends who book."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clinic.database import Dialect
from tests.hostile.friends import friends
from tests.hostile.sieges import REACH_THE_DATABASE, SIEGES, Besieger
from tests.process.clinic import ClinicProcess, running
from tests.servers.ports import LOOPBACK
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS
from tests.web.corpus import CASES, Case
from tests.web.serving import answers, until_closed
from tests.web.test_sockets_crowd import enough_descriptors

MOST_MIB = 300
# Longer than any client may keep the clinic waiting before a limit of its own ends that.
SIEGE_SECONDS = 20.0
# A friend who connects waits for a place, until idle ones have made room: one second, and a look.
WAIT_SECONDS = 2.0


# The corpus


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClinicProcess]:
    """A clinic that is called as the requests of the corpus call it."""
    hosts = "a,localhost,127.0.0.1,::1,clinic.example"
    settings: dict[str, Any] = {"CLINIC_HOSTS": hosts, "CLINIC_ALLOW_ANONYMOUS": 1}
    with running(tmp_path_factory.mktemp("named"), **settings) as clinic:
        yield clinic
        assert clinic.stop() == 0
        assert "Traceback" not in clinic.log


def possible(case: Case) -> list[set[int]]:
    """Return what may be answered to each request.

    That the docs can only be read is said before the body is here, which may be wrong as well.
    """
    early = {405} if b"POST " in case.sent else set()
    return [early | ({200, 404, 421} if one == 200 else {one, 421}) for one in case.statuses]


@pytest.mark.parametrize("size", [10_000_000, 11], ids=["whole", "in pieces"])
def test_each_request_of_the_corpus_has_its_one_answer(named: ClinicProcess, size: int) -> None:
    """What looks like a request inside of another would have an answer of its own."""
    for case in CASES:
        sent = case.sent.replace(b"/echo", b"/docs")  # which is as long
        with socket.create_connection((LOOPBACK, named.port), timeout=PATIENCE_SECONDS) as one:
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(sent), size):
                    one.sendall(sent[start : start + size])
                one.shutdown(socket.SHUT_WR)
            found = [answer.status for answer in answers(until_closed(one))]
        expected = possible(case)
        assert len(found) == len(expected), f"{case.name}: {found}"
        for status, may_be in zip(found, expected, strict=True):
            assert status in may_be, f"{case.name}: {found}"


# Sieges


# Most sieges never reach the database.
TRIED = [(kind, Dialect.SQLITE) for kind in SIEGES]
TRIED += [(kind, Dialect.POSTGRESQL) for kind in SIEGES if kind in REACH_THE_DATABASE]


@pytest.mark.hostile
@pytest.mark.parametrize(("kind", "dialect"), TRIED)
def test_friends_go_on_booking_beside(
    make_database: Callable[[Dialect], str], tmp_path: Path, kind: str, dialect: Dialect
) -> None:
    settings: dict[str, Any] = {"DATABASE_URL": make_database(dialect)}
    with enough_descriptors(5000), running(tmp_path, **settings) as clinic:
        for number in range(1000):
            clinic.book(number)
        besieger = Besieger(SIEGES[kind], clinic.port)
        with (
            friends(clinic.port, crowd=2) as old,
            friends(clinic.port, crowd=2, keep=False) as new,
        ):
            besieger.besiege(SIEGE_SECONDS)
        print(
            f"{kind}, {dialect}: {besieger.opened} connections, peak {clinic.peak_mib} MiB, "
            f"{dict(old.statuses)} slowest {old.slowest_seconds:.2f} s on kept connections, "
            f"{dict(new.statuses)} slowest {new.slowest_seconds:.2f} s on new ones"
        )
        for found in (old, new):
            # One whose body comes a moment after its head may find 900 others in hand.
            assert set(found.statuses) <= {201, 503}, found.failures
            assert found.statuses[503] < found.booked / 20
            assert found.slowest_seconds < WAIT_SECONDS + SLACK_SECONDS
            assert found.booked > SIEGE_SECONDS
        assert clinic.peak_mib < MOST_MIB
        assert clinic.http.get("/health/ready").json()["status"] == "ready"
        began = time.monotonic()
        assert clinic.stop() == 0
        assert time.monotonic() - began < 2 + SLACK_SECONDS
        assert "Traceback" not in clinic.log
        assert len(clinic.log.splitlines()) < 60
