"""What others do reaches every screen: none misses any; a closed one costs nothing."""

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from clinic.database import Database, Dialect, Row, Sql, utc_now
from clinic.messaging import following
from clinic.messaging.following import Follower
from clinic.pages.live import MOST_SCREENS, POLL_SECONDS, Feed, TooManyScreens
from clinic.supervisor import Lifecycle, Stop
from tests.process.clinic import ClinicProcess, running, until
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = pytest.mark.anyio

DAY = "2027-12-01"
# What a screen has to be told within.
SOON_SECONDS = 2.0 + SLACK_SECONDS

INSERT = Sql(
    sqlite="insert into event (id, type, subject, body) values (:id, 'a', 'b', '{}')",
    postgresql="insert into event (id, type, subject, body) values (:id, 'a', 'b', '{}')",
)


class Screen:
    """A screen that listens in a thread of its own, and what it has been told."""

    def __init__(self, clinic: ClinicProcess, after: int | None = None) -> None:
        self.changes: list[list[object]] = []
        self.position = after or 0
        self.ended = False
        self.events = 0
        self._stop = False
        self._thread = threading.Thread(target=self._listen, args=(clinic, after), daemon=True)
        self._thread.start()

    def _listen(self, clinic: ClinicProcess, after: int | None) -> None:
        query = {} if after is None else {"after": str(after)}
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.stream(
                "GET", f"{clinic.url}/news", params=query, timeout=PATIENCE_SECONDS
            ) as answer,
        ):
            position = 0
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-accel-buffering"] == "no"
            assert answer.headers["cache-control"] == "no-store"
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    position = int(line[4:])
                elif line.startswith("data: ["):
                    self.changes += json.loads(line[6:])
                    # As a browser: an id counts once the event is complete.
                    self.position = position
                elif line.startswith("event: beat"):
                    self.events += 1
                if self._stop:
                    break
        self.ended = True

    @property
    def seen(self) -> set[object]:
        """The ids of the appointments that it was told of."""
        return {one[0] for one in self.changes}

    def leave(self) -> None:
        """Leave with the next line that comes."""
        self._stop = True
        self._thread.join(PATIENCE_SECONDS)


def book(clinic: ClinicProcess, number: int, **fields: object) -> int:
    found = clinic.book(number, **fields)
    assert found.status_code == 201, found.text
    return int(found.json()["id"])


