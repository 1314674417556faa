"""The command about patients: who is meant, what is shown, what is asked; and the retention."""

import datetime
import json
from pathlib import Path

from tests.process.clinic import running, until
from tests.process.test_kill import execute
from tests.process.test_start import plain_line, run

PHONE = "+7 912 345-67-89"


def test_nothing_is_done_until_it_is_clear_who_is_meant(tmp_path: Path) -> None:
    with running(tmp_path) as clinic:
        people = [
            ("Анна Ежикова", PHONE),
            ("АННА ЁЖИКОВА", None),
            ("Борис Ежиков", PHONE),
            ("Анна Ежикова", "8 800 555-35-35"),
        ]
        for number, (name, phone) in enumerate(people):
            clinic.book(number, patient_name=name, patient_phone=phone)
        shared = run(tmp_path, "patient", "erase", PHONE, "--yes")
        assert (shared.returncode, shared.stdout) == (1, "")
        assert "2 different names have this phone" in shared.stderr
        assert "Борис Ежиков" in shared.stderr
        several = run(tmp_path, "patient", "export", "анна ёжикова")
        assert (several.returncode, several.stdout) == (1, "")
        assert "2 different phones" in several.stderr
        exported = run(tmp_path, "patient", "export", PHONE, "--name", "анна ежикова", "--json")
        (found,) = json.loads(exported.stdout)["appointments"]
        assert (found["patient_name"], found["patient_phone"]) == ("Анна Ежикова", PHONE)
        assert [event["type"] for event in found["events"]] == ["appointment.booked"]
        # Without a terminal nobody can be asked.
        unasked = run(tmp_path, "patient", "erase", "Борис Ежиков")
        assert (unasked.returncode, unasked.stdout) == (1, "")
        assert "1 appointment, from 2027-12-01 to 2027-12-01" in unasked.stderr
        assert "--yes" in unasked.stderr
        done = run(tmp_path, "patient", "erase", "Анна Ежикова", "--without-phone", "--yes")
        assert (done.returncode, done.stdout) == (0, "Erased from 1 appointment.\n")
        names = [one["patient_name"] for one in clinic.http.get("/appointment").json()]
        assert names == ["Анна Ежикова", "(erased)", "Борис Ежиков", "Анна Ежикова"]
        until(lambda: clinic.totals() == {"booked": 4, "erased": 1})
        actions = execute(
            tmp_path, "select action, detail from audit where action like 'patient.%'"
        )
        assert actions == [
            ("patient.exported", '{"appointments":1}'),
            ("patient.erased", '{"appointments":1}'),
        ]
        assert clinic.stop() == 0


def test_what_means_nobody_is_said_in_one_line(tmp_path: Path) -> None:
    twice = run(tmp_path, "patient", "erase", PHONE, "--phone", PHONE)
    assert "given twice" in plain_line(twice)
    assert "no phone number" in plain_line(
        run(tmp_path, "patient", "erase", "Анна", "--phone", "1234")
    )


def test_patients_of_long_ago_are_erased_while_the_clinic_runs(tmp_path: Path) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    with running(tmp_path) as clinic:
        for number, age in enumerate((400, 31, 5, -5)):
            day = today - datetime.timedelta(days=age)
            clinic.book(number, date_time=f"{day}T12:00:00", note="a note")
        assert clinic.stop() == 0
    with running(tmp_path, CLINIC_RETENTION_DAYS=30) as clinic:
        until(
            lambda: (
                [one["patient_name"] for one in clinic.http.get("/appointment").json()]
                == ["(erased)", "(erased)", "Иван Иванов", "Иван Иванов"]
            )
        )
        until(lambda: clinic.totals() == {"booked": 4, "erased": 2})
        assert clinic.http.get("/health/ready").json()["parts"]["retention"]["state"] == "up"
        until(lambda: "erased from 2 appointments older than 30 days" in clinic.log)
        assert clinic.stop() == 0
    assert execute(
        tmp_path, "select actor, detail from audit where action = 'patient.expired'"
    ) == [("clinic", '{"appointments":2,"older_than_days":30}')]
