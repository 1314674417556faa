"""``clinic closures``, as an administrator types it, beside a clinic that runs or without one."""

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clinic.cli import main
from clinic.database import DatabaseUnavailable, Dialect, OutcomeUnknown, migrate
from clinic.registry.closure_file import LARGEST_FILE
from clinic.registry.importing import Importing
from clinic.registry.records import RegistryChanged
from tests.process.clinic import ROOT, ClinicProcess, running, until
from tests.process.environment import clean_environment
from tests.timing import PATIENCE_SECONDS

HOLIDAYS = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Holidays//EN
BEGIN:VEVENT
UID:christmas@example.org
DTSTART;VALUE=DATE:20471225
DTEND;VALUE=DATE:20471227
SUMMARY:Christmas
END:VEVENT
END:VCALENDAR
"""
DAY = "2047-12-25"
QUESTION = "Do all of this? [y/N] "


class Administrator:
    """Somebody at a prompt in the clinic's folder, who answers no questions."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
    ) -> None:
        self.folder = folder
        self.settings = {"CLINIC_TIMEZONE": "Europe/Berlin", **settings}
        (folder / "holidays.ics").write_text(HOLIDAYS)
        monkeypatch.chdir(folder)
        for name, value in self.settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdin", io.StringIO())

    def types(self, *arguments: object, status: int = 0) -> str:
        """Run a command and return what it prints, and with another status what it complains of."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                found = main(["closures", *map(str, arguments)])
            except SystemExit as ended:  # of argparse
                found = int(ended.code or 0)
        assert found == status, out.getvalue() + err.getvalue()
        return out.getvalue() if status == 0 else out.getvalue() + err.getvalue()

    def reads(self, *arguments: object, status: int = 0) -> Any:
        """Run a command for a program and return its JSON."""
        return json.loads(self.types(*arguments, "--json", status=status))


@pytest.fixture(params=list(Dialect))
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    make: Callable[[Dialect], str] = request.getfixturevalue("make_database")
    url = make(request.param)  # SQLite's is clinic.db in the folder of the test
    return {} if request.param is Dialect.SQLITE else {"DATABASE_URL": url}


@pytest.fixture
def admin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> Administrator:
    return Administrator(tmp_path, monkeypatch, settings)


@pytest.fixture
def clinic(admin: Administrator) -> Iterator[ClinicProcess]:
    with running(admin.folder, **admin.settings) as process:
        yield process
        assert process.stop() == 0


def test_a_folder_without_a_clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Administrator(tmp_path, monkeypatch, {})
    for arguments in (["list"], ["import", "holidays.ics", "--yes"]):
        assert "there is no clinic.db here" in admin.types(*arguments, status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["holidays.ics"]
    assert main(["migrate"]) == 0
    assert admin.reads("list") == []


def test_before_a_clinic_has_ever_run(admin: Administrator) -> None:
    said = admin.types("import", "holidays.ics", "--dry-run")
    assert "new  2047-12-25  2047-12-26  the clinic  Christmas" in said
    assert "holidays.ics: 1 new, 0 known already." in said
    assert admin.reads("list") == []
    assert admin.types("import", "holidays.ics", "--yes").endswith("Imported.\n")
    assert "1 known already" in admin.types("import", "holidays.ics", "--yes")
    (closure,) = admin.reads("list")
    assert closure == {
        "id": closure["id"],
        "office_number": None,
        "doctor_name": None,
        "begins": "2047-12-25T00:00:00",
        "ends": "2047-12-27T00:00:00",
        "reason": "Christmas",
        "appointments_count": 0,
    }


def test_beside_a_clinic_that_runs(admin: Administrator, clinic: ClinicProcess) -> None:
    numbers = [clinic.book(n, date_time=f"{DAY}T10:00:00").json()["id"] for n in range(3)]
    clinic.http.patch(f"/appointment/{numbers[0]}", json={"status": "arrived"})
    done = admin.reads("import", "holidays.ics", "--yes")
    assert done["imported"] is True
    assert [one["id"] for one in done["appointments"]] == numbers
    closure = done["new"][0]["id"]
    assert done["new"][0]["appointments_count"] == 3
    # It counts at once.
    refused = clinic.book(7, date_time=f"{DAY}T10:00:00")
    assert (refused.status_code, refused.json()["type"]) == (409, "/docs#closed")
    assert "Иван" not in admin.types("cancel", closure, "--reason", "a holiday", "--dry-run")
    until(lambda: clinic.totals() == {"booked": 3, "arrived": 1})
    said = admin.types("cancel", closure, "--reason", "a holiday", "--yes", status=1)
    assert "2 appointments cancelled." in said
    assert "It is arrived" in said
    # The events of the command are published by the clinic that runs.
    until(lambda: clinic.totals() == {"booked": 3, "arrived": 1, "cancelled": 2})
    last = clinic.http.get(f"/appointment/{numbers[1]}/events").json()[-1]
    assert (last["type"], last["reason"]) == ("appointment.cancelled", "a holiday")
    assert admin.reads("list")[0]["appointments_count"] == 1
    again = admin.reads("cancel", closure, "--reason", "a holiday", "--yes", status=1)
    assert again["cancelled"] == []


def test_whose_closures_they_are(admin: Administrator, clinic: ClinicProcess) -> None:
    clinic.http.post("/doctor", json={"name": "Доктор Ватсон"})
    wrong = ("--doctor", "Доктор Ватсан", "--yes")
    refused = admin.types("import", "holidays.ics", *wrong, status=2)
    assert "there is no doctor of this name: did you mean Доктор Ватсон?" in refused
    admin.types("import", "holidays.ics", "--doctor", "доктор ватсон", "--yes")
    assert clinic.book(date_time=f"{DAY}T10:00:00").status_code == 201
    there = {"date_time": f"{DAY}T10:00:00", "doctor_name": "Доктор Ватсон"}
    assert clinic.book(2, **there).status_code == 409
    assert "Доктор Ватсон  Christmas" in admin.types("list")


MAY = """\
BEGIN:VEVENT
UID:may@example.org
DTSTART;VALUE=DATE:20200501
RRULE:FREQ=YEARLY
SUMMARY:May
END:VEVENT
"""


def test_all_that_a_person_reads(admin: Administrator, clinic: ClinicProcess) -> None:
    day = {"date_time": f"{DAY}T10:00:00", "doctor_name": "Доктор Ватсон"}
    number = clinic.book(1, **day).json()["id"]
    said = admin.types("import", "holidays.ics", "--yes")
    assert "They stay until somebody moves or cancels them:" in said
    assert f"{DAY} 10:00  10:15  office 1  Доктор Ватсон  booked" in said
    (closure,) = admin.reads("list")
    assert f"Appointments stand in the closures {closure['id']}." in said
    file = admin.folder / "holidays.ics"
    file.write_text(HOLIDAYS.replace("Christmas", "X-mas").replace("END:VCAL", MAY + "END:VCAL"))
    said = admin.types("import", "holidays.ics", "--yes")
    assert "3 new, 1 changed, 0 known already." in said
    assert "changed  2047-12-25  2047-12-26  the clinic  X-mas" in said
    assert "Days that recur each year are read until " in said
    called_off = HOLIDAYS.replace("SUMMARY", "STATUS:CANCELLED\nSUMMARY")
    file.write_text(called_off.replace("20471225", "20271225"))
    assert "1 event called off" in admin.types("import", "holidays.ics", "--dry-run")
    said = admin.types("cancel", closure["id"], "--reason", "a holiday", "--yes")
    assert said.splitlines()[0].startswith("ID  FROM")
    assert said.splitlines()[1].strip().startswith(str(number))
    assert said.endswith("1 appointment cancelled.\n")
    assert "No appointments stand" in admin.types("cancel", closure["id"], "--reason", "r", "--yes")
    clinic.http.delete(f"/closure/{closure['id']}")
    assert "X-mas" not in admin.types("list", "--all")


def test_a_schedule_that_changes_meanwhile(
    admin: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def change(*_: object) -> None:
        raise RegistryChanged

    monkeypatch.setattr(Importing, "carry_out", change)
    said = admin.types("import", "holidays.ics", "--yes", status=1)
    assert "the schedule was changed meanwhile, and nothing was imported" in said
    assert admin.reads("list") == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DatabaseUnavailable("the disk is full"), "the disk is full. Nothing was done"),
        (OutcomeUnknown("no answer"), "no answer. It may have been done"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_an_outage_is_one_line(
    admin: Administrator, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Importing, "carry_out", fail)
    assert f"clinic: {said}" in admin.types("import", "holidays.ics", "--yes", status=1)


def test_a_wrong_file_changes_nothing(admin: Administrator) -> None:
    wrong = HOLIDAYS.replace("END:VCALENDAR", "BEGIN:VEVENT\nUID:2\nEND:VEVENT\nEND:VCALENDAR")
    (admin.folder / "wrong.ics").write_text(wrong)
    for arguments in (["--yes"], ["--dry-run"]):
        said = admin.types("import", "wrong.ics", *arguments, status=1)
        assert "  10  this event has no DTSTART: say when it begins" in said
    found = admin.reads("import", "wrong.ics", "--yes", status=1)
    assert (found["imported"], [one["line"] for one in found["wrong"]]) == (False, [10])
    assert admin.reads("list", "--all") == []


def test_wrong_arguments(admin: Administrator) -> None:
    assert "No such file" in admin.types("import", "nothing.ics", "--yes", status=2)
    assert "Is a directory" in admin.types("import", ".", "--yes", status=2)
    (admin.folder / "large.ics").write_bytes(b" " * (LARGEST_FILE + 1))
    assert "divide it" in admin.types("import", "large.ics", "--yes", status=2)
    assert "add --yes" in admin.types("import", "holidays.ics", status=2)
    assert "add --yes" in admin.types("cancel", 1, "--reason", "r", status=2)
    assert "must not be empty" in admin.types("cancel", 1, "--reason", " ", "--yes", status=2)
    assert "there is no closure 7" in admin.types("cancel", 7, "--reason", "r", "--yes", status=2)
    assert "what to do" in admin.types("--help")
    admin.types(status=2)
    both = ("--office", "1", "--doctor", "2")
    assert "not allowed with" in admin.types("import", "holidays.ics", *both, status=2)


def test_a_database_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/clinic"}
    admin = Administrator(tmp_path, monkeypatch, away)
    assert "cannot be used" in admin.types("list", status=2)


def test_somebody_is_asked_on_a_terminal(tmp_path: Path) -> None:
    """The real process, on a terminal of its own."""
    migrate(f"sqlite:///{tmp_path / 'clinic.db'}")
    (tmp_path / "holidays.ics").write_text(HOLIDAYS)
    for answer, status in (("n\n", 1), ("Ctrl-C", 1), ("\x04", 1), ("y\n", 0)):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, ROOT / "clinic.py", "closures", "import", "holidays.ics"],
            cwd=tmp_path,
            env=clean_environment({}),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(theirs)
        assert process.stderr
        assert process.stderr.read(len(QUESTION)) == QUESTION
        if answer == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        else:
            os.write(ours, answer.encode())
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        os.close(ours)
        assert (process.returncode, err.strip()) == (status, "")
        assert out.endswith("Imported.\n") is (answer == "y\n")
