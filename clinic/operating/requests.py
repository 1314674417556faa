"""What a client may ask about the messages that are not solved."""

import datetime
import re
from enum import StrEnum
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from clinic.events import EventType, Id
from clinic.operating.operations import Status, Verb
from clinic.registry.names import OfficeNumber, Reason
from clinic.registry.requests import STRICT

# Messages of a page of the list.
USUAL_PAGE, LARGEST_PAGE = 50, 500
# More are selected by a filter.
MOST_IDS = 1000
FASTEST = 100_000

Count = Annotated[
    int,
    BeforeValidator(lambda value: int(value) if re.fullmatch("[0-9]{1,18}", str(value)) else value),
]


def read_moment(value: object) -> object:
    """Return the moment, in UTC, that a text with an offset stands for."""
    if isinstance(value, str):
        try:
            found = datetime.datetime.fromisoformat(value)
            if found.tzinfo is not None:
                return found.astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            pass
    raise PydanticCustomError("moment", "must be a moment such as 2027-12-01T15:30:00Z")


def one_of(words: type[StrEnum], value: object) -> object:
    """Return the member of an enumeration that a text names; whatever else is left as it is."""
    return words(value) if isinstance(value, str) and value in set(words) else value


Moment = Annotated[
    datetime.datetime,
    BeforeValidator(read_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Kind = Annotated[str, Field(min_length=1, max_length=200)]


class Filter(BaseModel):
    """Which messages: those that meet all that is given."""

    model_config = STRICT

    kind: Kind | None = None
    event_type: EventType | None = None
    office_number: OfficeNumber | None = None
    since: Moment | None = None
    until: Moment | None = None


class Listing(Filter):
    """A page of the list; ``past`` is the id of the last message on the page before."""

    past: Annotated[Count, Field(ge=0, le=2**62)] = 0
    limit: Annotated[Count, Field(ge=1, le=LARGEST_PAGE)] = USUAL_PAGE


class Page(BaseModel):
    """A page of what an operation has dealt with."""

    model_config = STRICT

    past: Annotated[Count, Field(ge=0, le=2**62)] = 0
    limit: Annotated[Count, Field(ge=1, le=LARGEST_PAGE)] = USUAL_PAGE


class NewOperation(Filter):
    """What to do with which messages: those of some ids, or all that meet the filter."""

    verb: Annotated[
        Verb,
        BeforeValidator(partial(one_of, Verb)),
        WithJsonSchema({"type": "string", "enum": [str(verb) for verb in Verb]}),
    ]
    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_IDS)] | None = None
    reason: Reason | None = None
    rate: Annotated[int, Field(ge=1, le=FASTEST)] | None = None

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.verb is Verb.DISCARD and self.reason is None:
            raise PydanticCustomError("reason", "needs a reason")
        return self


class OperationChange(BaseModel):
    """What to do with an operation."""

    model_config = STRICT

    status: Annotated[
        Literal[Status.RUNNING, Status.STOPPED],
        BeforeValidator(partial(one_of, Status)),
        WithJsonSchema({"type": "string", "enum": ["running", "stopped"]}),
    ]
