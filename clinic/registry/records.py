"""Offices, doctors and types of appointments: what they are, and why one cannot be had."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from clinic.access.audit import Change
from clinic.acting import Act, acting
from clinic.web.refusals import Refusal

Kind = Literal["office", "doctor"]
"""What an appointment takes up besides its patient."""

# What clients call the name of each.
FIELDS: dict[Kind, str] = {"office": "office_number", "doctor": "doctor_name"}


@dataclass(frozen=True, slots=True)
class Resource:
    """An office or a doctor, by the name that people see now.

    One that is not ``active`` is booked no more. One that was merged into another is that other for
    whoever still uses its name.
    """

    id: int
    kind: Kind
    name: str
    active: bool
    merged_into: int | None


@dataclass(frozen=True, slots=True)
class NewResource:
    """An office or a doctor that the first booking with its name registers.

    ``id`` was drawn for it, ``key`` is what its name is looked up by, and ``act`` is who asked.
    """

    id: int
    kind: Kind
    name: str
    key: str
    act: Act = field(default_factory=acting)

    def registered(self) -> Change:
        """Return what the audit has of it."""
        return Change(f"{self.kind}.registered", f"{self.kind}/{self.id}", {"name": self.name})


@dataclass(frozen=True, slots=True)
class AppointmentType:
    """A kind of appointment: how long it is, and what office and doctor need before and after.

    All in minutes. ``offices`` and ``doctors`` are the ids of those that offer it; None is all.
    ``colour`` is ``#`` and six lower-case hexadecimal digits.
    """

    id: int
    name: str
    active: bool
    duration_minutes: int
    buffer_before_minutes: int
    buffer_after_minutes: int
    colour: str | None
    offices: frozenset[int] | None
    doctors: frozenset[int] | None


class _Nearest(BaseModel):
    """The field, and the registered names that are most like the one in it."""

    model_config = ConfigDict(extra="allow")

    pointer: str
    nearest: list[str]


class NotRegistered(Refusal):
    """The clinic has no office or doctor of this name, and takes no new ones from bookings."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "not-registered"
    title = "There is no such office or doctor"
    explanation = (
        "No office or doctor of this name is registered, and CLINIC_REGISTRY=closed keeps bookings "
        "from registering new ones; nearest has the names that are most like it."
    )
    Members = _Nearest

    def __init__(self, kind: Kind, nearest: Sequence[str]) -> None:
        super().__init__(
            f"No {kind} of this name is registered. Take one that is, or have this one registered "
            f"with POST /{kind}. Nothing was stored."
        )
        self.kind = kind
        self.nearest = nearest
        self.members = {"pointer": f"#/{FIELDS[kind]}", "nearest": list(nearest)}

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of an office whose number was mistyped."""
        return cls("office", ["221B"])


class NotInUse(Refusal):
    """The office, doctor or type is not booked any more."""

    status = HTTPStatus.CONFLICT
    slug = "not-in-use"
    title = "It is not booked any more"
    explanation = (
        "The office, the doctor or the appointment type is inactive: what is booked stays, and "
        "nothing new is booked."
    )

    def __init__(self, what: str) -> None:
        super().__init__(
            f"This {what} is inactive, and not booked any more. Take another, or have it made "
            "active again. Nothing was changed."
        )

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of a doctor who has left."""
        return cls("doctor")


class NameTaken(Refusal):
    """Another record has this name, or had it once."""

    status = HTTPStatus.CONFLICT
    slug = "name-taken"
    title = "Another has this name"
    explanation = (
        "Another office, doctor or appointment type has this name, or had it once; names that "
        "differ in case, blanks or punctuation only are one. id says which."
    )

    def __init__(self, record_id: int) -> None:
        super().__init__(
            f"The record {record_id} has this name, or had it once. Take another name, or merge "
            "the two if they are the same. Nothing was changed."
        )
        self.members = {"id": record_id}

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of a name that the record 1 has."""
        return cls(1)


class NoSuchRecord(Refusal):
    """There is no record with this id."""

    status = HTTPStatus.NOT_FOUND
    slug = "no-such-record"
    title = "There is no such record"
    explanation = "There is no record of this kind with this id."
    detail = "There is no record of this kind with this id."


class RegistryChanged(Exception):
    """What was known of the registry is not so any more: read it again, and judge anew."""
