"""Two real processes on one database, and a crowd that wants the same."""

import http.client
import itertools
import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from clinic.database import Dialect
from tests.appointments.desks import OVERLAPS
from tests.conftest import start_or_skip
from tests.process.clinic import ClinicProcess, running, until
from tests.servers import Postgres

CROWD = 50
DAY = "2027-12-01"


class Answer(NamedTuple):
    """What came back; status 0 says that the connection failed."""

    status: int
    body: Any
    retry_after: str | None = None


class Client:
    """A client with a connection of its own."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def connect(self) -> None:
        self._connection.connect()

    def close(self) -> None:
        self._connection.close()

    def send(self, method: str, path: str, body: Any, key: str | None = None) -> Answer:
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        try:
            self._connection.request(method, path, json.dumps(body), headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return Answer(0, None)
        return Answer(answer.status, json.loads(content), answer.headers["Retry-After"])


Request = tuple[str, str, dict[str, object], str | None]


def at_once(clinics: list[ClinicProcess], requests: list[Request]) -> list[Answer]:
    """Send requests all at the same moment, to one process and the other in turn."""
    barrier = threading.Barrier(len(requests))

    def send(place: int) -> Answer:
        client = Client(clinics[place % len(clinics)].port)
        client.connect()
        try:
            barrier.wait(30)
            return client.send(*requests[place])
        finally:
            client.close()

    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(send, range(len(requests))))


def booking(office: str, time: str = "10:00", **fields: object) -> dict[str, object]:
    return {
        "patient_name": "Иван Иванов",
        "office_number": office,
        "date_time": f"{DAY}T{time}:00",
    } | fields


@pytest.fixture(scope="module", params=list(Dialect))
def clinics(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[ClinicProcess]]:
    """Two processes on one database of each kind; book in offices of your own."""
    settings: dict[str, Any] = {}
    if request.param is Dialect.POSTGRESQL:
        server: Postgres = request.getfixturevalue("postgres")
        settings["DATABASE_URL"] = server.create_database("race")
    folder = tmp_path_factory.mktemp("race")
    with ExitStack() as stack:
        both = [stack.enter_context(running(folder, "--role", "api", **settings)) for _ in range(2)]
        yield both
        assert [clinic.stop() for clinic in both] == [0, 0]
        assert all("Traceback" not in clinic.log for clinic in both)
    if settings:
        server.drop_database("race")


def in_the_book(clinic: ClinicProcess, office: str) -> list[int]:
    found = clinic.http.get("/appointment", params={"office_number": office}).json()
    return [one["id"] for one in found]


def told(clinic: ClinicProcess, number: int) -> list[str]:
    found = clinic.http.get(f"/appointment/{number}/events").json()
    return [event["type"] for event in found]


def test_one_of_fifty_overlapping_bookings_succeeds(clinics: list[ClinicProcess]) -> None:
    times = ["10:00", "10:05", "10:14", "10:01", "10:10"]
    office = "overlap"
    answers = at_once(
        clinics,
        [
            ("POST", "/appointment", booking(office, times[n % 5], patient_name=str(n)), None)
            for n in range(CROWD)
        ],
    )
    statuses = Counter(answer.status for answer in answers)
    assert statuses == {201: 1, 409: CROWD - 1}
    (made,) = in_the_book(clinics[0], office)
    assert told(clinics[1], made) == ["appointment.booked"]
    for answer in answers:
        if answer.status == 409:
            assert [one["id"] for one in answer.body["conflicts"]] == [made]
            assert len(answer.body["free_times"]) == 3
            assert "Иван" not in json.dumps(answer.body, ensure_ascii=False)


def test_one_of_fifty_bookings_for_one_doctor_in_fifty_offices_succeeds(
    clinics: list[ClinicProcess],
) -> None:
    requests: list[Request] = [
        ("POST", "/appointment", booking(f"doctor's {n}", doctor_name="Ватсон"), None)
        for n in range(CROWD)
    ]
    answers = at_once(clinics, requests)
    assert Counter(answer.status for answer in answers) == {201: 1, 409: CROWD - 1}


@pytest.mark.parametrize("override", [{}, {"override": True, "reason": "срочно"}])
def test_fifty_equal_bookings_are_one(
    clinics: list[ClinicProcess], override: dict[str, object]
) -> None:
    office = f"same{len(override)}"
    body = booking(office) | override
    answers = at_once(clinics, [("POST", "/appointment", body, None)] * CROWD)
    assert Counter(answer.status for answer in answers) == {201: 1, 200: CROWD - 1}
    (made,) = in_the_book(clinics[0], office)
    assert all(answer.body == {"id": made} | body for answer in answers)
    assert told(clinics[1], made) == ["appointment.booked"]


def test_fifty_bookings_with_one_key_get_one_answer(clinics: list[ClinicProcess]) -> None:
    office = "key"
    answers = at_once(clinics, [("POST", "/appointment", booking(office), '"one"')] * CROWD)
    (made,) = in_the_book(clinics[0], office)
    assert set(map(str, answers)) == {str(Answer(201, {"id": made} | booking(office)))}
    assert told(clinics[1], made) == ["appointment.booked"]


def test_one_key_with_two_bodies_books_one_of_them(clinics: list[ClinicProcess]) -> None:
    requests: list[Request] = [
        ("POST", "/appointment", booking(f"two bodies {n % 2}"), "two") for n in range(CROWD)
    ]
    answers = at_once(clinics, requests)
    assert Counter(answer.status for answer in answers) == {201: CROWD / 2, 422: CROWD / 2}
    made = [in_the_book(clinics[0], f"two bodies {n}") for n in range(2)]
    assert sorted(map(len, made)) == [0, 1]


@pytest.mark.parametrize("moved", ["rescheduled", "reassigned", "reopened"])
def test_one_of_many_moves_to_one_time_succeeds(clinics: list[ClinicProcess], moved: str) -> None:
    office, goal = f"move {moved}", f"{DAY}T19:00:00"
    movers: list[dict[str, Any]] = [
        {
            "rescheduled": {"office_number": office, "date_time": f"{DAY}T10:{n:02}:00"},
            "reassigned": {"office_number": f"{office} {n}", "date_time": goal},
            "reopened": {"office_number": office, "date_time": goal},
        }[moved]
        | {"duration_minutes": 1}
        for n in range(24)
    ]
    changes: dict[str, dict[str, object]] = {
        "rescheduled": {"date_time": goal, "doctor_name": "Moved"},
        "reassigned": {"doctor_name": "Reassigned"},
        "reopened": {"status": "booked"},
    }
    ids = []
    for fields in movers:
        ids.append(clinics[0].book(**fields).json()["id"])
        if moved == "reopened":
            clinics[0].http.patch(f"/appointment/{ids[-1]}", json={"status": "cancelled"})
    before = {one: len(told(clinics[1], one)) for one in ids}
    answers = at_once(
        clinics, [("PATCH", f"/appointment/{one}", changes[moved], None) for one in ids]
    )
    assert Counter(answer.status for answer in answers) == {200: 1, 409: len(ids) - 1}
    (done,) = [answer.body["id"] for answer in answers if answer.status == 200]
    after = {one: len(told(clinics[1], one)) for one in ids}
    assert {one for one in ids if after[one] != before[one]} == {done}


def test_an_appointment_that_many_change_at_once_has_one_history(
    clinics: list[ClinicProcess],
) -> None:
    made = clinics[0].book(office_number="history").json()["id"]
    patients = [f"patient {n}" for n in range(20)]
    answers = at_once(
        clinics,
        [("PATCH", f"/appointment/{made}", {"patient_name": name}, None) for name in patients],
    )
    assert {answer.status for answer in answers} == {200}
    found = clinics[1].http.get(f"/appointment/{made}/events").json()
    assert [event["data"]["version"] for event in found] == list(range(1, 22))


class Crowd:
    """Clients that book on and on, at times that collide, until told to stop."""

    def __init__(self, ports: list[int], clients: int) -> None:
        self.answers: list[tuple[dict[str, object], Answer]] = []
        self._done = threading.Event()
        self._threads = ThreadPoolExecutor(clients)
        self._working = [
            self._threads.submit(self._book_on, place, ports[place % len(ports)])
            for place in range(clients)
        ]

    def _book_on(self, place: int, port: int) -> None:
        client = Client(port)
        for number in itertools.count():
            if self._done.is_set():
                break
            body = booking(
                f"{number // 8}",
                f"{10 + number % 8}:{(place % 4) * 10:02}",
                patient_name=f"{place}",
                doctor_name=f"doctor {place % 3} {number // 8}",
                duration_minutes=20,
            )
            answer = client.send("POST", "/appointment", body)
            self.answers.append((body, answer))
            if answer.status in (0, 503):
                time.sleep(0.02)
        client.close()

    def statuses(self) -> Counter[int]:
        return Counter(answer.status for _, answer in self.answers)

    def stop(self) -> None:
        self._done.set()
        for work in self._working:
            work.result()
        self._threads.shutdown()

    def confirmed(self) -> dict[int, tuple[object, ...]]:
        """Return what was confirmed, by id."""
        made = [answer.body for _, answer in self.answers if answer.status == 201]
        found: dict[int, tuple[object, ...]] = {
            one["id"]: (one["patient_name"], one["office_number"], one["date_time"]) for one in made
        }
        assert len(found) == len(made)
        return found

    def unanswered(self) -> set[tuple[object, ...]]:
        """Return the bookings whose outcome is unknown."""
        return {
            (body["patient_name"], body["office_number"], body["date_time"])
            for body, answer in self.answers
            if answer.status in (0, 503)
        }


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server of the test's own, to be killed."""
    server = Postgres()
    start_or_skip(server)
    yield server
    server.close()


