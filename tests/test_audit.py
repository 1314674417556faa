"""The check of the lock files against known vulnerabilities, by advisories made for it."""

import datetime
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "advisories.py"
TODAY = datetime.datetime.now(datetime.UTC).isoformat()
LOCK = """\
starlette==1.0.1 \\
    --hash=sha256:00
uvicorn[standard]==0.30.0 ; sys_platform != 'win32' \\
    --hash=sha256:00
Typing_Extensions==4.12.2
"""


def advisory(name: str = "starlette", **fields: Any) -> dict[str, Any]:
    affected = {"package": {"ecosystem": "PyPI", "name": name}}
    known = {name: fields.pop(name) for name in ("versions", "ranges") if name in fields}
    return {
        "id": "PYSEC-1",
        "aliases": ["CVE-1"],
        "summary": "It breaks",
        "modified": TODAY,
        "affected": [affected | known],
        **fields,
    }


def events(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"type": "ECOSYSTEM", "events": [{kind: version} for kind, version in pairs]}]


def audit(folder: Path, *advisories: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    (folder / "requirements.txt").write_text(LOCK)
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for number, one in enumerate(advisories):
            archive.writestr(f"PYSEC-{number}.json", json.dumps(one))
    return check(folder, folder / "all.zip")


def check(folder: Path, file: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, SCRIPT, file, "--locks", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"versions": ["1.0.0", "1.0.1"]}, True),
        ({"versions": ["1.0.0"]}, False),
        ({"ranges": events(("introduced", "0"), ("fixed", "1.0.2"))}, True),
        ({"ranges": events(("introduced", "0"), ("fixed", "1.0.1"))}, False),
        ({"ranges": events(("introduced", "1.0.2"))}, False),
        ({"ranges": events(("introduced", "0.9"), ("last_affected", "1.0.1"))}, True),
        ({"ranges": events(("introduced", "0.9"), ("last_affected", "1.0.0"))}, False),
        (
            {"ranges": events(("introduced", "0"), ("fixed", "0.5"), ("introduced", "1.0"))},
            True,
        ),
        ({"versions": ["1.0.1"], "withdrawn": TODAY}, False),
        ({"name": "uvicorn", "versions": ["0.30.0"]}, True),
        ({"name": "typing-extensions", "versions": ["4.12.2"]}, True),
        ({"name": "django", "versions": ["1.0.1"]}, False),
    ],
)
def test_what_is_locked_is_looked_up(
    tmp_path: Path, fields: dict[str, Any], *, found: bool
) -> None:
    done = audit(tmp_path, advisory(**fields))
    assert done.returncode == (1 if found else 0), done.stderr
    assert ("PYSEC-1, CVE-1: It breaks" in done.stdout) is found
    assert "3 packages, 1 advisories" in done.stdout


def test_what_could_not_be_checked_is_no_success(tmp_path: Path) -> None:
    old = audit(tmp_path, advisory(versions=["9"], modified="2020-01-01T00:00:00Z"))
    assert (old.returncode, "older than 30 days" in old.stdout) == (3, True)
    empty = audit(tmp_path)
    assert (empty.returncode, "nothing was checked" in empty.stderr) == (3, True)
    for content in (b"", b"PK", b"x" * 100):
        (tmp_path / "all.zip").write_bytes(content)
        done = check(tmp_path, tmp_path / "all.zip")
        assert (done.returncode, "nothing was checked" in done.stderr) == (3, True)
    missing = check(tmp_path, tmp_path / "none.zip")
    assert (missing.returncode, "nothing was checked" in missing.stderr) == (3, True)
