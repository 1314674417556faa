"""The README, tried as a newcomer would: its tour, its list of settings, its picture."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import clinic
from clinic.settings import Settings
from tests.process.clinic import ROOT, ClinicProcess, running, until
from tests.process.environment import clean_environment

README = (ROOT / "README.md").read_text()
SETTING_UP = "Setting up a clinic"


def section(title: str) -> str:
    """Return what stands below a heading of the README."""
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def steps(title: str) -> list[tuple[str, str]]:
    """Return the commands of a section, each with what it says it prints."""
    return re.findall(r"```console\n\$ (.*)\n((?:.*\n)*?)```", section(title))


def prints(clinic: ClinicProcess, folder: Path, command: str, expected: str) -> bool:
    """Tell whether a command, typed in the clinic's folder, prints what it should."""
    here = command.replace("http://127.0.0.1:8000", clinic.url)
    # It starts the same, and installs what is needed before.
    here = here.replace("scripts/run", f"{sys.executable} {ROOT / 'clinic.py'}")
    done = subprocess.run(
        here,
        shell=True,
        cwd=folder,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        check=True,
    )
    pattern = re.escape(expected.rstrip()).replace(re.escape("..."), "-?[0-9][0-9TZ:-]*")
    return re.fullmatch(pattern, done.stdout.rstrip()) is not None


def test_the_tour_and_the_setting_up_give_what_they_say(tmp_path: Path) -> None:
    with running(tmp_path) as clinic:
        assert len(steps("A tour")) == 7
        for command, expected in steps("A tour"):
            until(partial(prints, clinic, tmp_path, command, expected))
        files = re.findall(r"`(\S+)`:\n\n```ics\n((?:.*\n)*?)```", section(SETTING_UP))
        for name, text in files:
            (tmp_path / name).write_text(text)
        assert (len(files), len(steps(SETTING_UP))) == (1, 11)
        for command, expected in steps(SETTING_UP):
            assert prints(clinic, tmp_path, command, expected), command


def test_every_setting_is_explained_in_env_example() -> None:
    explained = re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    names = [
        str(name)
        for field in Settings.model_fields.values()
        for name in field.validation_alias.choices  # type: ignore[union-attr]
    ]
    assert sorted(explained) == sorted(names)


def test_the_readme_and_the_package_draw_the_same_picture() -> None:
    drawing = re.search(r"    HTTP ──(?s:.*?)not solved", README)
    assert drawing
    assert drawing.group() in str(clinic.__doc__)


@pytest.mark.parametrize(
    "folder",
    [
        "clinic",
        "clinic/database",
        "clinic/messaging",
        "clinic/web",
        "clinic/appointments",
        "clinic/analytics",
        "clinic/registry",
        "clinic/access",
        "clinic/operating",
    ],
)
def test_every_map_names_every_room(folder: str) -> None:
    drawn = (ROOT / folder / "__init__.py").read_text()
    for path in sorted((ROOT / folder).iterdir()):
        if not path.name.startswith("__"):
            assert path.stem in drawn, f"{path.name} is not on the map of {folder}"
