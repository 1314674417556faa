"""Clients that are generated from the description book by it, at the real process."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.process.clinic import ROOT, running

CLIENTS = ROOT / "tests" / "clients"
PROGRAMS = CLIENTS / ".venv" / "bin"
NODE_PROGRAMS = CLIENTS / "node_modules" / ".bin"

# The generators are installed by scripts/install-clients, which scripts/test-long calls.
pytestmark = pytest.mark.long


def run(folder: Path, *command: object) -> str:
    """Run a command that has to succeed, and return what it says."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=os.environ | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("clinic")) as clinic:
        yield clinic.url


@pytest.fixture
def folder(url: str, tmp_path: Path) -> Path:
    """A folder with the description that the process gives of itself."""
    document = httpx.get(f"{url}/openapi.json")
    (tmp_path / "openapi.json").write_bytes(document.content)
    return tmp_path


def test_openapi_python_client(url: str, folder: Path) -> None:
    made = run(
        folder,
        *(PROGRAMS / "openapi-python-client", "generate", "--path", "openapi.json"),
        *("--meta", "none", "--output-path", "clinic_client", "--fail-on-warning"),
    )
    assert "Unable" not in made
    run(folder, PROGRAMS / "python", CLIENTS / "booking_by_openapi_python_client.py", url)


def test_openapi_generator(url: str, folder: Path) -> None:
    run(
        folder,
        *(PROGRAMS / "openapi-generator-cli", "generate", "--generator-name", "python"),
        *("--input-spec", "openapi.json", "--output", "."),
    )
    run(folder, PROGRAMS / "python", CLIENTS / "booking_by_openapi_generator.py", url)


def test_openapi_typescript(url: str, folder: Path) -> None:
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "node_modules").symlink_to(CLIENTS / "node_modules")
    (folder / "booking.ts").write_bytes((CLIENTS / "booking.ts").read_bytes())
    run(folder, NODE_PROGRAMS / "openapi-typescript", "openapi.json", "-o", "description.ts")
    options = (
        "--strict",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--types",
        "node",
        "--skipLibCheck",
    )
    run(folder, NODE_PROGRAMS / "tsc", *options, "booking.ts")
    run(folder, "node", "booking.js", url)
