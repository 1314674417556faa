"""Random lives of many appointments, in step with a model that is nothing but Python lists.

The model knows the rules, and nothing of how they are kept: no SQL, and nothing of ``clinic`` but
the names of its exceptions.
"""

import asyncio
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clinic.appointments.appointment import IllegalTransition, NoSuchAppointment, Stale
from clinic.appointments.availability import MOST_CONFLICTS, TimeTaken
from clinic.appointments.booking import Confirmation
from clinic.appointments.desk import Desk
from clinic.appointments.idempotency import IdempotencyKey, KeyReused
from clinic.appointments.requests import Booking, Change
from clinic.database import Database, open_database
from clinic.registry.queries import begin_change
from clinic.registry.records import FIELDS
from clinic.supervisor import Lifecycle, Stop
from tests.appointments.desks import ZONE, desk_on, rows

Sent = dict[str, Any]

LEGAL = {
    "booked": ["arrived", "no_show", "cancelled"],
    "arrived": ["in_room", "done", "booked"],
    "in_room": ["done", "arrived"],
    "done": ["in_room", "arrived"],
    "no_show": ["booked"],
    "cancelled": ["booked"],
}
MIDNIGHT = datetime(2027, 12, 1)
QUARTER = timedelta(minutes=15)


@dataclass(frozen=True)
class Life:
    """An appointment as the model has it."""

    patient_name: str
    office_number: str
    doctor_name: str | None
    date_time: str
    duration_minutes: int
    patient_phone: str | None = None
    note: str | None = None
    status: str = "booked"
    reason: str | None = None

    @property
    def begins(self) -> datetime:
        return datetime.fromisoformat(self.date_time)

    @property
    def ends(self) -> datetime:
        return self.begins + timedelta(minutes=self.duration_minutes)

    @property
    def place(self) -> tuple[object, ...]:
        return self.office_number, self.doctor_name, self.date_time, self.duration_minutes

    def collides(self, other: "Life") -> bool:
        """Tell whether the other has its office or its doctor when it wants them."""
        return (
            other.status != "cancelled"
            and (
                self.office_number == other.office_number
                or (self.doctor_name is not None and self.doctor_name == other.doctor_name)
            )
            and max(self.begins, other.begins) < min(self.ends, other.ends)
        )


@dataclass
class Told:
    """What the log is to tell of one appointment."""

    types: list[str]
    lives: list[Life]


class Book:
    """The model: what is in the book, what was told, and which keys were used."""

    def __init__(self) -> None:
        self.lives: dict[int, Life] = {}
        self.told: dict[int, Told] = {}
        self.keys: dict[str, tuple[Sent, Confirmation]] = {}
        self.names: dict[tuple[str, str], str] = {}
        """Of each office and doctor, by what all its spellings mean, the first that was used."""

    def named(self, sent: Sent) -> Sent:
        """Return what is sent with the names by which its office and doctor are known."""
        known = {
            field: self.names.get((field, MEANT[sent[field]]), sent[field])
            for field in ("office_number", "doctor_name")
            if sent.get(field) is not None
        }
        return sent | known

    def register(self, sent: Sent) -> None:
        for field in ("office_number", "doctor_name"):
            if sent.get(field) is not None:
                self.names.setdefault((field, MEANT[sent[field]]), sent[field])

    def wished(self, sent: Sent) -> Life:
        """Return what a booking is to become."""
        sent = self.named(sent)
        return Life(
            sent["patient_name"],
            sent["office_number"],
            sent.get("doctor_name"),
            sent["date_time"],
            sent.get("duration_minutes") or 15,
            sent.get("patient_phone"),
            sent.get("note"),
            reason=sent.get("reason"),
        )

    def conflicts_of(self, life: Life, besides: int | None = None) -> list[int]:
        found = [
            (other.begins, number)
            for number, other in self.lives.items()
            if number != besides and life.collides(other)
        ]
        return [number for _, number in sorted(found)]

    def free_times(self, life: Life, besides: int | None) -> list[str]:
        """Return the next three quarters of an hour, 8 to 20 o'clock, from which it could be."""
        found: list[Life] = []
        begins = life.begins
        while len(found) < 3:
            moved = dataclasses.replace(life, date_time=begins.isoformat())
            of_day = moved.begins - begins.replace(hour=0, minute=0)
            open_then = (
                timedelta(hours=8) <= of_day <= timedelta(hours=20) - (moved.ends - moved.begins)
            )
            apart = not found or found[-1].ends <= begins
            if open_then and apart and not self.conflicts_of(moved, besides):
                found.append(moved)
            begins += QUARTER
        return [one.date_time for one in found]

    def add(self, number: int, life: Life) -> None:
        assert number not in self.lives
        self.lives[number] = life
        self.told[number] = Told(["appointment.booked"], [life])


