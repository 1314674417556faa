"""The endpoints of operating, described."""

from http import HTTPStatus
from typing import Any

from clinic.operating import handlers
from clinic.operating.handlers import NotSolved
from clinic.operating.operations import CannotBecome, NoSuchMessage, NoSuchOperation, Status, Verb
from clinic.operating.requests import Listing, NewOperation, OperationChange, Page
from clinic.registry.records import NoSuchRecord, NotRegistered
from clinic.web.callers import Permission
from clinic.web.endpoints import Answer, Body, Content, Endpoint, Header, Schema
from clinic.web.reading import CHANGE_TYPES, JSON
from clinic.web.refusals import MaybeDone, NotNow

__all__ = ["ENDPOINTS", "NotSolved"]

MOMENT: Schema = {"type": "string", "format": "date-time"}
MAYBE_MOMENT: Schema = {"type": ["string", "null"], "format": "date-time"}
TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "integer", "minimum": 0}
MAYBE_NUMBER: Schema = {"type": ["integer", "null"], "minimum": 0}


def object_of(about: str = "", /, **members: Schema) -> dict[str, Any]:
    """Return the schema of an object that has all of these members."""
    schema: dict[str, Any] = {"type": "object", "properties": members, "required": list(members)}
    return {"description": about, **schema} if about else schema


