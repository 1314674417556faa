"""Whatever the description admits, and what it does not, is answered as it says."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clinic.database import Dialect
from tests.process.clinic import ROOT, ClinicProcess, running
from tests.process.environment import clean_environment
from tests.process.test_start import run

HOSTILE = ROOT / "tests" / "hostile"
SCHEMATHESIS = HOSTILE / ".venv" / "bin" / "schemathesis"


@pytest.fixture(scope="module", params=list(Dialect))
def clinic(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClinicProcess]:
    """A clinic in which any appointment may be changed."""
    settings: dict[str, Any] = {"CLINIC_TIMEZONE": "Europe/Berlin"}
    if request.param is Dialect.POSTGRESQL:
        settings["DATABASE_URL"] = request.getfixturevalue("postgres").create_database("asked")
    folder = tmp_path_factory.mktemp("asked")
    made = run(folder, "token", "make", "asked", "--permission", "administer", **settings)
    with running(folder, **settings) as process:
        process.http.headers["Authorization"] = f"Bearer {made.stdout.strip()}"
        yield process
        assert process.stop() == 0
        assert "Traceback" not in process.log


def ask(clinic: ClinicProcess, folder: Path, seed: int, most_examples: int) -> int:
    """Have schemathesis ask the process in all its ways; return how many cases there were."""
    if not SCHEMATHESIS.exists() and not os.environ.get("CI"):
        pytest.skip("no schemathesis here: run scripts/test-hostile")
    report = folder / "report.json"
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "--config-file", HOSTILE / "schemathesis.toml"),
            *("run", f"{clinic.url}/openapi.json", "--seed", str(seed), "--continue-on-failure"),
            *("--max-examples", str(most_examples), "--output-truncate", "false"),
            *("--report", "json", "--report-json-path", report),
            *("--header", f"Authorization: {clinic.http.headers['Authorization']}"),
        ],
        cwd=folder,
        env=clean_environment({"PYTHONPATH": ROOT}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    told = json.loads(report.read_text())
    assert told["complete"]
    assert set(told["phases"]) == {"examples", "coverage", "fuzzing", "stateful"}
    assert all(phase["status"] == "success" for phase in told["phases"].values())
    return int(told["test_cases"]["generated"])


def test_a_few_cases(clinic: ClinicProcess, tmp_path: Path) -> None:
    assert ask(clinic, tmp_path, seed=1, most_examples=5) >= 500


@pytest.mark.hostile
@pytest.mark.timeout(1200)
def test_ten_thousand_cases(clinic: ClinicProcess, tmp_path: Path) -> None:
    cases = sum(ask(clinic, tmp_path, seed=seed, most_examples=400) for seed in range(2, 5))
    print(f"{cases} cases, {clinic.totals()}")
    assert cases >= 10_000
    assert clinic.totals()["booked"] >= 50
    assert clinic.http.get("/health/ready").json()["status"] == "ready"