def steps(life: Life, sent: Sent) -> Iterator[tuple[str, Life]]:
    """Yield what a change does, one event after the other."""
    if "patient_name" in sent and sent["patient_name"] != life.patient_name:
        life = dataclasses.replace(life, patient_name=sent["patient_name"])
        yield "appointment.renamed", life
    noted = changed(life, sent, "patient_phone", "note")
    if noted:
        life = dataclasses.replace(life, **noted)
        yield "appointment.annotated", life
    if "doctor_name" in sent and sent["doctor_name"] != life.doctor_name:
        life = dataclasses.replace(life, doctor_name=sent["doctor_name"])
        yield "appointment.reassigned", life
    moved = changed(life, sent, "office_number", "date_time", "duration_minutes")
    if moved:
        life = dataclasses.replace(life, **moved)
        yield "appointment.rescheduled", life
    if sent.get("status", life.status) != life.status:
        life = dataclasses.replace(life, status=sent["status"])
        yield f"appointment.{'reopened' if life.status == 'booked' else life.status}", life


def changed(life: Life, sent: Sent, *names: str) -> Sent:
    """Return those fields that a change makes other than they are."""
    return {
        name: sent[name] for name in names if name in sent and sent[name] != getattr(life, name)
    }


# Spellings, and what they mean.
OFFICES = {
    **dict.fromkeys(["221B", "221 b", "№ 221-B", "221В"], "221B"),  # the last is Cyrillic
    **dict.fromkeys(["1.2", "1-2", "1 2"], "1.2"),
    "12": "12",
}
DOCTORS = {
    **dict.fromkeys(["Dr. Watson", "dr watson", "DR WATSON"], "Watson"),
    **dict.fromkeys(["Ёлкин", "елкин"], "Ёлкин"),
}
MEANT = OFFICES | DOCTORS

patients = st.sampled_from(["Иван", "Мария"])
offices = st.sampled_from(list(OFFICES))
doctors = st.sampled_from([None, *DOCTORS])
phones = st.sampled_from([None, "+7 921 555-01-02", "89215550102"])
notes = st.sampled_from([None, "без очков"])
quarters = [*range(38, 45), 77, 78, 95]
times = st.sampled_from([(MIDNIGHT + number * QUARTER).isoformat() for number in quarters])
durations = st.sampled_from([15, 30, 45, 60])
overrides = st.sampled_from([{}, {}, {"override": True, "reason": "срочно"}])
bookings = st.builds(
    lambda fixed, override: fixed | override,
    st.fixed_dictionaries(
        {"patient_name": patients, "office_number": offices, "date_time": times},
        optional={
            "doctor_name": doctors,
            "duration_minutes": durations,
            "patient_phone": phones,
            "note": notes,
        },
    ),
    overrides,
)
changes = st.builds(
    lambda fixed, override: fixed | override,
    st.fixed_dictionaries(
        {},
        optional={
            "patient_name": patients,
            "office_number": offices,
            "doctor_name": doctors,
            "date_time": times,
            "duration_minutes": durations,
            "patient_phone": phones,
            "note": notes,
            "status": st.sampled_from(list(LEGAL)),
        },
    ),
    overrides,
)
places = st.integers(0, 1_000)
seen = st.sampled_from([None, None, 0, 1])


