"""Who did what: in the audit, and in the events of appointments."""

import csv
import io
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.process.clinic import ClinicProcess, running
from tests.process.test_start import run

CANARY = "Канарейкин"
MORNING = {"opens": "08:00", "closes": "12:00"}


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    return {
        name: run(tmp_path, "token", "make", name, "--permission", permission).stdout.strip()
        for name, permission in (("Anna", "desk"), ("boss", "administer"))
    }


def sent(secrets: dict[str, str], name: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secrets[name]}", **more}


def audit(clinic: ClinicProcess, secrets: dict[str, str], query: str = "") -> list[dict[str, Any]]:
    answer = clinic.http.get(f"/audit{query}", headers=sent(secrets, "boss"))
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()
    return found


def test_each_change_has_who_made_it_and_by_which_request(
    tmp_path: Path, secrets: dict[str, str]
) -> None:
    with running(tmp_path) as clinic:
        anna, boss = sent(secrets, "Anna"), sent(secrets, "boss")
        body = {
            "patient_name": CANARY,
            "office_number": "221B",
            "date_time": "2027-12-01T15:30:00",
            "note": CANARY,
        }
        booked = clinic.http.post(
            "/appointment", json=body, headers={**anna, "X-Request-ID": "my-request.1"}
        )
        assert booked.headers["X-Request-ID"] == "my-request.1"
        moved = clinic.http.patch(
            "/appointment/1", json={"date_time": "2027-12-01T16:30:00"}, headers=boss
        )
        events = clinic.http.get("/appointment/1/events", headers=anna).json()
        assert [(one["actor"], one["requestid"]) for one in events] == [
            ("Anna", "my-request.1"),
            ("boss", moved.headers["X-Request-ID"]),
        ]
        changes = [
            ("POST", "/doctor", {"name": "Dr Watson"}, "doctor.registered"),
            ("PATCH", "/office/1", {"name": "221C"}, "office.changed"),
            ("POST", "/hours", {"week": {"monday": [MORNING]}}, "hours.set"),
            ("PATCH", "/hours/1", {"valid_until": "2027-12-31"}, "hours.changed"),
            ("DELETE", "/hours/1", None, "hours.removed"),
            (
                "POST",
                "/closure",
                {"begins": "2028-01-01T00:00", "ends": "2028-01-02T00:00", "reason": "holiday"},
                "closure.made",
            ),
            ("DELETE", "/closure/1", None, "closure.removed"),
            (
                "POST",
                "/appointment-type",
                {"name": "long", "duration_minutes": 60},
                "appointment_type.added",
            ),
            ("PATCH", "/appointment-type/1", {"duration_minutes": 90}, "appointment_type.changed"),
        ]
        for method, path, change, action in changes:
            answer = clinic.http.request(method, path, json=change, headers=boss)
            assert answer.status_code < 300, answer.text
            newest = audit(clinic, secrets, "?limit=1")[0]
            assert newest["action"] == action
            assert newest["actor"] == "boss"
            assert newest["request_id"] == answer.headers["X-Request-ID"]
        # The first booking with a name registers it: whoever booked did so.
        (registered,) = audit(clinic, secrets, "?action=office.registered")
        assert registered["actor"] == "Anna"
        assert registered["request_id"] == "my-request.1"
        assert {one["action"] for one in audit(clinic, secrets, "?actor=cli")} == {"token.made"}
        assert CANARY not in str(audit(clinic, secrets))
        assert secrets["Anna"] not in str(audit(clinic, secrets))


def test_what_is_refused_is_not_in_the_audit(tmp_path: Path, secrets: dict[str, str]) -> None:
    with running(tmp_path) as clinic:
        before = audit(clinic, secrets)
        boss = sent(secrets, "boss")
        for method, path, body in (
            ("PATCH", "/office/7", {"name": "x"}),
            ("DELETE", "/hours/7", None),
            ("DELETE", "/closure/7", None),
            ("POST", "/office", {"name": ""}),
        ):
            answer = clinic.http.request(method, path, json=body, headers=boss)
            assert answer.status_code in {404, 422}
        desk = clinic.http.post("/office", json={"name": "x"}, headers=sent(secrets, "Anna"))
        assert desk.status_code == 403
        assert audit(clinic, secrets) == before