def list_of(form: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": form}


LISTED: dict[str, Schema] = {
    "id": NUMBER,
    "event_id": MAYBE_TEXT,
    "event_type": MAYBE_TEXT,
    "office_number": MAYBE_TEXT,
    "kind": TEXT,
    "reason": TEXT,
    "deliveries": MAYBE_NUMBER,
    "set_aside_at": MOMENT,
    "state": {
        "type": "string",
        "enum": ["waiting", "replayed", "dropped", "discarded", "missing"],
    },
    "ended_at": MAYBE_MOMENT,
    "operation_id": MAYBE_NUMBER,
}
ROW = object_of("A message that was set aside. Without event_id it is no event of ours.", **LISTED)
GROUP = object_of("A kind of error.", kind=TEXT, messages=NUMBER, first_at=MOMENT, last_at=MOMENT)
LIST = object_of(
    "waiting counts what meets the filter; in_queue is all that the broker has, null if it does "
    "not tell now. Where they differ without a filter and without an operation that runs, an "
    "operation with the verb check corrects the list.",
    waiting=NUMBER,
    in_queue=MAYBE_NUMBER,
    groups=list_of(GROUP),
    messages=list_of(ROW),
)
ATTEMPT = object_of(
    failed_at=MOMENT,
    delivery=MAYBE_NUMBER,
    kind=TEXT,
    text=TEXT,
    traceback=TEXT,
    process=TEXT,
)
MESSAGE: dict[str, Any] = {
    **object_of(id=TEXT, type=TEXT, subject=TEXT, body={"type": ["string", "null"]}),
    "type": ["object", "null"],
    "additionalProperties": False,
}
ONE = object_of(
    "A message that was set aside, with all that is known of it. message is null where it is too "
    "large to be kept twice.",
    **LISTED,
    advice=TEXT,
    attempts=list_of(ATTEMPT),
    message=MESSAGE,
)
FILTER = object_of(
    ids={"type": ["array", "null"], "items": NUMBER},
    kind=MAYBE_TEXT,
    event_type=MAYBE_TEXT,
    office_number=MAYBE_TEXT,
    since=MAYBE_MOMENT,
    until=MAYBE_MOMENT,
)
OPERATION = object_of(
    "Something planned for messages. results counts by state those that were dealt with.",
    id=NUMBER,
    verb={"type": "string", "enum": [str(verb) for verb in Verb]},
    status={"type": "string", "enum": [str(status) for status in Status]},
    preview=TEXT,
    filter=FILTER,
    up_to=NUMBER,
    messages=NUMBER,
    recorded=NUMBER,
    foreign=NUMBER,
    reason=MAYBE_TEXT,
    rate=MAYBE_NUMBER,
    planned_by=TEXT,
    planned_at=MOMENT,
    started_at=MAYBE_MOMENT,
    ended_at=MAYBE_MOMENT,
    trouble=MAYBE_TEXT,
    results={"type": "object", "additionalProperties": NUMBER},
)
STEP: Schema = {
    "description": "One step. at is null while nobody knows when it was.",
    "type": "object",
    "properties": {
        "at": MAYBE_MOMENT,
        "what": {
            "type": "string",
            "enum": [
                *("told", "published", "attempt", "set_aside"),
                *("replayed", "dropped", "discarded", "missing", "recorded"),
            ],
        },
        "times": NUMBER,
        "delivery": MAYBE_NUMBER,
        "kind": TEXT,
        "text": TEXT,
        "process": TEXT,
        "reason": MAYBE_TEXT,
        "not_solved_id": NUMBER,
        "operation_id": MAYBE_NUMBER,
        "by": MAYBE_TEXT,
    },
    "required": ["at", "what"],
}
TOLD = object_of(
    id=TEXT,
    type=TEXT,
    version=NUMBER,
    state={
        "type": "string",
        "enum": [
            *("to_be_published", "published", "recorded"),
            *("not_solved", "discarded", "missing"),
        ],
    },
    story=list_of(STEP),
)
STORY = object_of("The way of each event.", appointment_id=NUMBER, events=list_of(TOLD))

EXAMPLE_ROW = {
    "id": 17,
    "event_id": "01a22819-1039-7442-81e2-7bc7dc5bcdfb",
    "event_type": "appointment.booked",
    "office_number": "221B",
    "kind": "StatementRefused",
    "reason": "failed 4 times, at last with StatementRefused",
    "deliveries": 4,
    "set_aside_at": "2027-12-01T15:30:40Z",
    "state": "waiting",
    "ended_at": None,
    "operation_id": None,
}
EXAMPLE_ATTEMPT = {
    "failed_at": "2027-12-01T15:30:40Z",
    "delivery": 4,
    "kind": "StatementRefused",
    "text": "CheckViolationError 23514 (recorded_hour_of_week_check)",
    "traceback": "StatementRefused: CheckViolationError 23514",
    "process": "consumer-1:4711",
}
EXAMPLE_OPERATION = {
    "id": 3,
    "verb": "replay",
    "status": "planned",
    "preview": "1,204 messages, up to position 88,123, by this filter: all: 1,190 will be "
    "recorded, 14 are recorded already and will be dropped.",
    "filter": dict.fromkeys(("ids", "kind", "event_type", "office_number", "since", "until"), None),
    "up_to": 88123,
    "messages": 1204,
    "recorded": 14,
    "foreign": 0,
    "reason": None,
    "rate": 100,
    "planned_by": "HTTP",
    "planned_at": "2027-12-01T16:00:00Z",
    "started_at": None,
    "ended_at": None,
    "trouble": None,
    "results": {},
}
EXAMPLE_STORY = {
    "appointment_id": 1,
    "events": [
        {
            "id": EXAMPLE_ROW["event_id"],
            "type": "appointment.booked",
            "version": 1,
            "state": "not_solved",
            "story": [
                {"at": "2027-12-01T15:30:00Z", "what": "told"},
                {
                    "at": "2027-12-01T15:30:40Z",
                    "what": "set_aside",
                    "kind": "StatementRefused",
                    "reason": EXAMPLE_ROW["reason"],
                    "not_solved_id": 17,
                },
            ],
        }
    ],
}
NEXT = Header(
    name="Link",
    text="Leads to the next page, if there is one.",
    example='</not-solved?limit=1&past=17>; rel="next"',
    always=False,
)
GROUP_NAME = "Operating"


def answered(form: Schema, example: object, text: str, **more: Any) -> Answer:
    """Return an answer of one form."""
    return Answer(text=text, contents={JSON: Content(form, {"example": example})}, **more)


ENDPOINTS: tuple[Endpoint[NotSolved], ...] = (
    Endpoint(
        method="GET",
        path="/not-solved",
        handler=handlers.listed,
        needs=Permission.OPERATE,
        name="not_solved",
        group=GROUP_NAME,
        summary="List what is not solved",
        text="Messages that were set aside and wait for a person, oldest first, and how many there "
        "are by the kind of their error. since is included, until is not.",
        query=Listing,
        queries=[{"kind": "StatementRefused"}],
        answers=[
            answered(
                LIST,
                {
                    "waiting": 1,
                    "in_queue": 1,
                    "groups": [
                        {
                            "kind": "StatementRefused",
                            "messages": 1,
                            "first_at": "2027-12-01T15:30:40Z",
                            "last_at": "2027-12-01T15:30:40Z",
                        }
                    ],
                    "messages": [EXAMPLE_ROW],
                },
                "What waits.",
                headers=[NEXT],
            )
        ],
        refusals=[NotRegistered, NotNow],
    ),
    Endpoint(
        method="GET",
        path="/not-solved/{id}",
        handler=handlers.show,
        needs=Permission.OPERATE,
        name="show_not_solved",
        group=GROUP_NAME,
        summary="Get a message that was set aside",
        text="With the message itself, the attempts at it, and what to do about it.",
        ids={"id": 1},
        answers=[
            answered(
                ONE,
                {
                    **EXAMPLE_ROW,
                    "advice": "This is an event of this clinic: replay it when the error is "
                    "mended.",
                    "attempts": [EXAMPLE_ATTEMPT],
                    "message": {
                        "id": EXAMPLE_ROW["event_id"],
                        "type": "appointment.booked",
                        "subject": "appointment/1",
                        "body": "{}",
                    },
                },
                "The message.",
            )
        ],
        refusals=[NoSuchMessage, NotNow],
    ),
    Endpoint(
        method="POST",
        path="/operation",
        handler=handlers.plan,
        needs=Permission.OPERATE,
        audited=True,
        name="plan",
        group=GROUP_NAME,
        summary="Plan an operation",
        text="Fix which messages to replay, discard or restore: those of some ids, or all that "
        "meet the filter now. Nothing is done until it is started. A discard needs a reason; what "
        "was discarded can be restored until it is forgotten. check walks through the broker's "
        "queue and corrects the list by it. rate is in messages a second.",
        body=Body(
            media_types=[JSON],
            content=Content(
                NewOperation,
                {
                    "replay": {"verb": "replay", "kind": "StatementRefused", "rate": 100},
                    "discard": {"verb": "discard", "ids": [17], "reason": "of a rehearsal"},
                    "check": {"verb": "check"},
                },
            ),
        ),
        answers=[
            answered(
                OPERATION,
                EXAMPLE_OPERATION,
                "What is planned.",
                status=HTTPStatus.CREATED,
                headers=[Header(name="Location", text="Its address.", example="/operation/3")],
            )
        ],
        refusals=[NotRegistered, NotNow, MaybeDone],
    ),
    Endpoint(
        method="GET",
        path="/operation",
        handler=handlers.operations,
        needs=Permission.OPERATE,
        name="operations",
        group=GROUP_NAME,
        summary="List operations",
        text="The newest first, 50 at most.",
        answers=[
            Answer(
                text="The operations.",
                contents={JSON: Content(OPERATION, {"example": [EXAMPLE_OPERATION]}, many=True)},
            )
        ],
        refusals=[NotNow],
    ),
    Endpoint(
        method="GET",
        path="/operation/{id}",
        handler=handlers.show_operation,
        needs=Permission.OPERATE,
        name="show_operation",
        group=GROUP_NAME,
        summary="Get an operation",
        ids={"id": 1},
        answers=[answered(OPERATION, EXAMPLE_OPERATION, "How far it has come.")],
        refusals=[NoSuchOperation, NotNow],
    ),
    Endpoint(
        method="PATCH",
        path="/operation/{id}",
        handler=handlers.change,
        needs=Permission.OPERATE,
        audited=True,
        name="change_operation",
        group=GROUP_NAME,
        summary="Start or stop an operation",
        text="What is running goes on in any process of the clinic, even if this one dies.",
        ids={"id": 1},
        body=Body(
            media_types=CHANGE_TYPES,
            content=Content(
                OperationChange,
                {"start": {"status": "running"}, "stop": {"status": "stopped"}},
            ),
        ),
        answers=[
            answered(
                OPERATION,
                {
                    **EXAMPLE_OPERATION,
                    "status": "running",
                    "started_at": "2027-12-01T16:00:10Z",
                },
                "The operation as it is now.",
            )
        ],
        refusals=[NoSuchOperation, CannotBecome, NotNow, MaybeDone],
    ),
    Endpoint(
        method="GET",
        path="/operation/{id}/messages",
        handler=handlers.results,
        needs=Permission.OPERATE,
        name="operation_messages",
        group=GROUP_NAME,
        summary="List what an operation has dealt with",
        text="A result for each message, in the order of ids.",
        ids={"id": 1},
        query=Page,
        queries=[{"limit": "100"}],
        answers=[
            Answer(
                text="The messages.",
                contents={
                    JSON: Content(
                        ROW,
                        {
                            "example": [
                                {
                                    **EXAMPLE_ROW,
                                    "state": "replayed",
                                    "ended_at": "2027-12-01T16:00:11Z",
                                    "operation_id": 3,
                                }
                            ]
                        },
                        many=True,
                    )
                },
                headers=[NEXT],
            )
        ],
        refusals=[NoSuchOperation, NotNow],
    ),
    Endpoint(
        method="GET",
        path="/appointment/{id}/story",
        handler=handlers.story,
        needs=Permission.OPERATE,
        name="story",
        group=GROUP_NAME,
        summary="Get the story of an appointment's events",
        text="The whole way of each event: told, published, each attempt that failed, recorded; or "
        "set aside, replayed, discarded, and why. An event that was published once and recorded "
        "at once has no step published: nobody writes down when that was. "
        "GET /appointment/{id}/events has the events themselves.",
        ids={"id": 1},
        answers=[answered(STORY, EXAMPLE_STORY, "The story.")],
        refusals=[NoSuchRecord, NotNow],
    ),
)
