"""What must appear nowhere: patients' names and passwords."""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

from tests.process.clinic import ClinicProcess, running, until
from tests.process.test_kill import QUICK, execute, refused
from tests.process.test_start import plain_line, run

CANARY = "Канарейкин"
SECRET = "s3cret"
LOUD: dict[str, Any] = {"CLINIC_LOG_LEVEL": "debug"}


NUMBERS = itertools.count(1)


def one_more_is_in(table: str, clinic: ClinicProcess, folder: Path) -> bool:
    """Book one more, and tell whether any has come to a table."""
    clinic.book(next(NUMBERS), patient_name=CANARY)
    return bool(execute(folder, f"select 1 from {table}"))


def test_no_name_is_logged_whatever_fails(tmp_path: Path) -> None:
    with running(tmp_path, **QUICK, **LOUD, DEATH_LIMIT=0, ERROR_PROBABILITY=0.5) as clinic:
        assert clinic.book(patient_name=CANARY).status_code == 201
        wrongs: list[dict[str, Any]] = [
            {"patient_name": CANARY * 99},
            {CANARY: 1},
            {"date_time": CANARY},
        ]
        for wrong in wrongs:
            clinic.book(**{"patient_name": CANARY, **wrong})
        clinic.http.get(f"/appointment?patient_name={CANARY}")
        clinic.http.get(f"/{CANARY}")
        for step in ("insert on message", "insert on recorded", "insert on appointment"):
            with refused(tmp_path, step):
                number = hash(step) % 10**6
                clinic.book(number, patient_name=CANARY)
                until(lambda: "refuse" in clinic.log or "failed" in clinic.log)
        # Each event is set aside or recorded by the toss of a coin: three may all be set aside.
        for table in ("recorded", "message where queue = 'not_solved'"):
            until(partial(one_more_is_in, table, clinic, tmp_path))
        assert CANARY not in clinic.log
        # Messages hold no name either; only the book does.
        for table in ("event", "message", "recorded"):
            assert CANARY not in str(execute(tmp_path, f"select * from {table}"))


def test_a_bug_of_ours_is_answered_500_and_logged_without_the_name(tmp_path: Path) -> None:
    with running(tmp_path, **LOUD) as clinic, refused(tmp_path, "insert on appointment"):
        answer = clinic.book(patient_name=CANARY)
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert CANARY not in answer.text
        until(
            lambda: clinic.log.count("POST /appointment failed") == 1 and "Traceback" in clinic.log
        )
        assert clinic.log.count("Traceback") == 1
        assert CANARY not in clinic.log


def test_no_password_is_printed(tmp_path: Path) -> None:
    away = f"clinic:{SECRET}@127.0.0.1:1"
    line = plain_line(run(tmp_path, "migrate", DATABASE_URL=f"postgresql://{away}/clinic", **LOUD))
    assert "PostgreSQL 127.0.0.1:1/clinic cannot be used" in line
    assert SECRET not in line
    assert SECRET not in plain_line(run(tmp_path, AMQP_URL=f"amqp://{away}/?heartbeat=0"))
    clinic = ClinicProcess(tmp_path, DATABASE_URL=f"postgresql://{away}/clinic", **LOUD)
    until(lambda: "PostgreSQL 127.0.0.1:1/clinic cannot be reached" in clinic.log)
    assert clinic.stop() == 0
    assert SECRET not in clinic.log
    clinic.close()
    with running(tmp_path, AMQP_URL=f"amqp://{away}/", **LOUD) as clinic:
        until(lambda: "RabbitMQ cannot be reached" in clinic.log)
        assert clinic.stop() == 0
        assert SECRET not in clinic.log