EMPTIED = ("idempotency_key", "appointment", "event", "resource_key", "resource")
WRITTEN = "select subject from event where type = 'appointment.booked' order by position"


class Lives(RuleBasedStateMachine):
    """What may happen at a desk, each step compared with the model."""

    def __init__(self, portal: BlockingPortal, database: Database, desk: Desk) -> None:
        super().__init__()
        self.portal, self.database, self.desk = portal, database, desk
        self.book = Book()

    @initialize()
    def an_empty_book(self) -> None:
        self.portal.call(self._empty)

    async def _empty(self) -> None:
        async with self.database.transaction() as connection:
            for table in EMPTIED:
                await connection.execute(f"delete from {table}")
            # The desk still knows the names of the last book, and has to see that they are gone.
            await begin_change(connection)

    # Steps

    @rule(sent=bookings, key=st.sampled_from([None, None, "k1", "k2", "k3"]))
    def somebody_books(self, sent: Sent, key: str | None) -> None:
        outcome = self.portal.call(self._at_once, [(sent, key)])[0]
        if key in self.book.keys:
            before, answer = self.book.keys[key]
            if before == sent:
                assert outcome == answer
            else:
                assert isinstance(outcome, KeyReused)
            return
        self._judge(sent, outcome)
        if key is not None and isinstance(outcome, Confirmation):
            self.book.keys[key] = sent, outcome

    @rule(place=places, key=st.sampled_from([None, "k1"]))
    @precondition(lambda self: self.book.keys)
    def somebody_sends_with_a_key_what_was_sent_with_it(self, place: int, key: str | None) -> None:
        key = key if key in self.book.keys else sorted(self.book.keys)[place % len(self.book.keys)]
        sent, answer = self.book.keys[key]
        assert self.portal.call(self._at_once, [(sent, key)]) == [answer]

    @rule(place=places, override=overrides)
    @precondition(lambda self: self.book.lives)
    def somebody_sends_again_what_is_in_the_book(self, place: int, override: Sent) -> None:
        life = self.book.lives[self._pick(place)]
        names = ("patient_name", "office_number", "doctor_name", "date_time", "duration_minutes")
        sent = {name: getattr(life, name) for name in names} | override
        self._judge(sent, self.portal.call(self._at_once, [(sent, None)])[0])

    @rule(crowd=st.lists(bookings, min_size=2, max_size=8))
    def many_book_at_once(self, crowd: list[Sent]) -> None:
        """Who of them is first is the clinic's affair, but what it says must be true.

        Who is refused may learn of it before all others are in the book, one with an override for
        the very same among them. What is right is known for certain when nobody else comes.
        """
        found = self.portal.call(self._at_once, [(sent, None) for sent in crowd])
        made = [
            (outcome.appointment_id, sent)
            for sent, outcome in zip(crowd, found, strict=True)
            if isinstance(outcome, Confirmation) and outcome.created
        ]
        # In the order in which they were written: numbers are drawn before.
        written = [subject for (subject,) in self.portal.call(rows, self.database, WRITTEN)]
        for number, sent in sorted(made, key=lambda one: written.index(f"appointment/{one[0]}")):
            life = self.book.wished(sent)
            assert "override" in sent or not self.book.conflicts_of(life)
            self.book.register(sent)
            self.book.add(number, life)
        for sent, outcome in zip(crowd, found, strict=True):
            if isinstance(outcome, Confirmation):
                same = self.book.lives[outcome.appointment_id]
                assert same.place == self.book.wished(sent).place
                assert same.patient_name == sent["patient_name"]
            else:
                assert isinstance(outcome, TimeTaken)
                blocking = set(self.book.conflicts_of(self.book.wished(sent)))
                assert blocking
                assert {one.id for one in outcome.conflicts} <= blocking
                self._judge(sent, self.portal.call(self._at_once, [(sent, None)])[0])

    @rule(place=places, sent=changes, behind=seen)
    @precondition(lambda self: self.book.lives)
    def somebody_changes_one(self, place: int, sent: Sent, behind: int | None) -> None:
        self._change(self._pick(place), sent, behind)

    @rule(place=places, override=overrides, choice=st.integers(0, 2))
    @precondition(lambda self: self.book.lives)
    def one_goes_on_with_its_life(self, place: int, override: Sent, choice: int) -> None:
        number = self._pick(place)
        legal = LEGAL[self.book.lives[number].status]
        self._change(number, {"status": legal[choice % len(legal)]} | override, None)

    @rule(place=places)
    @precondition(lambda self: self.book.lives)
    def one_is_cancelled(self, place: int) -> None:
        self._change(self._pick(place), {"status": "cancelled"}, 0)

    @rule()
    def somebody_changes_one_that_is_not_there(self) -> None:
        number = max(self.book.lives, default=0) + 1000
        assert isinstance(self._changed(number, {"status": "done"}, None), NoSuchAppointment)

    # What they are made of

    async def _at_once(self, crowd: Sequence[tuple[Sent, str | None]]) -> list[Any]:
        async with asyncio.timeout(30):
            return await asyncio.gather(
                *(
                    self.desk.book(
                        Booking.read(sent, ZONE).wanted(), IdempotencyKey.read(key, sent)
                    )
                    for sent, key in crowd
                ),
                return_exceptions=True,
            )

    def _changed(self, number: int, sent: Sent, version: int | None) -> Any:
        allowed: Callable[[int], bool] = lambda now: version is None or now == version  # noqa: E731

        async def tell() -> Any:
            try:
                return await self.desk.change(number, Change.read(sent, ZONE).wanted(), allowed)
            except (NoSuchAppointment, Stale, IllegalTransition, TimeTaken) as refusal:
                return refusal

        return self.portal.call(tell)

    def _pick(self, place: int) -> int:
        return sorted(self.book.lives)[place % len(self.book.lives)]

    def _judge(self, sent: Sent, outcome: Any) -> None:
        life = self.book.wished(sent)
        blocking = self.book.conflicts_of(life)
        same = [
            number
            for number in blocking
            if self.book.lives[number].place == life.place
            and self.book.lives[number].patient_name == life.patient_name
        ]
        if same:
            assert outcome in [Confirmation(number, created=False) for number in same]
        elif blocking and "override" not in sent:
            self._refused(outcome, life, None)
        else:
            assert isinstance(outcome, Confirmation)
            assert outcome.created
            self.book.register(sent)
            self.book.add(outcome.appointment_id, life)

    def _refused(self, outcome: Any, life: Life, besides: int | None) -> None:
        assert isinstance(outcome, TimeTaken)
        blocking = self.book.conflicts_of(life, besides)
        assert blocking
        assert outcome.members == {
            "conflicts": [
                {
                    "id": number,
                    "office_number": one.office_number,
                    "doctor_name": one.doctor_name,
                    "date_time": one.date_time,
                    "end_time": one.ends.isoformat(),
                    "occupied_from": one.date_time,
                    "occupied_until": one.ends.isoformat(),
                }
                for number in blocking[:MOST_CONFLICTS]
                for one in [self.book.lives[number]]
            ],
            "free_times": self.book.free_times(life, besides),
        }

    def _change(self, number: int, sent: Sent, behind: int | None) -> None:
        before = self.book.lives[number]
        told = self.book.told[number]
        version = None if behind is None else len(told.types) - behind
        outcome = self._changed(number, sent, version)
        wanted = sent.get("status", before.status)
        if behind:
            assert isinstance(outcome, Stale)
            return
        if wanted != before.status and wanted not in LEGAL[before.status]:
            assert isinstance(outcome, IllegalTransition)
            assert outcome.members == {"status_now": before.status, "legal": LEGAL[before.status]}
            return
        happened = list(steps(before, self.book.named(sent)))
        after = happened[-1][1] if happened else before
        anew = after.place != before.place or (before.status == "cancelled" != after.status)
        if anew:
            # An override counts for the time it was given for.
            reason = sent.get("reason")
            after = dataclasses.replace(after, reason=reason)
            happened = [(kind, dataclasses.replace(one, reason=reason)) for kind, one in happened]
            judged = after.status != "cancelled" and reason is None
            if judged and self.book.conflicts_of(after, number):
                self._refused(outcome, after, number)
                return
        assert not isinstance(outcome, Exception)
        assert of_record(outcome.record()) == after
        if happened:
            self.book.register(sent)
        told.types += [kind for kind, _ in happened]
        told.lives += [one for _, one in happened]
        assert outcome.version == len(told.types)
        self.book.lives[number] = after

    # At the end

    def teardown(self) -> None:
        found = self.portal.call(
            rows,
            self.database,
            """
            select appointment.id, version, patient_name, office.name as office_number,
                doctor.name as doctor_name, date_time,
                duration_minutes, patient_phone, note, status, override_reason
            from appointment join resource as office on office.id = office_id
            left join resource as doctor on doctor.id = doctor_id
            """,
        )
        stored = {
            number: (version, Life(patient, office, doctor, as_text(time), *rest))
            for number, version, patient, office, doctor, time, *rest in found
        }
        told = self.book.told
        assert stored == {
            number: (len(told[number].types), life) for number, life in self.book.lives.items()
        }
        resources = self.portal.call(rows, self.database, "select kind, name, id from resource")
        # Nothing else is registered, such as names of what was refused.
        ids = {(FIELDS[kind], name): number for kind, name, number in resources}
        assert sorted(ids) == sorted((field, name) for (field, _), name in self.book.names.items())
        log = self.portal.call(
            rows, self.database, "select type, subject, body from event order by position"
        )
        events: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for kind, subject, body in log:
            assert "Иван" not in body
            assert "Мария" not in body
            assert "срочно" not in body
            assert "очков" not in body
            assert "555-01-02" not in body
            assert "5550102" not in body
            events.setdefault(subject, []).append((kind, json.loads(body)["data"]))
        assert events == {
            f"appointment/{number}": [
                (kind, facts(number, version, life, ids))
                for version, (kind, life) in enumerate(zip(one.types, one.lives, strict=True), 1)
            ]
            for number, one in told.items()
        }


