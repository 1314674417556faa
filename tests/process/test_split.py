"""Split over processes, on one PostgreSQL and one RabbitMQ: exact totals whoever is restarted."""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import start_or_skip
from tests.process.clinic import ClinicProcess, running, until
from tests.servers import Postgres, Rabbit
from tests.timing import PATIENCE_SECONDS

CLIENTS = 8


class Client:
    """A client that books until it is confirmed, at whichever API answers."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = itertools.cycle(ports)
        self._connection: http.client.HTTPConnection | None = None
        self._answers = itertools.count(1)
        self.unknown = 0

    def book(self, number: int) -> None:
        booking = {
            "patient_name": "Иван Иванов",
            "office_number": f"office {number}",
            "date_time": "2027-12-01T15:30:00",
        }
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._post(json.dumps(booking)) != 201:
            assert time.monotonic() < deadline

    def _post(self, body: str) -> int | None:
        connection = self._connection or http.client.HTTPConnection(
            "127.0.0.1", next(self._ports), timeout=PATIENCE_SECONDS
        )
        self._connection = connection
        try:
            connection.request("POST", "/appointment", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except OSError as error:
            # Refused, or hung up before the request was read: either way nothing was booked.
            self.unknown += isinstance(error, TimeoutError)
            self.close()
            time.sleep(0.05)
            return None
        # Now and then at the other API: else all would soon be at the one restarted first.
        if answer.will_close or next(self._answers) % 50 == 0:
            self.close()
        return answer.status

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


def restart(clinic: ClinicProcess, folder: Path, *arguments: str, **env: Any) -> ClinicProcess:
    """Stop a process in order and start another in its place, on its port."""
    assert clinic.stop() == 0, clinic.log
    clinic.close()
    return ClinicProcess(folder, *arguments, port=clinic.port, **env).until_ready()


@pytest.mark.parametrize(
    ("least", "pause_seconds"),
    [(0, 0.05), pytest.param(10_000, 0, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_bookings_while_each_process_is_restarted_are_counted_once(
    tmp_path: Path, postgres: Postgres, vhost: str, least: int, pause_seconds: float
) -> None:
    """Clients book until each process has been restarted and ``least`` bookings are made."""
    settings: dict[str, Any] = {
        "DATABASE_URL": postgres.create_database("split"),
        "AMQP_URL": vhost,
    }
    roles = ["api"] * 2 + ["consumer"] * 3
    clinics = [ClinicProcess(tmp_path, "--role", role, **settings) for role in roles]
    try:
        for clinic in clinics:
            clinic.until_ready()
        numbers = itertools.count()
        taking = threading.Lock()
        restarted = threading.Event()
        clients = [Client([clinic.port for clinic in clinics[:2]]) for _ in range(CLIENTS)]

        def book_on(client: Client) -> None:
            number = 0
            while number < least or not restarted.is_set():
                with taking:
                    number = next(numbers)
                client.book(number)
                time.sleep(pause_seconds)
            client.close()

        with ThreadPoolExecutor(CLIENTS) as threads:
            working = [threads.submit(book_on, client) for client in clients]
            try:
                for place, role in enumerate(roles):
                    time.sleep(1)
                    clinics[place] = restart(clinics[place], tmp_path, "--role", role, **settings)
            finally:
                restarted.set()
            for work in working:
                work.result()
        booked = next(numbers)
        assert booked >= max(least, 100)
        assert sum(client.unknown for client in clients) == 0
        assert len(clinics[0].http.get("/appointment").json()) == booked
        until(lambda: clinics[1].totals()["booked"] >= booked)
        time.sleep(2)
        assert clinics[0].totals() == {"booked": booked}
        assert [clinic.stop() for clinic in clinics] == [0] * 5
        assert all("Traceback" not in clinic.log for clinic in clinics)
    finally:
        for clinic in clinics:
            clinic.close()
    postgres.drop_database("split")


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A server of this module's own, to be restarted."""
    server = Postgres()
    start_or_skip(server)
    yield server
    server.close()


