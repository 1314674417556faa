"""Check what the lock files name against known vulnerabilities (scripts/audit).

The advisories are those of https://osv.dev, in the form of https://ossf.github.io/osv-schema/: a
zip with a JSON file for each. Read from a file, nothing of this needs a network.
"""

import argparse
import datetime
import json
import re
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
PUBLISHED = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
FETCH_SECONDS = 60
# Advisories come daily; older ones than this say little.
OLDEST_DAYS = 30
PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)

FINE, VULNERABLE, UNCHECKED = 0, 1, 3


def locked(files: Iterable[Path]) -> dict[tuple[str, str], list[str]]:
    """Return what lock files name: each package and version, with the names of the files."""
    found: dict[tuple[str, str], list[str]] = {}
    for file in files:
        for name, version in PINNED.findall(file.read_text()):
            found.setdefault((str(canonicalize_name(name)), version), []).append(file.name)
    return found


def read_advisories(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the advisories in a zip.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: it cannot be read, or has none.
    """
    count = 0
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                count += 1
                yield json.loads(archive.read(name))
    if not count:
        raise ValueError("it has no advisories")


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Tell whether a version is among those that an advisory names, one by one or by ranges."""
    if version in affected.get("versions", ()):
        return True
    ranges = [one for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM"]
    return any(_is_within(Version(version), one.get("events", ())) for one in ranges)


def _is_within(version: Version, events: Iterable[Mapping[str, str]]) -> bool:
    inside = False
    for event in events:
        ((kind, text),) = event.items()
        if kind == "introduced" and (text == "0" or version >= Version(text)):
            inside = True
        elif (kind == "fixed" and version >= Version(text)) or (
            kind == "last_affected" and version > Version(text)
        ):
            inside = False
    return inside


def hits(
    advisories: Iterable[Mapping[str, Any]], pins: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, str, Mapping[str, Any], list[str]]]:
    """Yield each package and version that an advisory is about, with the versions that mend it."""
    wanted: dict[str, list[str]] = {}
    for name, version in pins:
        wanted.setdefault(name, []).append(version)
    for advisory in advisories:
        if advisory.get("withdrawn"):
            continue
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            if package.get("ecosystem") != "PyPI":
                continue
            name = str(canonicalize_name(package.get("name", "")))
            for version in wanted.get(name, ()):
                try:
                    found = is_affected(version, affected)
                except InvalidVersion:
                    found = True  # a person has to look at it
                if found:
                    yield name, version, advisory, mended(affected)


def mended(affected: Mapping[str, Any]) -> list[str]:
    """Return the versions in which it is mended."""
    return [
        event["fixed"]
        for one in affected.get("ranges", ())
        if one.get("type") == "ECOSYSTEM"
        for event in one.get("events", ())
        if "fixed" in event
    ]


def fetched(folder: Path) -> Path:
    """Fetch the advisories.

    Raises:
        OSError: they cannot be reached.
    """
    file = folder / "advisories.zip"
    with urllib.request.urlopen(PUBLISHED, timeout=FETCH_SECONDS) as answer:
        file.write_bytes(answer.read())
    return file


def check(file: Path, pins: Mapping[tuple[str, str], list[str]]) -> int:
    """Print what is known of what is locked; return the exit status."""
    advisories = list(read_advisories(file))
    found = sorted(hits(advisories, pins), key=lambda hit: (*hit[:2], hit[2].get("id", "")))
    for name, version, advisory, versions in found:
        ids = ", ".join([advisory.get("id", "?"), *advisory.get("aliases", ())])
        print(f"{name} {version}: {ids}: {advisory.get('summary') or 'no summary'}")
        print(f"    mended in {', '.join(versions) or 'no version yet'}")
        print(f"    locked by {', '.join(pins[name, version])}")
    newest = max(str(one.get("modified", "")) for one in advisories)[:10]
    known = f"{len(found)} known vulnerabilities" if found else "no known vulnerability"
    print(f"audit: {len(pins)} packages, {len(advisories)} advisories up to {newest}: {known}")
    oldest = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=OLDEST_DAYS)
    outdated = newest < oldest.isoformat()
    if outdated:
        print(f"audit: these advisories are older than {OLDEST_DAYS} days: fetch newer ones.")
    return VULNERABLE if found else UNCHECKED if outdated else FINE


def main(arguments: list[str] | None = None) -> int:
    """Check the lock files; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/audit", description=__doc__)
    parser.add_argument("advisories", nargs="?", type=Path, help=f"a copy of {PUBLISHED}")
    parser.add_argument("--locks", type=Path, default=ROOT, help="the folder of the lock files")
    parsed = parser.parse_args(arguments)
    pins = locked(sorted(parsed.locks.glob("requirements*.txt")))
    if not pins:
        parser.error(f"there are no lock files in {parsed.locks}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            return check(parsed.advisories or fetched(Path(folder)), pins)
        except (OSError, ValueError, zipfile.BadZipFile, urllib.error.URLError) as error:
            where = parsed.advisories or PUBLISHED
            print(
                f"audit: nothing was checked: {where} could not be read ({error}).\n"
                "audit: where there is no network, bring a copy: scripts/audit ADVISORIES.zip",
                file=sys.stderr,
            )
            return UNCHECKED


if __name__ == "__main__":
    sys.exit(main())
