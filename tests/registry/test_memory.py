"""What a process remembers of the registry: which names are most like one that is unknown."""

import asyncio
import random
import time
from typing import Any

import pytest

from clinic.database import Database, DatabaseUnavailable
from clinic.registry import memory as remembering
from clinic.registry.memory import COMPARED, NEAREST, Memory, most_alike
from clinic.registry.names import name_key
from clinic.registry.queries import draw_resource_id, insert_resources, select_by_keys
from clinic.registry.records import Kind, NewResource


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


class Looks:
    """Looks for names at the real database, counted; with a gate before each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[tuple[Kind, str]]] = []
        self.gate = asyncio.Event()
        self.away = False
        monkeypatch.setattr(remembering, "select_by_keys", self.look)

    async def look(self, database: Database, keys: list[tuple[Kind, str]]) -> Any:
        self.asked.append(keys)
        if self.away:
            await self.gate.wait()
            raise DatabaseUnavailable("away")
        found = await select_by_keys(database, keys)
        await self.gate.wait()
        return found


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


async def register(database: Database, name: str) -> None:
    new = NewResource(await draw_resource_id(database), "office", name, name_key(name))
    async with database.transaction() as connection:
        await insert_resources(connection, [new])


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_all_who_ask_for_names_at_once_share_one_look(
    database: Database, looks: Looks
) -> None:
    await register(database, "221B")
    memory = Memory(database)
    await memory.rules()
    names = ["221B", "221 b", "7", "8"]
    waiting = [asyncio.create_task(memory.find("office", names[n % 4])) for n in range(400)]
    await settle()
    looks.gate.set()
    found = await asyncio.gather(*waiting)
    assert [one.name if one else None for one in found[:4]] == ["221B", "221B", None, None]
    # One that began with who asked first, and one for all who came meanwhile.
    assert len(looks.asked) <= 2
    assert (await memory.find("office", "221B")) == found[0]
    assert len(looks.asked) <= 2


@pytest.mark.anyio
async def test_who_asks_after_a_registration_is_told_of_it(
    database: Database, looks: Looks
) -> None:
    """Also while a look is under way that has missed it."""
    memory = Memory(database)
    await memory.rules()
    before = asyncio.create_task(memory.find("office", "7"))
    while not looks.asked:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)  # it has looked by now, and is held at the gate
    await register(database, "7")
    after = [asyncio.create_task(memory.find("office", "7")) for _ in range(10)]
    await settle()
    looks.gate.set()
    assert await before is None
    found = await asyncio.gather(*after)
    assert [one is not None and one.name for one in found] == ["7"] * 10
    assert len(looks.asked) == 2


@pytest.mark.anyio
async def test_who_leaves_takes_nobody_along(database: Database, looks: Looks) -> None:
    await register(database, "7")
    memory = Memory(database)
    await memory.rules()
    waiting = [asyncio.create_task(memory.find("office", "7")) for _ in range(5)]
    await settle()
    waiting[0].cancel()
    waiting[2].cancel()
    await settle()
    looks.gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [True, False] * 2 + [False]
    assert all(one for one in found)


@pytest.mark.anyio
async def test_all_who_wait_are_told_at_once_that_the_database_is_away(
    database: Database, looks: Looks
) -> None:
    memory = Memory(database)
    await memory.rules()
    looks.away = True
    waiting = [asyncio.create_task(memory.find("office", str(n))) for n in range(100)]
    await settle()
    looks.gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(one) for one in found} == {DatabaseUnavailable}
    assert len(looks.asked) <= 2
    looks.away = False
    assert await memory.find("office", "1") is None
