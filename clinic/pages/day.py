"""The day: its grid and its list, worked out from what the desk says.

The grid has offices or doctors side by side and time downwards; the list has the same appointments
by where their patients are.
"""

import datetime
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from clinic.appointments.appointment import Appointment
from clinic.appointments.day import Day
from clinic.appointments.listing import midnight
from clinic.events import Status
from clinic.registry.records import Kind, Resource
from clinic.registry.timetable import DAY, MINUTE, Place, Span, merged, minus, place_of

State = Literal["booked", "late", "arrived", "in_room", "open", "done", "no_show", "cancelled"]
"""Where an appointment's patient is: its status, ``late`` if it has begun without the patient, and
``open`` if its day is over and nobody has said what became of it."""

# In the list, what needs somebody soonest comes first.
ORDER: tuple[State, ...] = (
    *("arrived", "late", "in_room", "booked", "open", "done", "no_show", "cancelled"),
)
NEXT: Mapping[Status, Status] = {"booked": "arrived", "arrived": "in_room", "in_room": "done"}
HERE = frozenset({"arrived", "in_room"})
# The name of a column whose appointments have no doctor.
NOBODY = 0
# The style sheet has rules for so many side by side.
MOST_LANES = 12
HOURS_OF_DAY = 24
# Minutes from which on a block has room for a second line, and for more.
TALL = 30
BIG = 40
# Appointments shorter than these need a taller grid, for one line of text each.
ZOOMS = (15, 10, 5)


@dataclass(frozen=True, slots=True)
class Block:
    """An appointment as it is shown: where, how, and what its one button does.

    ``minutes`` is for how long its patient has waited, or been in the room; ``alarm`` that this is
    too long. ``detail`` is whatever else there is to say. ``lane`` and ``lanes`` are its place
    among those that overlap it.
    """

    appointment: Appointment
    state: State
    minutes: int | None
    alarm: bool
    step: Status | None
    span: Span
    detail: str
    lane: int = 0
    lanes: int = 1
    is_free: bool = False

    @property
    def place(self) -> str:
        """The classes that say where it stands, and how much there is room for."""
        found = place(self.span)
        if self.length >= TALL:
            found += " big" if self.length >= BIG else " tall"
        if self.lanes > 1:
            found += f" l{self.lane} of{self.lanes}"
        return found + " alarm" if self.alarm else found

    @property
    def time(self) -> str:
        """When it begins."""
        return clock(self.appointment.date_time)

    @property
    def ends(self) -> str:
        """When it ends."""
        return clock(self.appointment.end_time)

    @property
    def length(self) -> float:
        """Its length in the grid, in minutes."""
        return (self.span.ends - self.span.begins) / MINUTE


@dataclass(frozen=True, slots=True)
class Free:
    """A free time of the grid."""

    span: Span
    is_free: bool = True

    @property
    def time(self) -> str:
        """When it begins."""
        return clock(self.span.begins)

    @property
    def place(self) -> str:
        """The classes that say where it stands."""
        return place(self.span)


@dataclass(frozen=True, slots=True)
class Column:
    """An office or a doctor: what is booked, free and closed; with the reason of a closure."""

    id: int
    kind: Kind
    name: str | None
    blocks: Sequence[Block]
    free: Sequence[Free]
    closed: Sequence[Span]
    reason: str | None

    @property
    def items(self) -> list[Block | Free]:
        """What is booked and what is free, in order of time."""
        return sorted([*self.blocks, *self.free], key=lambda one: one.span.begins)

    @property
    def shades(self) -> list[str]:
        """The classes of what is closed."""
        return [place(span) for span in self.closed]


@dataclass(frozen=True, slots=True)
class Board:
    """A day to look at: from one full hour up to another, with the line of now if it is today."""

    date: datetime.date
    columns: Sequence[Column]
    first_hour: int
    last_hour: int
    zoom: int
    now: str | None
    counts: Mapping[State, int]
    groups: Mapping[State, Sequence[Block]]


@dataclass(frozen=True, slots=True)
class Looking:
    """How a day is looked at.

    ``cancelled`` says whether what is cancelled is shown; ``moving`` is an appointment that is to
    be moved, for which free times are looked for. ``only`` are the columns that are wanted.
    """

    by: Kind
    now: datetime.datetime
    step_minutes: int
    alarm_minutes: int
    cancelled: bool = False
    moving: Appointment | None = None
    only: frozenset[int] | None = None


def lay_out(day: Day, looking: Looking) -> Board:
    """Return a day as it is to be shown."""
    begins = midnight(day.date)
    whole = Span(begins, begins + DAY)
    blocks = [_block(one, day, whole, looking) for one in day.appointments]
    counts: defaultdict[State, int] = defaultdict(int)
    groups: dict[State, list[Block]] = {state: [] for state in ORDER}
    for block in blocks:
        counts[block.state] += 1
        groups[block.state].append(block)
    # Who has waited for longest is the first.
    groups["arrived"].sort(key=lambda one: -(one.minutes or 0))
    if not looking.cancelled:
        groups["cancelled"] = []
        blocks = [one for one in blocks if one.state != "cancelled"]
    opened = {place: day.opened(place) for place in _places(day, looking.by)}
    first, last = _hours(blocks, opened.values(), whole)
    window = Span(begins + first * 60 * MINUTE, begins + last * 60 * MINUTE)
    shortest = min((block.length for block in blocks), default=ZOOMS[0])
    is_today = looking.now.date() == day.date and window.begins <= looking.now < window.ends
    return Board(
        date=day.date,
        columns=[*_columns(day, blocks, opened, window, looking)],
        first_hour=first,
        last_hour=last,
        zoom=next((one for one in ZOOMS if shortest >= one), ZOOMS[-1]),
        now=moment(looking.now) if is_today else None,
        counts=counts,
        groups=groups,
    )


