"""What is changed of a source, and that what is explained of it is still there."""

import pytest

from tests.mutations.mutants import mutants
from tests.mutations.run import CORE, ROOT, explained, keys

PYTHON = '''
def f(a: int) -> bool:
    """Stay as it is."""
    if a < 2 and not a:  # Ж
        print("ж", a)
    return a is None or a == 1
'''
SQL = """
-- a comment = stays
select a from t where a <= 1 and b is not null order by a desc;
"""


def lines(file: str, source: str) -> set[str]:
    """Return each line as some mutant has it."""
    return {one.told(source)[1] for one in mutants(file, source)}


def test_python_is_changed_in_one_place() -> None:
    assert lines("a.py", PYTHON) == {
        "if a <= 2 and not a: # Ж",
        "if a < 3 and not a: # Ж",
        "if a < 2 or not a: # Ж",
        "if a < 2 and a: # Ж",
        "if (not (a < 2 and not a)): # Ж",
        "pass",
        "return a is not None or a == 1",
        "return a is None and a == 1",
        "return a is None or a != 1",
        "return a is None or a == 2",
    }


@pytest.mark.parametrize("python", [False, True])
def test_sql_is_changed_in_one_place(*, python: bool) -> None:
    where = "select a from t where"
    found = lines("a.py", f's = """{SQL.splitlines()[2]}"""') if python else lines("a.sql", SQL)
    assert {one.removeprefix('s = """').removesuffix('"""') for one in found} == {
        f"{where} a < 1 and b is not null order by a desc;",
        f"{where} a <= 2 and b is not null order by a desc;",
        f"{where} a <= 1 or b is not null order by a desc;",
        f"{where} a <= 1 and b is null order by a desc;",
        f"{where} a <= 1 and b is not null order by a asc;",
    }


@pytest.mark.parametrize("file", CORE)
def test_each_mutant_is_a_program(file: str) -> None:
    source = (ROOT / file).read_text()
    found = mutants(file, source)
    assert found
    for mutant in found:
        planted = mutant.plant(source)
        assert planted != source
        if file.endswith(".py"):
            compile(planted, file, "exec")


def test_explained_mutants_exist() -> None:
    assert explained().keys() <= {key for file in CORE for key in keys(file)}
