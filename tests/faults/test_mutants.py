"""A clinic that has a bug is found out: the campaigns bite."""

from pathlib import Path

import pytest

from tests.faults.campaign import Plan, run
from tests.faults.mutants import MUTANTS, Mutant, Patch, PatchFitsNot, plant
from tests.faults.worlds import WORLDS

SEED = 1


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_bug_is_found(tmp_path: Path, mutant: Mutant) -> None:
    source = plant(mutant, tmp_path)
    plan = Plan(
        SEED, mutant.faults, mutant.bookings, mutant.only, longest_seconds=1, quiet_seconds=30
    )
    print(f"\nmutant: {mutant.name}")
    account = run(WORLDS[mutant.world](tmp_path, source), plan)
    assert mutant.found_as & account.violations.keys(), account.told()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_bug_can_be_planted(tmp_path: Path, mutant: Mutant) -> None:
    source = plant(mutant, tmp_path)
    for patch in mutant.patches:
        path = source / patch.file
        if path.suffix == ".py":
            compile(path.read_text(), path, "exec")


def test_a_patch_for_a_text_that_is_gone_says_so(tmp_path: Path) -> None:
    gone = Mutant(
        "gone", "embedded", (Patch("clinic.py", "no such text", ""),), frozenset(), only=()
    )
    with pytest.raises(PatchFitsNot, match=r"gone: clinic\.py has no 'no such text'"):
        plant(gone, tmp_path)
