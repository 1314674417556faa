"""The endpoints of the registry: what each does, and how it is described."""

from functools import partial
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from clinic.events import Id
from clinic.registry.names import Name
from clinic.registry.records import Kind, NameTaken, NoSuchRecord, Resource
from clinic.registry.registry import CannotMerge, MergeOverlaps, Registry
from clinic.registry.requests import (
    Change,
    DoctorChange,
    NewDoctor,
    NewOffice,
    OfficeChange,
    Registration,
    change_of,
)
from clinic.web.callers import Permission
from clinic.web.endpoints import Answer, Body, Content, Endpoint, Header
from clinic.web.reading import CHANGE_TYPES, JSON, read_fields, read_id, read_json_object
from clinic.web.refusals import MaybeDone, NotNow

NEW: dict[Kind, type[Registration]] = {"office": NewOffice, "doctor": NewDoctor}
CHANGES: dict[Kind, type[Change]] = {"office": OfficeChange, "doctor": DoctorChange}


class ResourceRecord(BaseModel):
    """An office or a doctor, by the name that people see now."""

    id: Id
    name: Name
    active: bool
    merged_into: Id | None


def record(resource: Resource) -> dict[str, object]:
    """Return an office or a doctor as clients know it."""
    return {
        "id": resource.id,
        "name": resource.name,
        "active": resource.active,
        "merged_into": resource.merged_into,
    }


def answer(resource: Resource, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Response:
    """Return the response that shows an office or a doctor."""
    return Response(to_json(record(resource)), status, headers, JSON)


async def index(kind: Kind, registry: Registry, _request: Request) -> Response:
    """List all offices, or all doctors."""
    found = await registry.all(kind)
    return Response(to_json([record(one) for one in found]), media_type=JSON)


async def register(kind: Kind, registry: Registry, request: Request) -> Response:
    """Register an office or a doctor."""
    sent = await read_json_object(request)
    new = read_fields(NEW[kind], sent, {})
    made = await registry.register(kind, new.name)
    return answer(made, HTTPStatus.CREATED, Location=f"/{kind}/{made.id}")


async def show(kind: Kind, registry: Registry, request: Request) -> Response:
    """Show an office or a doctor."""
    return answer(await registry.show(kind, read_id(request, NoSuchRecord)))


async def change(kind: Kind, registry: Registry, request: Request) -> Response:
    """Rename an office or a doctor, take it out of use, or merge it into another."""
    sent = await read_json_object(request, CHANGE_TYPES)
    wanted = change_of(read_fields(CHANGES[kind], sent, {}))
    return answer(await registry.change(kind, read_id(request, NoSuchRecord), wanted))


def endpoints(kind: Kind, example: str, other: str) -> tuple[Endpoint[Registry], ...]:
    """Return the endpoints of offices, or of doctors; ``example`` and ``other`` are names."""
    plural, shown = f"{kind}s", record(Resource(1, kind, example, active=True, merged_into=None))
    group: dict[str, Any] = {"group": plural.capitalize()}
    one: dict[str, Any] = {**group, "ids": {"id": 1}}

    def content(name: str, value: object, *, many: bool = False) -> dict[str, Content]:
        return {JSON: Content(ResourceRecord, {name: value}, many=many)}

    location = Header(name="Location", text=f"Where the {kind} is.", example=f"/{kind}/1")
    return (
        Endpoint(
            method="GET",
            path=f"/{kind}",
            handler=partial(index, kind),
            needs=Permission.READ,
            name=f"list_{plural}",
            summary=f"List {plural}",
            text=f"All {plural}, in the order of their names; also those that are not in use any "
            "more.",
            answers=[Answer(text=f"The {plural}.", contents=content(plural, [shown], many=True))],
            refusals=[NotNow],
            **group,
        ),
        Endpoint(
            method="POST",
            path=f"/{kind}",
            handler=partial(register, kind),
            needs=Permission.ADMINISTER,
            audited=True,
            name=f"register_{kind}",
            summary=f"Register a{'n' if kind == 'office' else ''} {kind}",
            text="The first booking with a new name does so by itself, unless CLINIC_REGISTRY is "
            "closed. Names that differ in case, blanks or punctuation only are one name.",
            body=Body(media_types=[JSON], content=Content(NEW[kind], {"new": {"name": example}})),
            answers=[
                Answer(
                    status=HTTPStatus.CREATED,
                    text="It is registered.",
                    contents=content(kind, shown),
                    headers=[location],
                )
            ],
            refusals=[NameTaken, NotNow, MaybeDone],
            **group,
        ),
        Endpoint(
            method="GET",
            path=f"/{kind}/{{id}}",
            handler=partial(show, kind),
            needs=Permission.READ,
            name=f"show_{kind}",
            summary=f"Get a{'n' if kind == 'office' else ''} {kind}",
            answers=[Answer(text=f"The {kind}.", contents=content(kind, shown))],
            refusals=[NoSuchRecord, NotNow],
            **one,
        ),
        Endpoint(
            method="PATCH",
            path=f"/{kind}/{{id}}",
            handler=partial(change, kind),
            needs=Permission.ADMINISTER,
            audited=True,
            name=f"change_{kind}",
            summary=f"Rename a{'n' if kind == 'office' else ''} {kind}, or merge two",
            text="A merge patch (RFC 7396). With a new name all that is booked has that name, and "
            "the old one still means the same. With active false it is booked no more; what is "
            "booked stays. merged_into is the id of another: all appointments go over to it, each "
            "with its event, and so do the names.",
            body=Body(
                media_types=CHANGE_TYPES,
                content=Content(
                    CHANGES[kind],
                    {
                        "rename": {"name": other},
                        "close": {"active": False},
                        "merge": {"merged_into": 2},
                    },
                ),
            ),
            answers=[Answer(text="As it is now.", contents=content(kind, shown | {"name": other}))],
            refusals=[NoSuchRecord, NameTaken, CannotMerge, MergeOverlaps, NotNow, MaybeDone],
            **one,
        ),
    )


ENDPOINTS: tuple[Endpoint[Registry], ...] = (
    *endpoints("office", "221B", "221B, left"),
    *endpoints("doctor", "Доктор Ватсон", "Доктор Джон Ватсон"),
)
