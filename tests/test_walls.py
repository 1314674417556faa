"""The walls of the house hold for what is not built yet: a new module is guarded at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What somebody may add one day, and the wall that it would break.
TRESPASSES = {
    "clinic/messaging/replay.py": ("import aiormq", "Only clinic.messaging.rabbitmq knows aiormq"),
    "clinic/pages/board.py": ("import sqlite3", "Only clinic.database knows the database"),
    "clinic/operating/doctor.py": ("from asyncpg import connect", "Only clinic.database knows"),
    "clinic/analytics/chart.py": ("from clinic.settings import Settings", "see the settings"),
    "clinic/events_of_today.py": ("from clinic.settings import Settings", "see the settings"),
    "clinic/messaging/asking.py": ("from clinic.appointments import desk", "downwards only"),
    "clinic/analytics/looking.py": ("from clinic.appointments import desk", "downwards only"),
    "clinic/helpers.py": ("import json", "downwards only"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the house in which modules can be added."""
    copy = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "clinic", copy / "clinic", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "clinic.py", copy)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def broken(house: Path) -> str:
    """Return what the linter says of the house, or nothing if every wall is kept."""
    lint = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run(
        [lint, "--no-cache"], cwd=house, capture_output=True, text=True, check=False, timeout=60
    )
    return "" if found.returncode == 0 else found.stdout + found.stderr


def test_the_walls_are_kept(house: Path) -> None:
    assert broken(house) == ""


@pytest.mark.parametrize("path", TRESPASSES)
def test_a_new_module_is_guarded_at_once(house: Path, path: str) -> None:
    words, wall = TRESPASSES[path]
    added = house / path
    new_folder = not added.parent.exists()
    added.parent.mkdir(exist_ok=True)
    (added.parent / "__init__.py").touch()
    added.write_text(words + "\n")
    try:
        assert wall in broken(house)
    finally:
        added.unlink()
        if new_folder:
            shutil.rmtree(added.parent)
