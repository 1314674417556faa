"""Operations by real processes: over HTTP, with kill -9, and with a broker that restarts."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clinic.operating.walking import LEASE
from tests.messaging.stranger import Stranger, properties
from tests.process.clinic import ClinicProcess, running, until
from tests.servers import Postgres, Rabbit, free_port
from tests.timing import SLACK_SECONDS

NAME = "Иван Иванов"
QUICK: dict[str, Any] = {"TTL_FOR_RETRIES": 200, "DEATH_LIMIT": 0, "CLINIC_LEASE_SECONDS": 2}


@pytest.fixture
def servers(rabbit: Rabbit, postgres: Postgres) -> Iterator[dict[str, Any]]:
    """Where a clinic on servers keeps everything."""
    name = f"operating_{free_port()}"
    urls = {"AMQP_URL": rabbit.create_vhost(name), "DATABASE_URL": postgres.create_database(name)}
    yield QUICK | urls
    rabbit.delete_vhost(name)


def waiting(clinic: ClinicProcess) -> int:
    return int(clinic.http.get("/not-solved").json()["waiting"])


def set_aside(folder: Path, where: dict[str, Any], count: int) -> None:
    """Have the events of bookings set aside, by a clinic whose every delivery fails."""
    with running(folder, ERROR_PROBABILITY=1, **where) as clinic:
        for number in range(count):
            assert clinic.book(number).status_code == 201
        until(lambda: waiting(clinic) == count)
        assert clinic.stop() == 0


def start(clinic: ClinicProcess, **asked: object) -> int:
    """Plan an operation over HTTP and start it; return its id."""
    planned = clinic.http.post("/operation", json=asked)
    assert planned.status_code == 201
    path = planned.headers["location"]
    started = clinic.http.patch(path, json={"status": "running"})
    assert started.json()["status"] == "running"
    return int(planned.json()["id"])


def results(clinic: ClinicProcess, operation: int) -> dict[str, int]:
    found: dict[str, int] = clinic.http.get(f"/operation/{operation}").json()["results"]
    return found


def status(clinic: ClinicProcess, operation: int) -> str:
    return str(clinic.http.get(f"/operation/{operation}").json()["status"])


def test_an_operation_survives_the_process_that_carries_it_out(
    tmp_path: Path, servers: dict[str, Any]
) -> None:
    """It is killed in the middle, and another one goes on with it."""
    where = servers
    set_aside(tmp_path, where, 12)
    with running(tmp_path, **where) as clinic:
        operation = start(clinic, verb="replay", rate=4)
        until(lambda: results(clinic, operation).get("replayed", 0) >= 4)
        clinic.kill()
    began = time.monotonic()
    with running(tmp_path, **where) as clinic:
        until(lambda: status(clinic, operation) == "done")
        assert time.monotonic() - began < LEASE.total_seconds() + 5 + SLACK_SECONDS
        assert results(clinic, operation) == {"replayed": 12}
        until(lambda: clinic.totals() == {"booked": 12})
        dealt = clinic.http.get(f"/operation/{operation}/messages").json()
        assert [one["id"] for one in dealt] == list(range(1, 13))
        assert clinic.http.get("/not-solved").json()["in_queue"] == 0
        assert clinic.stop() == 0
        assert "Traceback" not in clinic.log


def test_an_operation_survives_a_restart_of_the_broker(tmp_path: Path, postgres: Postgres) -> None:
    rabbit = Rabbit()
    try:
        rabbit.start()
        where = QUICK | {
            "AMQP_URL": rabbit.create_vhost("restarted"),
            "DATABASE_URL": postgres.create_database("operating_restarted"),
        }
        set_aside(tmp_path, where, 12)
        time.sleep(4)  # a quorum queue that is younger does not survive (docs/libraries.md)
        with running(tmp_path, **where) as clinic:
            operation = start(clinic, verb="replay", rate=4)
            until(lambda: results(clinic, operation).get("replayed", 0) >= 4)
            rabbit.stop_app()
            until(lambda: clinic.http.get(f"/operation/{operation}").json()["trouble"])
            rabbit.start_app()
            until(lambda: status(clinic, operation) == "done")
            assert results(clinic, operation) == {"replayed": 12}
            until(lambda: clinic.totals() == {"booked": 12})
    finally:
        rabbit.close()


def test_the_story_of_an_appointment(tmp_path: Path) -> None:
    where = QUICK
    set_aside(tmp_path, where, 2)
    with running(tmp_path, **where) as clinic:
        (event,) = clinic.http.get("/appointment/1/story").json()["events"]
        assert event["state"] == "not_solved"
        assert [step["what"] for step in event["story"]] == ["told", "attempt", "set_aside"]
        assert [event["id"]] == [
            one["id"] for one in clinic.http.get("/appointment/1/events").json()
        ]
        start(clinic, verb="discard", ids=[event["story"][2]["not_solved_id"]], reason="why not")
        until(
            lambda: (
                clinic.http.get("/appointment/1/story").json()["events"][0]["state"] == "discarded"
            )
        )
        start(clinic, verb="replay")
        until(lambda: clinic.totals() == {"booked": 1})
        (discarded,) = clinic.http.get("/appointment/1/story").json()["events"]
        assert discarded["story"][-1]["what"] == "discarded"
        assert discarded["story"][-1]["reason"] == "why not"
        (replayed,) = clinic.http.get("/appointment/2/story").json()["events"]
        assert replayed["state"] == "recorded"
        assert [step["what"] for step in replayed["story"]] == [
            *("told", "attempt", "set_aside", "replayed", "recorded")
        ]
        assert NAME not in clinic.http.get("/appointment/2/story").text


def test_a_message_of_the_older_project_is_shown_for_what_it_is(
    tmp_path: Path, servers: dict[str, Any]
) -> None:
    older = {"patient_name": NAME, "office_number": "221B", "date_time": "2025-12-01T15:30:00"}
    with running(tmp_path, **servers) as clinic, Stranger(servers["AMQP_URL"]) as stranger:
        until(lambda: clinic.http.get("/health/ready").json()["parts"]["consumer"]["state"] == "up")
        stranger.publish(properties(), json.dumps(older, ensure_ascii=False).encode())
        until(lambda: waiting(clinic) == 1)
        listed = clinic.http.get("/not-solved", params={"kind": "OlderMessage"})
        assert NAME not in listed.text
        (one,) = listed.json()["messages"]
        assert one["event_id"] is None
        shown = clinic.http.get(f"/not-solved/{one['id']}").json()
        assert json.loads(shown["message"]["body"]) == older
        assert "Book the appointment with POST /appointment" in shown["advice"]
        assert NAME not in clinic.log
