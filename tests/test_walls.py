"""The walls of the house hold for what is not built yet: a new module is guarded at once."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import clinic

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


def names(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_the_map_the_readme_and_the_linter_draw_the_house_that_there_is() -> None:
    """The same rooms, on the same floors, in the same order."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(one for one in contracts["contracts"] if one["type"] == "layers")["layers"]
    # What stands in brackets is not built yet.
    linter = [names(layer) for layer in layers if "(" not in layer and layer != "__main__"]

    there = {path.stem for path in (ROOT / "clinic").glob("*.py")} - {"__init__", "__main__"}
    there |= {path.parent.name for path in (ROOT / "clinic").glob("*/__init__.py")}
    assert set.union(*linter) == there

    floors = re.findall(r"^    (\w+)  [^|\n]*(?:\| (\w+)  .*)?$", str(clinic.__doc__), re.MULTILINE)
    assert [{name for name in floor if name} for floor in floors] == linter

    readme = (ROOT / "README.md").read_text()
    listed = readme[readme.index("    clinic/\n") : readme.index("    migrations/")]
    assert [names(line[6:30]) for line in listed.splitlines()[1:]] == linter
