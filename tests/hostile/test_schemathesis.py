"""Whatever the description admits, and what it does not, is answered as it says."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.process.clinic import ROOT, ClinicProcess
from tests.process.environment import clean_environment

HOSTILE = ROOT / "tests" / "hostile"
SCHEMATHESIS = HOSTILE / ".venv" / "bin" / "schemathesis"


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
    assert "Traceback" not in clinic.log


@pytest.mark.hostile
@pytest.mark.timeout(1200)
def test_ten_thousand_cases(clinic: ClinicProcess, tmp_path: Path) -> None:
    cases = sum(ask(clinic, tmp_path, seed=seed, most_examples=400) for seed in range(2, 5))
    print(f"{cases} cases, {clinic.totals()}")
    assert cases >= 10_000
    assert clinic.totals()["booked"] >= 50
    assert clinic.http.get("/health/ready").json()["status"] == "ready"
    assert "Traceback" not in clinic.log
