"""The account: what was confirmed over HTTP, and what the clinic must have of it in the end."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

# How many violations of each kind are told in full.
MOST_TOLD = 5
FIELDS = ("patient_name", "office_number", "doctor_name", "date_time", "duration_minutes", "status")


@dataclass(frozen=True)
class State:
    """How an appointment stands: its fields in the book, and the types of its events in order."""

    fields: Mapping[str, Any]
    events: tuple[str, ...]

    def after(self, event: str, **fields: object) -> "State":
        """Return the state that a change leads to."""
        return State({**self.fields, **fields}, (*self.events, event))


@dataclass
class Entry:
    """One appointment that a client wanted, and all that is known of it."""

    wanted: State
    key: str | None = None
    id: int | None = None
    stands: State | None = None
    """What was confirmed last."""
    may_stand: list[State] = field(default_factory=list)
    """States that it may have or get: asked for, and neither confirmed nor refused for good.

    A request that was not answered may be carried out late, by a process that was frozen.
    """

    @property
    def name(self) -> str:
        return str(self.wanted.fields["patient_name"])

    def possible(self) -> list[State]:
        """Return all states in which it may be; none where it must not be in the book."""
        return ([self.stands] if self.stands else []) + self.may_stand


@dataclass
class Account:
    """What was asked of the clinic, and what came back."""

    entries: list[Entry] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    """How many requests were answered with each status; "none" is no answer."""
    violations: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """What must not be, by kind."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, entry: Entry) -> None:
        """Take down what is going to be asked for."""
        with self._lock:
            self.entries.append(entry)

    def answered(self, status: int | None) -> None:
        """Count an answer, or that there was none."""
        with self._lock:
            self.statuses[str(status or "none")] += 1

    def violated(self, kind: str, what: str) -> None:
        """Take down what must not be."""
        with self._lock:
            self.violations[kind].append(what)

    @property
    def confirmed(self) -> list[Entry]:
        """All that was confirmed."""
        return [entry for entry in self.entries if entry.stands]

    def told(self) -> list[str]:
        """Return what was violated, in a few lines."""
        return [
            line
            for kind, found in sorted(self.violations.items())
            for line in (
                f"{kind}: {len(found)}",
                *(f"    {what}" for what in found[:MOST_TOLD]),
                *(["    ..."] if len(found) > MOST_TOLD else []),
            )
        ]


@dataclass(frozen=True)
class Kept:
    """What the clinic has in the end."""

    book: list[dict[str, Any]]
    """The list of all appointments, over HTTP."""
    totals: dict[str, int]
    """The totals of analytics, over HTTP."""
    log: list[tuple[str, str, str]]
    """The event log: id, type and subject of each event, in order."""
    recorded: list[tuple[str, str, int, int]]
    """What was recorded: event id, type, appointment and version."""
    set_aside: int
    """How many messages are not solved."""


def judge(account: Account, kept: Kept) -> None:
    """Take down whatever differs between the account and what the clinic has."""
    judge_book(account, kept.book)
    judge_overlaps(account, kept.book)
    judge_log(account, kept)
    judge_recorded(account, kept)
    if kept.set_aside:
        account.violated("set aside", f"{kept.set_aside} messages are in not solved")


def judge_book(account: Account, book: list[dict[str, Any]]) -> None:
    """Check that the book has what was confirmed, as it was confirmed, and nothing else."""
    by_name: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in book:
        by_name[record["patient_name"]].append(record)
    for entry in account.entries:
        records = by_name.pop(entry.name, [])
        if len(records) > 1:
            account.violated("doubled", f"{entry.name} stands {len(records)} times: {records}")
        elif not records:
            if entry.stands:
                account.violated("lost", f"{entry.name}, confirmed as {entry.id}")
        else:
            judge_record(account, entry, records[0])
    for name in by_name:
        account.violated("invented", f"nobody ever asked for {name}")
    ids = Counter(entry.id for entry in account.confirmed)
    for number, times in ids.items():
        if times > 1:
            account.violated("doubled", f"the id {number} was confirmed {times} times")


