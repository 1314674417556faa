"""The audit over HTTP."""

import datetime
import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError, to_json
from starlette.requests import Request
from starlette.responses import Response

from clinic.access.audit import Asked, Audit, Deed
from clinic.web.callers import Permission
from clinic.web.endpoints import Answer, Content, Endpoint, Header
from clinic.web.headers import preferred
from clinic.web.reading import JSON, DayRange
from clinic.web.refusals import NotNow
from clinic.web.spreadsheet import lines

CSV = "text/csv"
LARGEST_PAGE = 500
USUAL_PAGE = 100
# Positions are given by the database, from 1 on.
BEYOND_ALL = 2**62
COLUMNS = ("position", "at", "actor", "request_id", "action", "subject", "detail")


def number_up_to(most: int) -> BeforeValidator:
    """Return what reads a whole number from a query."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        if re.fullmatch("[0-9]{1,18}", value) and 1 <= int(value) <= most:
            return int(value)
        raise PydanticCustomError("number", "must be a number from 1 to {most}", {"most": most})

    return BeforeValidator(read)


def _number_schema(most: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": 1, "maximum": most})


Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class AuditSearch(DayRange):
    """Which entries of the audit a client wants; days are those of UTC."""

    actor: Word | None = None
    action: Word | None = None
    subject: Word | None = None
    limit: Annotated[int, number_up_to(LARGEST_PAGE), _number_schema(LARGEST_PAGE)] | None = None
    before: Annotated[int, number_up_to(BEYOND_ALL), _number_schema(BEYOND_ALL)] | None = None

    def asked(self) -> Asked:
        """Return what is asked for."""
        first, last = self.first_day, self.last_day
        beyond = last is None or last.year == datetime.MAXYEAR
        return Asked(
            actor=self.actor,
            action=self.action,
            subject=self.subject,
            since=None if first is None else _midnight(first),
            until=None if beyond or last is None else _midnight(last + datetime.timedelta(days=1)),
        )


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC)


class AuditEntry(BaseModel):
    """Who did what to what, when, and by which request; ``detail`` has no patient in it."""

    position: int
    at: datetime.datetime
    actor: str
    request_id: str | None
    action: str
    subject: str | None
    detail: dict[str, Any]


def record(deed: Deed) -> dict[str, object]:
    """Return an entry of the audit as clients know it."""
    return {
        "position": deed.position,
        "at": deed.at,
        "actor": deed.actor,
        "request_id": deed.request_id,
        "action": deed.action,
        "subject": deed.subject,
        "detail": deed.detail,
    }


async def show(audit: Audit, request: Request) -> Response:
    """List the newest entries, with a link to older ones."""
    search = AuditSearch.of(request)
    limit = search.limit or USUAL_PAGE
    # One more than asked for, to know whether there are older ones.
    found = await audit.page(search.asked(), search.before or BEYOND_ALL, limit + 1)
    shown = found[:limit]
    headers = {"Vary": "Accept"}
    if len(found) > limit:
        query = dict(request.query_params) | {"before": str(shown[-1].position)}
        headers["Link"] = f'</audit?{urlencode(query)}>; rel="next"'
    if preferred(request.scope, (JSON, CSV)) == CSV:
        return Response(as_csv(shown), media_type=CSV, headers=headers)
    return Response(to_json([record(deed) for deed in shown]), media_type=JSON, headers=headers)


def as_csv(deeds: Iterable[Deed]) -> str:
    """Return entries as CSV; the detail is JSON."""
    records = [record(deed) for deed in deeds]
    cells = [
        [
            one["position"],
            to_json(one["at"]).decode().strip('"'),
            *(one[name] for name in ("actor", "request_id", "action", "subject")),
            json.dumps(one["detail"], ensure_ascii=False),
        ]
        for one in records
    ]
    return lines(cells, header=COLUMNS)


EXAMPLE = Deed(
    at=datetime.datetime(2027, 11, 20, 9, tzinfo=datetime.UTC),
    actor="Анна",
    request_id="0193c7a5-5c1e-7d2b-9f0e-6a1f0d3c2b1a",
    action="office.changed",
    subject="office/1",
    detail={"name": "221B, left"},
    position=1,
)

ENDPOINTS: tuple[Endpoint[Audit], ...] = (
    Endpoint(
        method="GET",
        path="/audit",
        handler=show,
        needs=Permission.ADMINISTER,
        expensive=True,
        name="audit",
        group="Audit",
        summary="List who did what",
        text="What was changed of the registry and the hours, tokens that were made and revoked, "
        "patients that were read in bulk: the newest first, 100 on a page unless limit says "
        "otherwise. What becomes of an appointment stands in its events, with who did it. from and "
        "to are days in UTC, both included. The header Accept chooses between JSON and CSV.",
        query=AuditSearch,
        queries=[{}, {"actor": "Анна", "from": "2027-11-01"}],
        answers=[
            Answer(
                status=HTTPStatus.OK,
                text="The entries.",
                contents={
                    JSON: Content(
                        AuditEntry, {"entries": [json.loads(to_json(record(EXAMPLE)))]}, many=True
                    ),
                    CSV: Content({"type": "string"}, {"lines": as_csv([EXAMPLE])}),
                },
                headers=[
                    Header(name="Vary", text="Accept chooses the media type.", example="Accept"),
                    Header(
                        name="Link",
                        text="Older entries, if there are any.",
                        example='</audit?before=1>; rel="next"',
                        always=False,
                    ),
                ],
            )
        ],
        refusals=[NotNow],
    ),
)
