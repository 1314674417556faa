"""The files of the embedded database: nobody else reads them, nobody replaces them unseen."""

import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.process.clinic import ClinicProcess, running, until
from tests.process.test_start import plain_line, run
from tests.timing import SLACK_SECONDS

FILES = ("clinic.db", "clinic.db-wal", "clinic.db-shm")


def delete(path: Path) -> None:
    path.unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    """Replace the file, as a person does who restores a backup."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.rename(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [delete, move_away, replace])
def test_no_booking_is_confirmed_into_a_file_that_nobody_finds_again(
    tmp_path: Path, harm: Callable[[Path], None], name: str
) -> None:
    with running(tmp_path) as clinic:
        assert clinic.book(0).status_code == 201
        harm(tmp_path / name)
        answers = [answer.status_code for number in range(1, 20) if (answer := ask(clinic, number))]
        assert set(answers) <= {503}
        assert clinic.wait() == 1
        last = clinic.log.splitlines()[-1]
        assert "CRITICAL" in last
        assert "was deleted or replaced" in last
        assert clinic.log.count("deleted or replaced") == 1
        assert "Traceback" not in clinic.log


def ask(clinic: ClinicProcess, number: int) -> httpx.Response | None:
    try:
        return clinic.book(number)
    except httpx.TransportError:
        return None  # it has ended


def test_an_idle_clinic_notices_it_too(tmp_path: Path) -> None:
    with running(tmp_path, "--role", "api") as clinic:
        replace(tmp_path / "clinic.db")
        began = time.monotonic()
        assert clinic.wait() == 1
        assert time.monotonic() - began < SLACK_SECONDS


def test_what_sqlite_itself_does_to_its_files_is_no_harm(tmp_path: Path) -> None:
    with running(tmp_path) as clinic:
        for number in range(3):
            assert clinic.book(number).status_code == 201
            other = sqlite3.connect(tmp_path / "clinic.db")
            other.execute("pragma wal_checkpoint(truncate)")
            other.execute("vacuum into 'copy.db'".replace("copy", str(tmp_path / f"copy{number}")))
            other.close()
        assert clinic.http.get("/health/ready").status_code == 200
        assert clinic.stop() == 0


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_only_the_owner_can_read_the_files(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with running(tmp_path) as clinic:
            assert clinic.book().status_code == 201
            for name in (*FILES, "clinic.db.lock"):
                assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
            assert clinic.stop() == 0
            assert "could read" not in clinic.log
    finally:
        os.umask(before)


def test_files_that_everybody_can_read_are_closed_and_that_is_said(tmp_path: Path) -> None:
    assert run(tmp_path, "migrate").returncode == 0
    database = tmp_path / "clinic.db"
    database.chmod(0o644)
    with running(tmp_path) as clinic:
        assert stat.S_IMODE(database.stat().st_mode) == 0o600
        assert clinic.log.count("could read") == 1
        assert clinic.stop() == 0
    database.chmod(0o640)  # for a group, on purpose
    with running(tmp_path) as clinic:
        assert stat.S_IMODE(database.stat().st_mode) == 0o640
        until(lambda: clinic.book().status_code == 201)
        assert clinic.stop() == 0


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a pipe"])
def test_no_name_of_something_else_is_taken_for_a_database(tmp_path: Path, kind: str) -> None:
    """Nor is anything done to it: a device would be closed to everybody else."""
    place = tmp_path / "place"
    if kind == "folder":
        place.mkdir(0o755)
    else:
        os.mkfifo(place, 0o644)
    place.chmod(0o755)
    named = tmp_path / "clinic.db"
    if kind == "link to a pipe":
        named.symlink_to(place)
    else:
        named = place
    line = plain_line(run(tmp_path, DATABASE_URL=f"sqlite:///{named}"))
    assert f"{named} cannot be used: it is no regular file" in line
    assert stat.S_IMODE(place.stat().st_mode) == 0o755