def _block(appointment: Appointment, day: Day, whole: Span, looking: Looking) -> Block:
    since = day.since.get(appointment.id)
    is_today = looking.now.date() == day.date
    who = appointment.doctor_name if looking.by == "office" else appointment.office_number
    details = who, appointment.appointment_type, appointment.note
    minutes = max(0, (looking.now - since) // MINUTE) if since and is_today else None
    return Block(
        appointment=appointment,
        state=state_of(appointment, looking.now),
        minutes=minutes,
        alarm=appointment.status == "arrived" and (minutes or 0) >= looking.alarm_minutes,
        # Nobody arrives on a day that is still to come.
        step=NEXT.get(appointment.status) if looking.now.date() >= day.date else None,
        detail=" · ".join(one for one in details if one),
        span=Span(max(appointment.date_time, whole.begins), min(appointment.end_time, whole.ends)),
    )


def state_of(appointment: Appointment, now: datetime.datetime) -> State:
    """Return where an appointment's patient is."""
    status = appointment.status
    if status not in NEXT:
        return status
    if appointment.end_time.date() < now.date():
        return "open"
    return "late" if status == "booked" and appointment.date_time < now else status


def _places(day: Day, by: Kind) -> list[Place]:
    """Return the places that have a column: those in use, and those that are booked."""
    booked = {_of(one, by) for one in day.appointments if one.status != "cancelled"}
    every = day.staff.offices if by == "office" else day.staff.doctors
    shown = [place_of(by, one.id) for one in every if one.active or one.id in booked]
    return [*shown, Place()] if by == "doctor" and NOBODY in booked else shown


def _of(appointment: Appointment, by: Kind) -> int:
    return appointment.office_id if by == "office" else appointment.doctor_id or NOBODY


def _hours(
    blocks: Sequence[Block], opened: Iterable[Sequence[Span]], whole: Span
) -> tuple[int, int]:
    """Return the first and the last full hour of all that is open or booked."""
    spans = [*(span for spans in opened for span in spans), *(block.span for block in blocks)]
    if not spans:
        return 8, 20
    first = min(span.begins for span in spans) - whole.begins
    last = max(span.ends for span in spans) - whole.begins
    hour = 60 * MINUTE
    return first // hour, max(-(-last // hour), first // hour + 1)


def _columns(
    day: Day,
    blocks: Sequence[Block],
    opened: Mapping[Place, Sequence[Span]],
    window: Span,
    looking: Looking,
) -> Iterator[Column]:
    by_id: defaultdict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        by_id[_of(block.appointment, looking.by)].append(block)
    every = day.staff.offices if looking.by == "office" else day.staff.doctors
    names = {one.id: one for one in every}
    for where, open_spans in opened.items():
        number = (where.office_id if looking.by == "office" else where.doctor_id) or NOBODY
        if looking.only is not None and number not in looking.only:
            continue
        resource = names.get(number)
        own = by_id[number]
        yield Column(
            id=number,
            kind=looking.by,
            name=resource.name if resource else None,
            blocks=list(_side_by_side(own)),
            free=[*_free(own, open_spans, resource, looking)],
            closed=list(minus([window], open_spans)),
            reason=day.closed_because(where),
        )


def _free(
    blocks: Sequence[Block],
    opened: Sequence[Span],
    resource: Resource | None,
    looking: Looking,
) -> Iterator[Free]:
    """Yield the free times of a column that are not past."""
    if resource is None or not resource.active:
        return
    taken = merged(
        Span(one.appointment.occupied_from, one.appointment.occupied_until)
        for one in blocks
        if one.state != "cancelled" and one.appointment != looking.moving
    )
    step = looking.step_minutes * MINUTE
    for span in minus(opened, taken):
        day = midnight(span.begins.date())
        begins = day - step * ((day - span.begins) // step)
        while begins + step <= span.ends:
            if begins + step > looking.now:
                yield Free(Span(begins, begins + step))
            begins += step


def _side_by_side(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yield blocks in order, those that overlap in lanes of their own."""
    cluster: list[tuple[Block, int]] = []
    ends: list[datetime.datetime] = []
    for block in blocks:
        if ends and block.span.begins >= max(ends):
            yield from _in_lanes(cluster, len(ends))
            cluster, ends = [], []
        lane = next((n for n, end in enumerate(ends) if end <= block.span.begins), len(ends))
        if lane == len(ends):
            ends.append(block.span.ends)
        else:
            ends[lane] = block.span.ends
        cluster.append((block, lane))
    yield from _in_lanes(cluster, len(ends))


def _in_lanes(cluster: Sequence[tuple[Block, int]], lanes: int) -> Iterator[Block]:
    for block, lane in cluster:
        if lanes == 1:
            yield block
        else:
            yield replace(block, lane=min(lane, MOST_LANES - 1), lanes=min(lanes, MOST_LANES))


def place(span: Span) -> str:
    """Return the classes that say from when until when something is, on its day."""
    begins, ends = span
    hour = ends.hour
    if ends.date() > begins.date():
        hour = HOURS_OF_DAY
    return f"h{begins.hour} m{begins.minute} H{hour} M{ends.minute}"


def clock(time: datetime.datetime) -> str:
    """Return a time as clocks show it."""
    return f"{time.hour:02}:{time.minute:02}"


def moment(time: datetime.datetime) -> str:
    """Return the classes that say when something is, on its day."""
    return f"h{time.hour} m{time.minute}"
