"""The options of scripts/test-faults; in all other runs they have their defaults."""

from typing import Any

import pytest

from tests.faults.worlds import WORLDS

OPTIONS: dict[str, dict[str, Any]] = {
    "--world": {"choices": list(WORLDS), "action": "append", "help": "only this one; repeatable"},
    "--seed": {"type": int, "help": "draw the same faults and bookings again"},
    "--faults": {"type": int, "help": "how many faults come"},
    "--bookings": {"type": int, "help": "how many bookings are asked for"},
    "--only": {"action": "append", "help": "only faults with this in their name; repeatable"},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    for name, how in OPTIONS.items():
        group.addoption(name, **how)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "world" in metafunc.fixturenames:
        metafunc.parametrize("world", metafunc.config.getoption("--world", None) or list(WORLDS))