def judge_record(account: Account, entry: Entry, record: Mapping[str, Any]) -> None:
    """Check one appointment of the book."""
    found = {name: record[name] for name in FIELDS}
    if entry.stands and record["id"] != entry.id:
        account.violated("lost", f"{entry.name} is {record['id']}, confirmed as {entry.id}")
    if not entry.possible():
        account.violated("invented", f"{entry.name} was refused, and stands: {found}")
    elif all(dict(state.fields) != found for state in entry.possible()):
        account.violated("altered", f"{found}, confirmed: {entry.stands or entry.may_stand}")


def judge_overlaps(account: Account, book: Iterable[Mapping[str, Any]]) -> None:
    """Check that no two appointments share an office or a doctor at a time."""
    taken: defaultdict[tuple[str, str], list[tuple[datetime, datetime, int]]] = defaultdict(list)
    for record in book:
        if record["status"] == "cancelled":
            continue
        begins = datetime.fromisoformat(record["date_time"])
        ends = begins + timedelta(minutes=record["duration_minutes"])
        for of in ("office_number", "doctor_name"):
            if record[of] is not None:
                taken[of, record[of]].append((begins, ends, record["id"]))
    for (of, name), times in taken.items():
        times.sort()
        for (_, ends, one), (begins, _, other) in pairwise(times):
            if begins < ends:
                account.violated("overlaps", f"{one} and {other} at {begins} of {of} {name}")


def judge_log(account: Account, kept: Kept) -> None:
    """Check that the log has one event of each kind that was confirmed, in that order."""
    told: defaultdict[str, list[str]] = defaultdict(list)
    for _, kind, subject in kept.log:
        told[subject].append(kind)
    entries = {entry.name: entry for entry in account.entries}
    for record in kept.book:
        found = tuple(told.pop(f"appointment/{record['id']}", []))
        entry = entries.get(record["patient_name"])
        possible = [state.events for state in entry.possible()] if entry else []
        if possible and found not in possible:
            kind = "events lost" if len(found) < min(map(len, possible)) else "events doubled"
            account.violated(kind, f"{record['id']}: {found}, confirmed {possible}")
    for subject, kinds in told.items():
        account.violated("events invented", f"{subject} is not in the book: {kinds}")


def judge_recorded(account: Account, kept: Kept) -> None:
    """Check that analytics has recorded each event of the log once, and counts it once."""
    logged = {event_id: (kind, subject) for event_id, kind, subject in kept.log}
    times = Counter(event_id for event_id, *_ in kept.recorded)
    for event_id, what in logged.items():
        if not times[event_id]:
            account.violated("not recorded", f"{event_id}: {what}")
    for event_id, count in times.items():
        if event_id not in logged:
            account.violated("recorded, not logged", event_id)
        elif count > 1:
            account.violated("recorded twice", f"{event_id}: {count} times")
    versions = Counter((number, version) for _, _, number, version in kept.recorded)
    for (number, version), count in versions.items():
        if count > 1:
            account.violated("recorded twice", f"version {version} of {number}: {count} times")
    counted = Counter(kind.removeprefix("appointment.") for _, kind, _ in kept.log)
    totals = {kind: count for kind, count in kept.totals.items() if count}
    if totals != dict(counted):
        account.violated("miscounted", f"analytics says {totals}, the log {dict(counted)}")


def as_booked(fields: Mapping[str, Any]) -> State:
    """Return the state of an appointment that is booked with these fields."""
    return State(
        {"doctor_name": None, **fields, "status": "booked"},
        ("appointment.booked",),
    )


def body_of(state: State) -> dict[str, Any]:
    """Return what is sent to book an appointment so."""
    return {
        name: value
        for name, value in state.fields.items()
        if name != "status" and value is not None
    }
