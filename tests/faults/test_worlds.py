"""Whatever fails, nothing that was confirmed is lost, doubled or overlapped, in any world."""

import secrets
from pathlib import Path

import pytest

from tests.faults.campaign import Plan, run
from tests.faults.worlds import WORLDS, Embedded, Servers, World
from tests.process.clinic import ROOT

# How many faults come, and how many bookings are asked for.
SIZES = {
    "postgresql+rabbitmq": (200, 50_000),
    "classic": (60, 12_000),
    "embedded": (60, 12_000),
    "cluster": (60, 12_000),
    "rabbitmq4": (60, 12_000),
}


@pytest.mark.faults
@pytest.mark.timeout(3 * 3600)
def test_nothing_is_lost_doubled_or_overlapped_in_the_long_run(
    pytestconfig: pytest.Config, tmp_path: Path, world: str
) -> None:
    def option(name: str, default: int) -> int:
        given: int | None = pytestconfig.getoption(name, None)
        return default if given is None else given

    faults, bookings = SIZES[world]
    plan = Plan(
        seed=option("--seed", secrets.randbelow(2**32)),
        faults=option("--faults", faults),
        bookings=option("--bookings", bookings),
        only=pytestconfig.getoption("--only", None) or (),
    )
    print(f"\n{world}: scripts/test-faults --world {world} --seed {plan.seed}")
    # The mirror that has it may not be within reach.
    required = world != "rabbitmq4" or bool(pytestconfig.getoption("--world", None))
    clean(WORLDS[world](tmp_path, ROOT), plan, required=required)


@pytest.mark.timeout(600)
def test_a_few_faults_of_servers(tmp_path: Path) -> None:
    only = ("is killed", "is cut", "queue is purged", "has no connection left")
    clean(Servers(tmp_path), Plan(seed=2, faults=4, bookings=150, only=only, longest_seconds=0.5))


@pytest.mark.timeout(600)
def test_a_few_faults_of_a_file(tmp_path: Path) -> None:
    only = ("an API is killed", "the messages are deleted", "the disk is full")
    clean(Embedded(tmp_path), Plan(seed=1, faults=3, bookings=150, only=only, longest_seconds=0.5))


def clean(world: World, plan: Plan, *, required: bool = True) -> None:
    account = run(world, plan, required=required)
    assert not account.violations, "\n".join(account.told())