def test_patients_that_are_read_in_bulk_are_in_the_audit(
    tmp_path: Path, secrets: dict[str, str]
) -> None:
    with running(tmp_path) as clinic:
        anna = sent(secrets, "Anna")
        for query in ("?limit=50", "?limit=1&office_number=1"):
            clinic.http.get(f"/appointment{query}", headers=anna)
        assert not audit(clinic, secrets, "?action=list.read")
        bulk = ["", "?limit=500", f"?patient={CANARY}", "?from=2027-12-01&limit=51"]
        for query in bulk:
            assert clinic.http.get(f"/appointment{query}", headers=anna).status_code == 200
        read = audit(clinic, secrets, "?action=list.read")
        assert [one["detail"]["parameters"] for one in reversed(read)] == [
            [],
            ["limit"],
            ["patient"],
            ["from", "limit"],
        ]
        assert {one["actor"] for one in read} == {"Anna"}
        assert CANARY not in str(read)


def test_the_audit_is_read_page_by_page_and_as_csv(tmp_path: Path, secrets: dict[str, str]) -> None:
    with running(tmp_path) as clinic:
        boss = sent(secrets, "boss")
        for number in range(7):
            clinic.http.post("/office", json={"name": f"=office {number}"}, headers=boss)
        everything = audit(clinic, secrets)
        found, path = [], "/audit?limit=2"
        while path:
            answer = clinic.http.get(path, headers=boss)
            assert len(answer.json()) <= 2
            found += answer.json()
            path = answer.links.get("next", {}).get("url", "")
        assert found == everything
        lines = clinic.http.get("/audit", headers={**boss, "Accept": "text/csv"}).content
        rows = list(csv.DictReader(io.StringIO(lines.decode("utf-8-sig"))))
        assert [row["action"] for row in rows] == [one["action"] for one in everything]
        assert audit(clinic, secrets, "?subject=office/1")[0]["detail"] == {"name": "=office 0"}
        today = everything[0]["at"][:10]
        assert audit(clinic, secrets, f"?from={today}&to={today}") == everything
        assert audit(clinic, secrets, "?to=2020-01-01") == []
        for wrong in ("?limit=0", "?limit=501", "?before=x", "?actor=%00", "?who=me", "?from=x"):
            assert clinic.http.get(f"/audit{wrong}", headers=boss).status_code == 422


def test_a_request_id_is_taken_over_only_if_it_is_harmless(tmp_path: Path) -> None:
    with running(tmp_path) as clinic:
        for given in ("a", "0193c7a5-5c1e-7d2b-9f0e-6a1f0d3c2b1a", "a.b:c/d+e=f@g_h", "x" * 100):
            answer = clinic.http.get("/office", headers={"X-Request-ID": given})
            assert answer.headers["X-Request-ID"] == given
        for given in ("", "a b", "a,b", "<b>", "x" * 101, '"', "é"):
            answer = clinic.http.get("/office", headers={b"X-Request-ID": given.encode("latin-1")})
            assert answer.headers["X-Request-ID"] not in {given, ""}


def test_what_cannot_be_written_down_is_not_read(tmp_path: Path, secrets: dict[str, str]) -> None:
    with running(tmp_path) as clinic:
        assert clinic.http.get("/appointment", headers=sent(secrets, "Anna")).status_code == 200
        connection = sqlite3.connect(tmp_path / "clinic.db")
        connection.execute("alter table audit rename to audit_away")
        connection.commit()
        answer = clinic.http.get("/appointment", headers=sent(secrets, "Anna"))
        assert answer.status_code == 503
        office = clinic.http.post("/office", json={"name": "x"}, headers=sent(secrets, "boss"))
        assert office.status_code == 503
        assert clinic.http.get("/office", headers=sent(secrets, "Anna")).json() == []
        connection.close()
