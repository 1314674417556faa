"""The command not-solved, typed: with and without a process that runs."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.operating.test_processes import NAME, QUICK, results, servers, set_aside, status
from tests.process.clinic import ROOT, running, until
from tests.process.environment import clean_environment
from tests.timing import PATIENCE_SECONDS

__all__ = ["servers"]


@contextmanager
def command(folder: Path, where: dict[str, Any], *words: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, ROOT / "clinic.py", "not-solved", *map(str, words)],
        cwd=folder,
        env=clean_environment(where),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        yield child
        if child.poll() is None:
            child.kill()


def typed(folder: Path, where: dict[str, Any], *words: object, status: int = 0) -> str:
    """Type a command; return what it prints."""
    with command(folder, where, *words) as child:
        printed, said = child.communicate(timeout=PATIENCE_SECONDS)
        assert child.returncode == status, printed + said
        assert "Traceback" not in said
        return printed + said


def told(folder: Path, where: dict[str, Any], *words: object, status: int = 0) -> Any:
    """Type a command; return the JSON that it prints."""
    with command(folder, where, *words, "--json") as child:
        printed, said = child.communicate(timeout=PATIENCE_SECONDS)
        assert child.returncode == status, printed + said
        return json.loads(printed)


def test_a_command_needs_no_process(tmp_path: Path, servers: dict[str, Any]) -> None:
    where = servers
    set_aside(tmp_path, where, 5)
    listed = typed(tmp_path, where, "list")
    assert "RehearsedFailure  5" in listed
    assert "office 3" in listed
    assert "check" not in listed
    shown = typed(tmp_path, where, "show", 2)
    assert "failed 1 times, at last with RehearsedFailure" in shown
    assert "delivery 1 failed in" in shown
    assert NAME not in listed + shown
    done = told(tmp_path, where, "discard", 2, "--reason", "a rehearsal", "--yes")
    assert (done["results"], done["reason"]) == ({"discarded": 1}, "a rehearsal")
    done = told(tmp_path, where, "replay", "--office", "office 3", "--yes")
    assert done["results"] == {"replayed": 1}
    assert told(tmp_path, where, "restore", "--all", "--yes")["results"] == {"waiting": 1}
    printed = typed(tmp_path, where, "replay", "--newer-than", "1h", "--yes")
    assert "4 messages, up to position 5, by this filter: set aside from" in printed
    assert "Done: 4 replayed." in printed
    assert "Nothing waits." in typed(tmp_path, where, "list")
    ended = told(tmp_path, where, "results", done["id"])
    assert [one["state"] for one in ended] == ["replayed"]
    with running(tmp_path, **where) as clinic:
        until(lambda: clinic.totals() == {"booked": 5})


def test_an_operation_survives_the_command_that_began_it(
    tmp_path: Path,
) -> None:
    where = QUICK
    set_aside(tmp_path, where, 12)
    with running(tmp_path, **where) as clinic:
        with command(tmp_path, where, "replay", "--all", "--rate", 4, "--yes") as child:
            until(lambda: clinic.http.get("/operation").json() != [])
            until(lambda: results(clinic, 1).get("replayed", 0) >= 4)
            child.send_signal(signal.SIGKILL)
            child.communicate()
        until(lambda: status(clinic, 1) == "done")
        assert results(clinic, 1) == {"replayed": 12}
        until(lambda: clinic.totals() == {"booked": 12})


def replayed(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "clinic.db")) as connection:
        sql = "select count(*) from set_aside where state = 'replayed'"
        return int(connection.execute(sql).fetchone()[0])


def test_ctrl_c_stops_an_operation_and_resume_goes_on(tmp_path: Path) -> None:
    where = QUICK
    set_aside(tmp_path, where, 9)
    with command(tmp_path, where, "replay", "--all", "--rate", 2, "--yes") as child:
        until(lambda: replayed(tmp_path) >= 2)
        child.send_signal(signal.SIGINT)
        printed, _ = child.communicate(timeout=PATIENCE_SECONDS)
        assert child.returncode == 1
    assert "Stopped:" in printed
    assert "`not-solved resume 1` goes on" in printed
    assert told(tmp_path, where, "resume", 1)["results"] == {"replayed": 9}
    assert "only what is running can be stopped" in typed(tmp_path, where, "stop", 1, status=1)


def test_wrong_usage_is_said(tmp_path: Path) -> None:
    assert "there is no clinic.db here" in typed(tmp_path, QUICK, "list", status=2)
    set_aside(tmp_path, QUICK, 1)
    assert "say which messages" in typed(tmp_path, QUICK, "replay", status=2)
    assert "say --yes" in typed(tmp_path, QUICK, "replay", "--all", status=1)
    assert "No message is selected" in typed(tmp_path, QUICK, "replay", "--kind", "X")
    assert "No message that was set aside has this id" in typed(
        tmp_path, QUICK, "show", 99, status=1
    )
