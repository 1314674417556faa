"""The README, tried as a newcomer would: its tour, its list of settings, its picture."""

import re
import subprocess
from functools import partial
from pathlib import Path

import pytest

import clinic
from clinic.settings import Settings
from tests.process.clinic import ROOT, running, until

README = (ROOT / "README.md").read_text()


def steps() -> list[tuple[str, str]]:
    """Return the commands of the tour, each with what it says it prints."""
    return re.findall(r"```console\n\$ (.*)\n(.*)\n```", README)


def prints(command: str, expected: str) -> bool:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    pattern = re.escape(expected).replace(re.escape("..."), "-?[0-9]+")
    return re.fullmatch(pattern, done.stdout) is not None


def test_the_tour_gives_what_it_says(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        assert len(steps()) == 7
        for command, expected in steps():
            here = command.replace("http://127.0.0.1:8000", process.url)
            until(partial(prints, here, expected))


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
        "clinic/operating",
    ],
)
def test_every_map_names_every_room(folder: str) -> None:
    drawn = (ROOT / folder / "__init__.py").read_text()
    for path in sorted((ROOT / folder).iterdir()):
        if not path.name.startswith("__"):
            assert path.stem in drawn, f"{path.name} is not on the map of {folder}"
