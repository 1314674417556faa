"""What a process remembers of the registry: which names are most like one that is unknown."""

import random
import time

from clinic.registry.memory import COMPARED, NEAREST, most_alike


def test_the_names_most_like_an_unknown_one_are_offered() -> None:
    names = ["221B", "221C", "7", "Доктор Ватсон", "Доктор Стрейндж", "X-ray"]
    assert sorted(most_alike("№ 221 D", names)) == ["221B", "221C"]
    assert most_alike("доктор Уотсон", names)[0] == "Доктор Ватсон"
    assert most_alike("xray 2", names) == ["X-ray"]
    assert most_alike("quite another", names) == []
    assert most_alike("anything", []) == []
    assert most_alike("...", ["!!!", "7"]) == []


def test_long_names_are_told_apart_by_their_beginnings() -> None:
    names = [f"{letter * COMPARED}{'x' * 100}" for letter in "abc"]
    assert most_alike("b" * (COMPARED - 2), names) == [names[1]]


def test_thousands_of_names_are_soon_compared() -> None:
    chance = random.Random(1)
    names = ["".join(chance.choices("abcdefgh ", k=200)) for _ in range(2000)]
    asked = names[1234][:-1] + "z"
    most_alike(asked, names)  # the keys are remembered from here on
    began = time.thread_time()
    found = most_alike(asked, names)
    # All pairs of names of this length took 2.5 s.
    assert time.thread_time() - began < 0.5
    assert found[0] == names[1234]
    assert len(found) <= NEAREST