def as_text(time: datetime | str) -> str:
    return time if isinstance(time, str) else time.isoformat()


def of_record(record: dict[str, Any]) -> Life:
    return Life(
        record["patient_name"],
        record["office_number"],
        record["doctor_name"],
        record["date_time"],
        record["duration_minutes"],
        record["patient_phone"],
        record["note"],
        record["status"],
        record["override_reason"],
    )


def facts(number: int, version: int, life: Life, ids: dict[tuple[str, str], int]) -> dict[str, Any]:
    return {
        "appointment_id": number,
        "version": version,
        "status": life.status,
        "office_id": ids["office_number", life.office_number],
        "office_number": life.office_number,
        "doctor_id": life.doctor_name and ids["doctor_name", life.doctor_name],
        "doctor_name": life.doctor_name,
        "appointment_type": None,
        "date_time": life.date_time,
        "time_zone": "Europe/Berlin",
        "duration_minutes": life.duration_minutes,
        "override": life.reason is not None,
    }


# Hypothesis takes up to five minutes to find the shortest life that goes wrong.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("lives", "length"),
    [(40, 50), pytest.param(800, 100, marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
)
def test_lives_go_as_the_rules_say(database_url: str, lives: int, length: int) -> None:
    everyday = length == 50
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_database(database_url)) as database,
    ):
        desk = desk_on(database)
        stop = Stop()

        class Here(Lives):
            def __init__(self) -> None:
                super().__init__(portal, database, desk)

        running = portal.start_task_soon(desk.writer.run, Lifecycle(stop, lambda: None))
        try:
            run_state_machine_as_test(
                Here,
                settings=settings(
                    max_examples=lives,
                    stateful_step_count=length,
                    derandomize=everyday,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            portal.call(stop.request)
            running.result(10)
