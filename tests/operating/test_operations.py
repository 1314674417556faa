"""What is not solved: listed, replayed, discarded, restored, checked, over every broker."""

import datetime
from collections.abc import AsyncIterator

import anyio
import pytest

from clinic.database import utc_now
from clinic.events import describe
from clinic.messaging.journal import Ended, Failed, Journal
from clinic.messaging.message import Message
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.operating.operations import CannotBecome, NoSuchOperation, Status, Verb, preview
from clinic.operating.selection import Selection
from tests.messaging.brokers import take
from tests.messaging.test_consumer import hand_over
from tests.operating.worlds import KINDS, World, never, world
from tests.timing import PATIENCE_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

OLDER = Message("", "", "", '{"patient_name": "A", "office_number": "1", "date_time": "x"}')


@pytest.fixture(params=KINDS)
async def clinic(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world(request.param, request) as found:
        yield found


async def test_a_replay_of_all_has_each_recorded_once(clinic: World) -> None:
    events = await clinic.set_aside(30)
    assert await clinic.operations.in_queue() == 30
    (group,) = await clinic.operations.groups()
    assert (group["kind"], group["messages"]) == ("ValueError", 30)
    assert group["first_at"] <= group["last_at"]
    assert await clinic.database.look("select position from outbox") == []

    planned = await clinic.operations.plan(Verb.REPLAY, Selection(), "a test")
    assert preview(planned) == (
        "30 messages, up to position 30, by this filter: all: 30 will be recorded."
    )
    assert not await clinic.worker().work(never)
    done = await clinic.run(Verb.REPLAY)
    assert done.results == {"replayed": 30}
    assert await clinic.in_queue() == []
    assert await clinic.operations.groups() == []
    # Until they are recorded they are open: no broker can lose them.
    assert len(await clinic.database.look("select position from outbox")) == 30
    await clinic.record_all(30)
    assert await clinic.database.look("select position from outbox") == []
    recorded = await clinic.database.look("select event_id from recorded")
    assert {row["event_id"] for row in recorded} == {event.id for event in events}


async def test_a_replay_is_about_what_its_plan_was_about(clinic: World) -> None:
    """By a filter; and what is set aside after the plan is none of its business."""
    events = await clinic.set_aside(10)
    office = (await clinic.rows())[0]["office_id"]
    mine = [row for row in await clinic.rows() if row["office_id"] == office]
    started = await clinic.start(Verb.REPLAY, Selection(office_id=office))
    assert started.messages == len(mine)
    await clinic.set_aside(10)
    assert await clinic.worker().work(never)
    done = await clinic.operations.show_operation(started.id)
    assert done.results == {"replayed": len(mine)}
    dealt = await clinic.operations.dealt_with(done.id, 0, 100)
    assert [row["position"] for row in dealt] == [row["position"] for row in mine]
    assert len(await clinic.in_queue()) == 20 - len(mine)
    await clinic.record_all(len(mine))
    assert len(events) == 10


async def test_messages_are_selected_by_everything_that_a_list_shows(clinic: World) -> None:
    await clinic.set_aside(6)
    await hand_over(clinic.broker, [OLDER])
    await clinic.consume(lambda: clinic._has("set_aside", 7))
    rows = await clinic.rows()
    now = utc_now()
    hour = datetime.timedelta(hours=1)
    kinds = {row["kind"]: row["messages"] for row in await clinic.operations.groups()}
    assert kinds == {"ValueError": 6, "OlderMessage": 1}
    for selection, count in {
        Selection(): 7,
        Selection(kind="OlderMessage"): 1,
        Selection(kind="KeyError"): 0,
        Selection(event_type=rows[0]["event_type"]): sum(
            row["event_type"] == rows[0]["event_type"] for row in rows
        ),
        Selection(ids=(rows[1]["position"], rows[3]["position"], 10**9)): 2,
        Selection(ids=()): 0,
        Selection(after=now - hour): 7,
        Selection(before=now - hour): 0,
        Selection(after=now - hour, before=now + hour, kind="ValueError"): 6,
    }.items():
        assert len(await clinic.operations.waiting(selection, 0, 100)) == count, selection
        planned = await clinic.operations.plan(Verb.DISCARD, selection, "a test", "a reason")
        assert planned.messages == count, selection
        assert planned.selection == selection
    page = await clinic.operations.waiting(Selection(), rows[2]["position"], 2)
    assert [row["position"] for row in page] == [rows[3]["position"], rows[4]["position"]]


async def test_what_is_recorded_already_is_dropped_and_told_before(clinic: World) -> None:
    events = await clinic.set_aside(5)
    await hand_over(clinic.broker, events[:2])
    await clinic.record_all(2)
    await hand_over(clinic.broker, [OLDER])
    await clinic.consume(lambda: clinic._has("set_aside", 6))
    planned = await clinic.operations.plan(Verb.REPLAY, Selection(), "a test")
    assert preview(planned) == (
        "6 messages, up to position 6, by this filter: all: 3 will be recorded, 2 are recorded "
        "already and will be dropped, 1 are no events of this clinic and will be set aside again."
    )
    done = await clinic.run(Verb.REPLAY)
    assert done.results == {"replayed": 4, "dropped": 2}
    await clinic.record_all(5)
    await clinic.consume(lambda: clinic._has("set_aside", 7))
    (again,) = await clinic.operations.waiting(Selection(), 0, 10)
    assert again["kind"] == "OlderMessage"


async def test_deaths_count_afresh_after_a_replay(clinic: World) -> None:
    await clinic.set_aside(1, death_limit=1)
    await clinic.run(Verb.REPLAY)
    await clinic.consume(lambda: clinic._has("set_aside", 2), error_probability=1.0, death_limit=1)
    assert [row["deliveries"] for row in await clinic.rows()] == [2, 2]
    kept = await clinic.database.look("select delivery from attempt order by id")
    assert [row["delivery"] for row in kept] == [1, 2, 1, 2]


async def test_what_was_discarded_can_be_brought_back(clinic: World) -> None:
    await clinic.set_aside(3)
    await hand_over(clinic.broker, [OLDER])
    await clinic.consume(lambda: clinic._has("set_aside", 4))
    before = {(one.message.body, one.reason) for one in await clinic.in_queue()}
    done = await clinic.run(Verb.DISCARD, reason="they are of a rehearsal")
    assert (done.results, done.reason) == ({"discarded": 4}, "they are of a rehearsal")
    assert await clinic.in_queue() == []
    assert await clinic.database.look("select position from outbox") == []
    await clinic.run(Verb.RESTORE)
    assert await clinic.states() == {"waiting": 4}
    after = await clinic.in_queue()
    assert {(one.message.body, one.reason) for one in after} == before
    assert {one.key for one in after} == {row["key"] for row in await clinic.rows()}
    await clinic.run(Verb.REPLAY, Selection(kind="ValueError"))
    await clinic.record_all(3)


async def test_a_check_corrects_the_index_by_the_queue(clinic: World) -> None:
    """Whatever the broker's own tools have removed or added; and whatever the consumer missed."""
    events = await clinic.set_aside(4)
    async with clinic.broker.set_aside() as session:
        found = await session.look()
        await session.discard(found[:1])
        # No database takes the bytes that a stranger may send to RabbitMQ.
        body = "\udcff\0" * 3 if isinstance(clinic.broker, RabbitBroker) else "{"
        stranger = Message("strange", "", "", body)
        copy = (found[1].message, found[1].reason)
        await session.restore([copy, (stranger, "")])
    await clinic.run(Verb.CHECK)
    states = {row["key"]: row["state"] for row in await clinic.rows()}
    assert states[found[0].key] == "missing"
    assert await clinic.states() == {"missing": 1, "waiting": 5}
    kinds = {row["kind"]: row["messages"] for row in await clinic.operations.groups()}
    assert kinds == {"ValueError": 4, "Unknown": 1}
    assert await clinic.operations.in_queue() == 5
    adopted = (await clinic.rows())[4:]
    known = [row for row in adopted if row["event_id"]]
    assert [row["event_id"] for row in known] == [found[1].message.id]
    assert known[0]["office_id"] is not None

    # It is there again, and nobody is asked twice.
    if found[0].key != str(found[0].tag):
        async with clinic.broker.set_aside() as session:
            await session.restore([(found[0].message, found[0].reason)])
        await clinic.run(Verb.CHECK)
        assert await clinic.states() == {"waiting": 6}
    done = await clinic.run(Verb.REPLAY)
    assert done.results == {"replayed": done.messages}
    assert await clinic.in_queue() == []
    await clinic.consume(lambda: clinic._has("recorded", done.messages - 2))
    assert len(events) == 4


async def test_messages_purged_before_a_replay_are_missing_and_it_ends(clinic: World) -> None:
    await clinic.set_aside(5)
    started = await clinic.start(Verb.REPLAY)
    async with clinic.broker.set_aside() as session:
        await session.discard((await session.look())[1:4])
    assert await clinic.worker().work(never)
    done = await clinic.operations.show_operation(started.id)
    assert (done.status, done.results) == (Status.DONE, {"replayed": 2, "missing": 3})
    assert done.dealt_with == 5


async def test_an_operation_is_stopped_and_taken_up_again(clinic: World) -> None:
    await clinic.set_aside(6)
    operation = await clinic.start(Verb.REPLAY, rate=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clinic.worker().work, never)
        with anyio.fail_after(PATIENCE_SECONDS):
            while not await clinic.database.look(
                "select position from set_aside where state = 'replayed'"
            ):
                await anyio.sleep(0.01)
        await clinic.operations.bring_to(operation.id, Status.STOPPED)
    stopped = await clinic.operations.show_operation(operation.id)
    assert stopped.status is Status.STOPPED
    assert 0 < stopped.results["replayed"] < 6
    assert not await clinic.worker().work(never)
    await clinic.operations.bring_to(operation.id, Status.RUNNING)
    assert await clinic.worker().work(never)
    done = await clinic.operations.show_operation(operation.id)
    assert (done.status, done.results) == (Status.DONE, {"replayed": 6})
    with pytest.raises(CannotBecome):
        await clinic.operations.bring_to(operation.id, Status.RUNNING)
    with pytest.raises(NoSuchOperation):
        await clinic.operations.bring_to(10**6, Status.RUNNING)
    await clinic.record_all(6)


async def test_two_replays_at_once_send_each_message_once(clinic: World) -> None:
    await clinic.set_aside(40)
    first = await clinic.start(Verb.REPLAY)
    second = await clinic.start(Verb.REPLAY)
    workers = [clinic.worker(), clinic.worker()]

    async def work(worker: object) -> None:
        while any(one.status is Status.RUNNING for one in await clinic.operations.newest(10)):
            await worker.work(never)  # type: ignore[attr-defined]

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(work, worker)
    results = [(await clinic.operations.show_operation(one.id)).results for one in (first, second)]
    assert results == [{"replayed": 40}, {}]
    sent = 0
    async with clinic.broker.consuming(100) as receive:
        with anyio.move_on_after(1):
            while True:
                sent += len(await receive())
    assert sent == 40


async def test_alike_messages_are_told_apart_by_their_number(clinic: World) -> None:
    """Four that are alike to the last byte; two are selected, and two go."""
    alike = Message("same", "a", "b", "c")
    async with clinic.broker.set_aside() as session:
        await session.restore([(alike, "why")] * 4)
    await clinic.run(Verb.CHECK)
    await clinic.run(Verb.CHECK)
    rows = await clinic.rows()
    assert len(rows) == 4
    chosen = Selection(ids=(rows[1]["position"], rows[2]["position"]))
    done = await clinic.run(Verb.DISCARD, chosen, reason="enough")
    assert done.results == {"discarded": 2}
    assert len(await clinic.in_queue()) == 2
    assert await clinic.states() == {"waiting": 2, "discarded": 2}


async def test_a_message_that_is_being_set_aside_gets_one_row(clinic: World) -> None:
    """A walk may see it before its consumer has written its row."""
    (event,) = await clinic.tell(1)

    async def set_it_aside_slowly() -> None:
        async with clinic.broker.consuming(1) as receive:
            (delivery,) = await take(receive, 1)
            key = await delivery.not_solved("failed 1 times, at last with ValueError")
            with anyio.move_on_after(0.1):  # settles it
                await receive()
        failed = Failed(delivery, ValueError(), known=True)
        await Journal(clinic.database, describe).set_aside([Ended(failed, key, "a reason")])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clinic.run, Verb.CHECK)
        tasks.start_soon(set_it_aside_slowly)
    await clinic.run(Verb.CHECK)
    (row,) = await clinic.rows()
    assert (row["event_id"], row["state"]) == (event.id, "waiting")
