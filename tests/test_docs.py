"""What the documents cite is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
# How docs/libraries.md cites a test.
CITED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def test_every_test_that_is_said_to_hold_a_fact_is_there() -> None:
    cited = set(CITED.findall((ROOT / "docs" / "libraries.md").read_text()))
    assert len(cited) > 20
    files = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    missing = [f"{file}::{name}" for file, name in cited if f"def {name}(" not in files[file]]
    assert not missing