def test_a_screen_is_told_which_and_where_and_never_of_whom(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as clinic:
        first = Screen(clinic)
        until(lambda: first.events)
        number = book(clinic, 1, doctor_name="Dr Watson", patient_name="Анна")
        until(lambda: first.seen == {number}, SOON_SECONDS)
        (change,) = first.changes
        assert change[:3] == [number, DAY, DAY]
        assert all(isinstance(one, int) and one > 0 for one in change[3:])
        # A screen that slept goes on from where it was.
        before = first.position
        clinic.http.patch(f"/appointment/{number}", json={"status": "cancelled"})
        other = book(clinic, 2)
        until(lambda: first.seen == {number, other}, SOON_SECONDS)
        late = Screen(clinic, after=before)
        until(lambda: late.seen == {number, other}, SOON_SECONDS)
        # A stop ends the streams, and does not wait for them.
        began = time.monotonic()
        assert clinic.stop() == 0
        assert time.monotonic() - began < 4 + SLACK_SECONDS
        until(lambda: first.ended and late.ended)
        assert "Traceback" not in clinic.log


@pytest.fixture
def two(
    tmp_path: Path, make_database: Callable[[Dialect], str]
) -> Iterator[tuple[ClinicProcess, ClinicProcess]]:
    url = make_database(Dialect.POSTGRESQL)
    with (
        running(tmp_path, "--role", "api", DATABASE_URL=url) as one,
        running(tmp_path, "--role", "api", DATABASE_URL=url) as other,
    ):
        yield one, other


def test_two_processes_and_no_screen_misses_a_change(
    two: tuple[ClinicProcess, ClinicProcess],
) -> None:
    """Some hundred bookings and changes by eight clients at once, at both processes."""
    screens = [Screen(one) for one in two for _ in range(2)]
    until(lambda: all(screen.events for screen in screens))
    made: list[int] = []

    def work(worker: int) -> None:
        clinic = two[worker % 2]
        with httpx.Client(base_url=clinic.url, timeout=PATIENCE_SECONDS) as client:
            for n in range(40):
                body = {
                    "patient_name": "Иван",
                    "office_number": f"{worker} {n}",
                    "date_time": f"{DAY}T10:00:00",
                }
                number = client.post("/appointment", json=body).json()["id"]
                made.append(number)
                if n % 2:
                    client.patch(f"/appointment/{number}", json={"status": "arrived"})

    workers = [threading.Thread(target=work, args=[n]) for n in range(8)]
    for one in workers:
        one.start()
    # Screens come and go meanwhile: each goes on from where the one before it was.
    sleeper = Screen(two[0])
    seen: set[object] = set()
    for _ in range(4):
        time.sleep(0.3)
        sleeper.leave()
        seen |= sleeper.seen
        sleeper = Screen(two[random.randrange(2)], after=sleeper.position)
    for one in workers:
        one.join()
    assert len(set(made)) == 320
    for screen in screens:
        until(lambda screen=screen: screen.seen == set(made), SOON_SECONDS)  # type: ignore[misc]
    until(lambda: seen | sleeper.seen == set(made), SOON_SECONDS)
    for screen in (*screens, sleeper):
        screen._stop = True


async def test_a_closed_screen_costs_nothing(database: Database) -> None:
    """One poll serves all screens of a process, and without one there is none."""
    looks: list[str] = []
    look = database.look

    async def counted(statement: str | Sql, values: Any = None) -> list[Row]:
        looks.append("look")
        return await look(statement, values)

    database.look = counted  # type: ignore[method-assign]
    feed = Feed(database, utc_now)
    stop = Stop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.run, Lifecycle(stop, lambda: None))
        screens = [feed.screen(None) for _ in range(20)]
        for screen in screens:
            assert "event: beat" in await anext(screen)
        nexts = [asyncio.ensure_future(anext(screen)) for screen in screens]
        await asyncio.sleep(3.2 * POLL_SECONDS)
        assert 3 <= len(looks) <= 8
        for one in nexts:
            one.cancel()
        await asyncio.gather(*nexts, return_exceptions=True)
        for screen in screens:
            await screen.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(POLL_SECONDS)
        looks.clear()
        await asyncio.sleep(3 * POLL_SECONDS)
        assert not looks
        # Whoever comes too many is refused, and has to ask again.
        many = [feed.screen(None) for _ in range(MOST_SCREENS)]
        for screen in many:
            await anext(screen)
        with pytest.raises(TooManyScreens):
            await anext(feed.screen(None))
        # A stop ends all of them, also those that have not heard anything.
        stop.request()
        for screen in many:
            assert [piece async for piece in screen] == []


async def test_what_becomes_visible_late_is_not_missed(database: Database) -> None:
    """A position that was drawn before others, and is committed after them."""
    if database.dialect is Dialect.SQLITE:
        pytest.skip("SQLite has one writer: positions become visible in their order")
    follower = Follower(database)
    await follower.begin()
    async with database.transaction() as slow:
        await slow.execute(INSERT, {"id": "slow"})
        async with database.transaction() as quick:
            await quick.execute(INSERT, {"id": "quick"})
        (seen,) = await follower.news()
        assert follower.safe == seen.position - 2
        assert not await follower.news()
        # Who begins now looks back, and knows what is missing.
        later = Follower(database)
        await later.begin()
        assert later.safe == follower.safe
    for one in (follower, later):
        (late,) = await one.news()
        assert late.position == seen.position - 1
        assert one.safe == seen.position


async def test_what_was_never_committed_is_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(database)
    await follower.begin()

    class Fails(Exception):
        pass

    with pytest.raises(Fails):
        async with database.transaction() as broken:
            await broken.execute(INSERT, {"id": "broken"})
            raise Fails
    async with database.transaction() as connection:
        await connection.execute(INSERT, {"id": "fine"})
    (seen,) = await follower.news()
    if database.dialect is Dialect.POSTGRESQL:
        assert follower.safe == seen.position - 2
    monkeypatch.setattr(following, "GAP_SECONDS", 0.0)
    await follower.news()
    async with database.transaction() as connection:
        await connection.execute(INSERT, {"id": "more"})
    (more,) = await follower.news()
    assert follower.safe == more.position
    assert not follower.missing
