"""Starting: one plain line says why the clinic cannot start."""

import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from clinic import __version__
from tests.process.clinic import ROOT, ClinicProcess, running, until
from tests.process.environment import clean_environment
from tests.servers import free_port
from tests.timing import PATIENCE_SECONDS


def run(folder: Path, *arguments: str, **environment: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "clinic.py"), *arguments],
        cwd=folder,
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def plain_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a failed start prints."""
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("clinic: ")
    return line


def test_version_and_help(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout == f"clinic {__version__}\n"
    said = run(tmp_path, "--help").stdout
    for word in ("--role", "--host", "--port", "migrate", ".env.example", "exit status"):
        assert word in said
    assert list(tmp_path.iterdir()) == []


def test_migrate_makes_the_database_and_ends(tmp_path: Path) -> None:
    done = run(tmp_path, "migrate")
    assert done.returncode == 0
    assert "migrated: 0002.clinic" in done.stderr
    assert (tmp_path / "clinic.db").exists()
    assert run(tmp_path, "migrate").stderr == ""


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = plain_line(run(tmp_path, "--port", str(port)))
    assert f"cannot listen on 127.0.0.1:{port}" in line
    assert "--port" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [("CLINIC_PORT", "http"), ("CLINIC_TIMEZONE", "../etc"), ("ERROR_PROBABILITY", "nan")],
)
def test_an_impossible_setting(tmp_path: Path, name: str, value: str) -> None:
    """A few of those that ``tests/test_settings.py`` has."""
    assert plain_line(run(tmp_path, **{name: value})).startswith(f"clinic: {name}: ")
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_flag(tmp_path: Path) -> None:
    assert plain_line(run(tmp_path, "--port", "0")).startswith("clinic: CLINIC_PORT: ")
    done = run(tmp_path, "--rule", "api")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_misspelt_name_in_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DEATH_LIMT=3\nPOSTGRES_PASSWORD=x\n")
    assert "DEATH_LIMT in .env is not a setting; did you mean DEATH_LIMIT?" in plain_line(
        run(tmp_path)
    )


def test_a_database_url_is_never_printed(tmp_path: Path) -> None:
    line = plain_line(run(tmp_path, DATABASE_URL="mysql://clinic:s3cret@db/clinic"))
    assert "DATABASE_URL" in line
    assert "s3cret" not in line


def test_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "clinic.db").write_text("something else" * 1000)
    assert "clinic.db cannot be used" in plain_line(run(tmp_path))


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "clinic.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "is missing here" in done.stderr
    assert "Traceback" not in done.stderr


def test_flags_then_environment_then_env_file_then_defaults(tmp_path: Path) -> None:
    in_file, in_environment, flag = free_port(), free_port(), free_port()
    (tmp_path / ".env").write_text(f"CLINIC_PORT={in_file}\nCLINIC_ROLE=api\n")
    with running(tmp_path, port=flag, CLINIC_PORT=in_environment) as clinic:
        assert set(clinic.http.get("/health/ready").json()["parts"]) == {
            "http",
            "booking",
            "relay",
            "operating",
            "database",
        }
        assert clinic.stop() == 0
        assert f"role api, on http://127.0.0.1:{flag}" in clinic.log


def test_two_processes_may_start_together_on_one_file(tmp_path: Path) -> None:
    clinics = [ClinicProcess(tmp_path, "--role", "api") for _ in range(2)]
    try:
        for clinic in clinics:
            clinic.until_ready()
        assert all(clinic.book(number).status_code == 201 for number, clinic in enumerate(clinics))
        assert [clinic.stop() for clinic in clinics] == [0, 0]
    finally:
        for clinic in clinics:
            clinic.close()
    connection = sqlite3.connect(tmp_path / "clinic.db")
    assert connection.execute("select count(*) from appointment").fetchone() == (2,)
    connection.close()


@pytest.mark.parametrize("role", ["all", "api", "consumer"])
def test_every_role_tells_of_its_health(tmp_path: Path, role: str) -> None:
    with running(tmp_path, "--role", role) as clinic:
        assert clinic.http.get("/health/live").json() == {"status": "live"}

        def all_up() -> bool:
            # It is ready before all parts are up: it can book without the relay, for example.
            ready = clinic.http.get("/health/ready").json()
            assert ready["status"] in ("ready", "degraded")
            states = {part["state"] for part in ready["parts"].values()}
            return ready["status"] == "ready" and states == {"up"}

        until(all_up)
        expected = 404 if role == "consumer" else 200
        assert clinic.http.get("/appointment").status_code == expected
