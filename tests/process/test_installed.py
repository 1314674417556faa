"""What one can install: a wheel with the command ``clinic``, and an executable without Python."""

import json
import os
import platform
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from clinic import __version__
from clinic.database.migration import MIGRATIONS
from tests.process.clinic import ClinicProcess, running, until
from tests.process.environment import clean_environment
from tests.servers import Postgres, Rabbit

ROOT = Path(__file__).parents[2]
EXECUTABLE = f"clinic-{__version__}-linux-{platform.machine()}"
DIRECTORIES = [path for path in sys.path if path.endswith("site-packages")]


def book_and_count(clinic: ClinicProcess) -> None:
    assert clinic.book().status_code == 201
    until(lambda: clinic.totals() == {"booked": 1})
    assert "clinic" in clinic.http.get("/docs").text
    assert clinic.stop() == 0, clinic.log


def build(target: str, to: Path) -> Path:
    """Build from a copy of the files that git knows or would add, without any others."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    source = to / "source"
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(to / "dist")]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = (to / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def test_a_wheel_has_the_migrations_and_the_files_of_the_pages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in ((MIGRATIONS, "clinic/migrations"), (ROOT / "clinic", "clinic")):
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{inside}/{path.relative_to(folder)}" in names
    assert not [name for name in names if not name.startswith(("clinic/", "clinic-"))]


def test_a_wheel_from_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", tmp_path / "sdist")
    subprocess.run(["tar", "xzf", sdist, "-C", tmp_path], check=True)
    source = tmp_path / f"clinic-{__version__}"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_command_of_a_wheel_books_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--quiet"]
    subprocess.run(
        [*install, "--python", python, wheel], check=True, env={"PATH": "", "HOME": str(tmp_path)}
    )
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # The clinic's dependencies are installed here already.
    (site / "installed.pth").write_text("\n".join(DIRECTORIES))
    empty = tmp_path / "empty"
    empty.mkdir()
    command = tmp_path / "venv" / "bin" / "clinic"
    said = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"clinic {__version__}\n"
    with running(empty, program=[command]) as clinic:
        book_and_count(clinic)
    assert (empty / "clinic.db").exists()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which everything lies that is released."""
    to = tmp_path_factory.mktemp("release")
    environment = clean_environment({}) | {"HOME": os.environ.get("HOME", "/")}
    subprocess.run([ROOT / "scripts" / "build", to], check=True, env=environment)
    return to


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_release_has_checksums_and_names_all_that_is_inside(release: Path, wheel: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    checked = subprocess.check_output(command, cwd=release, text=True)
    names = {line.removesuffix(": OK") for line in checked.splitlines()}
    bill = f"clinic-{__version__}.cdx.json"
    sdist = f"clinic-{__version__}.tar.gz"
    assert names == {wheel.name, sdist, bill, EXECUTABLE}
    assert names | {"SHA256SUMS"} == {path.name for path in release.iterdir()}
    assert (release / wheel.name).read_bytes() == wheel.read_bytes()

    named = json.loads((release / bill).read_text())
    assert named["metadata"]["component"]["name"] == "clinic"
    inside = {f"{each['name']}=={each['version']}" for each in named["components"]}
    lock = (ROOT / "requirements.txt").read_text()
    assert inside == set(re.findall(r"^[^\s;]+==[^\s;]+", lock, re.MULTILINE))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("servers", ["none", "postgresql and rabbitmq"])
def test_an_executable_books_where_no_python_is(
    release: Path, tmp_path: Path, request: pytest.FixtureRequest, servers: str
) -> None:
    named: dict[str, Any] = {}
    if servers != "none":
        postgres: Postgres = request.getfixturevalue("postgres")
        rabbit: Rabbit = request.getfixturevalue("rabbit")
        named = {
            "DATABASE_URL": postgres.create_database("executable"),
            "AMQP_URL": rabbit.create_vhost("executable"),
        }
    empty = tmp_path / "empty"
    empty.mkdir()
    with running(
        empty, program=[release / EXECUTABLE], PATH=str(tmp_path / "no programs"), **named
    ) as clinic:
        book_and_count(clinic)