def test_a_database_that_is_restarted_costs_503_for_requests_in_flight_and_nothing_else(
    tmp_path: Path, own_postgres: Postgres, vhost: str
) -> None:
    settings: dict[str, Any] = {"DATABASE_URL": own_postgres.url, "AMQP_URL": vhost}
    with running(tmp_path, **settings) as clinic:
        statuses: list[int] = []
        done = threading.Event()

        def book_on(place: int) -> None:
            for number in itertools.count():
                if done.is_set():
                    return
                answer = clinic.book(place * 100_000 + number)
                statuses.append(answer.status_code)
                if answer.status_code != 201:
                    assert answer.status_code == 503
                    assert answer.headers["retry-after"]
                    assert answer.headers["content-type"] == "application/problem+json"
                    time.sleep(0.05)

        with ThreadPoolExecutor(4) as threads:
            working = [threads.submit(book_on, place) for place in range(4)]
            try:
                for _ in range(3):
                    time.sleep(1)
                    own_postgres.kill()
                    until(lambda: 503 in statuses[-4:])
                    assert clinic.http.get("/health/live").status_code == 200
                    assert clinic.http.get("/health/ready").status_code == 503
                    own_postgres.start()
                    until(lambda: statuses[-4:] == [201] * 4)
            finally:
                done.set()
            for work in working:
                work.result()
        confirmed = statuses.count(201)
        booked = len(clinic.http.get("/appointment").json())
        # A booking that was answered 503 may have been committed.
        assert confirmed <= booked <= confirmed + statuses.count(503)
        until(lambda: clinic.totals()["booked"] >= booked)
        assert clinic.totals() == {"booked": booked}
        assert clinic.stop() == 0


def test_a_broker_that_is_away_stops_no_booking(
    tmp_path: Path, postgres: Postgres, rabbit: Rabbit, vhost: str
) -> None:
    del rabbit
    settings: dict[str, Any] = {"DATABASE_URL": postgres.create_database("away")}
    with running(tmp_path, **settings, AMQP_URL="amqp://guest:guest@127.0.0.1:1/") as clinic:
        assert all(clinic.book(number).status_code == 201 for number in range(5))
        # The relay's and the consumer's.
        until(lambda: clinic.log.count("RabbitMQ cannot be reached") >= 2)
        health = clinic.http.get("/health/ready").json()
        assert health["status"] == "degraded"
        assert health["parts"]["http"]["state"] == "up"
        assert clinic.totals() == {"booked": 0}
        assert clinic.log.count("RabbitMQ cannot be reached") == 2
        assert clinic.stop() == 0
    with running(tmp_path, **settings, AMQP_URL=vhost) as clinic:
        until(lambda: clinic.totals() == {"booked": 5})
    postgres.drop_database("away")


def test_the_embedded_broker_serves_many_processes_on_postgresql(
    tmp_path: Path, postgres: Postgres
) -> None:
    settings: dict[str, Any] = {"DATABASE_URL": postgres.create_database("embedded")}
    with ExitStack() as stack:
        api, *_ = [
            stack.enter_context(running(tmp_path, "--role", role, **settings))
            for role in ("api", "consumer", "consumer")
        ]
        assert all(api.book(number).status_code == 201 for number in range(300))
        until(lambda: api.totals() == {"booked": 300})
    postgres.drop_database("embedded")


def test_the_older_names_of_the_settings_work(
    tmp_path: Path, postgres: Postgres, rabbit: Rabbit
) -> None:
    postgres.create_database("parts")
    (tmp_path / ".env").write_text(
        f"DB_HOST=127.0.0.1\nDB_PORT={postgres.port}\nDB_NAME=parts\nDB_USER=postgres\nDB_PASS=\n"
        f"RMQ_HOST=127.0.0.1\nRMQ_PORT={rabbit.port}\nRMQ_USER=guest\nRMQ_PASS=guest\n"
        "RMQ_FOR_RETRIES=main\nRMX_FOR_RETRIES=main-x\nDLQ_FOR_RETRIES=dead\n"
        "DLX_FOR_RETRIES=dead-x\nRMQ_NOT_SOLVED=aside\nTTL_FOR_RETRIES=20_0\nDEATH_LIMIT=1\n"
        "ERROR_PROBABILITY=1\nCLINIC_QUEUE_TYPE=classic\n"
    )
    with running(tmp_path) as clinic:
        assert clinic.book().status_code == 201
        until(lambda: "aside\t1" in rabbit.ctl("list_queues", "name", "messages"))
    for queue in ("main", "dead", "aside"):
        rabbit.ctl("delete_queue", queue)
    postgres.drop_database("parts")


def test_a_consumer_without_its_database_is_one_line_in_the_log(
    tmp_path: Path, own_postgres: Postgres, vhost: str
) -> None:
    settings: dict[str, Any] = {"DATABASE_URL": own_postgres.url, "AMQP_URL": vhost}
    with (
        running(tmp_path, "--role", "consumer", **settings) as consumer,
        running(tmp_path, "--role", "api", **settings) as api,
    ):
        before = api.totals()["booked"]
        own_postgres.kill()
        own_postgres.start()
        assert api.book(770_001).status_code in (201, 503)
        own_postgres.kill()
        time.sleep(4)
        own_postgres.start()
        # 200 if it was booked and only its answer was lost.
        until(lambda: api.book(770_002).status_code in (200, 201))
        until(lambda: api.totals()["booked"] > before)
        assert consumer.log.count("consumer: working again") <= 2
        assert "Traceback" not in consumer.log