@pytest.mark.parametrize(
    "kills", [2, pytest.param(25, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_confirmed_bookings_are_stored_whenever_the_database_is_killed(
    tmp_path: Path, own_postgres: Postgres, kills: int
) -> None:
    settings: dict[str, Any] = {"DATABASE_URL": own_postgres.url}
    with ExitStack() as stack:
        clinics = [
            stack.enter_context(running(tmp_path, "--role", "api", **settings)) for _ in range(2)
        ]
        crowd = Crowd([clinic.port for clinic in clinics], clients=12)
        try:
            for life in range(kills):
                time.sleep(0.8 + 0.07 * (life % 5))
                own_postgres.kill()
                refused = crowd.statuses()[503]
                until(lambda refused=refused: crowd.statuses()[503] > refused)  # type: ignore[misc]
                own_postgres.start()
                made = crowd.statuses()[201]
                until(lambda made=made: crowd.statuses()[201] > made)  # type: ignore[misc]
        finally:
            crowd.stop()
        assert set(crowd.statuses()) <= {200, 201, 409, 503}
        assert all(answer.retry_after for _, answer in crowd.answers if answer.status == 503)
        with psycopg.connect(own_postgres.url) as connection:
            check(connection, crowd)
        assert [clinic.stop() for clinic in clinics] == [0, 0]
        assert all("Traceback" not in clinic.log for clinic in clinics)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_requests_in_hand_at_a_stop_are_answered_as_they_were_stored(
    tmp_path: Path, dialect: Dialect, request: pytest.FixtureRequest
) -> None:
    settings: dict[str, Any] = {}
    if dialect is Dialect.POSTGRESQL:
        server: Postgres = request.getfixturevalue("postgres")
        settings["DATABASE_URL"] = server.create_database("stopped")
    with running(tmp_path, "--role", "api", **settings) as clinic:
        crowd = Crowd([clinic.port], clients=16)
        try:
            until(lambda: crowd.statuses()[201] > 50)
            assert clinic.stop() == 0
        finally:
            crowd.stop()
        assert set(crowd.statuses()) <= {0, 200, 201, 409}
        assert "Traceback" not in clinic.log
    if dialect is Dialect.SQLITE:
        with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
            check(connection, crowd)
    else:
        with psycopg.connect(settings["DATABASE_URL"]) as connection:
            check(connection, crowd)
        server.drop_database("stopped")


def check(connection: Any, crowd: Crowd) -> None:
    """Check what is stored against what was answered."""
    rows = connection.execute(
        "select appointment.id, patient_name, name, date_time"
        " from appointment join resource on resource.id = office_id"
    ).fetchall()
    stored = {
        number: (patient, office, at if isinstance(at, str) else at.isoformat())
        for number, patient, office, at in rows
    }
    confirmed = crowd.confirmed()
    assert confirmed.items() <= stored.items()
    for number in stored.keys() - confirmed.keys():
        assert stored[number] in crowd.unanswered()
    assert connection.execute(OVERLAPS).fetchall() == []
    subjects = connection.execute("select subject from event").fetchall()
    assert Counter(subject for (subject,) in subjects) == {
        f"appointment/{number}": 1 for number in stored
    }
