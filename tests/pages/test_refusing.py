"""Whatever goes wrong is told by a page, in the words of the front desk."""

import logging
import re
import zoneinfo
from collections.abc import Iterator
from typing import cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from clinic.access.guard import ANYONE
from clinic.appointments.desk import Desk
from clinic.database import DatabaseUnavailable, OutcomeUnknown
from clinic.pages import booking, refusing, table
from clinic.pages.front import Front
from clinic.pages.languages import LANGUAGES
from clinic.pages.live import Feed
from clinic.web.callers import CALLER
from clinic.web.endpoints import Guarded
from clinic.web.refusals import Refusal

pytestmark = pytest.mark.anyio


class Broken:
    """A desk at which nothing works."""

    zone = zoneinfo.ZoneInfo("UTC")

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def show(self, *_given: object) -> None:
        raise self._error

    book = staff = show


async def no_sign_in(_request: Request, _secret: str) -> str | None:
    return None


async def everyone(_page: Guarded, request: Request) -> None:
    request.scope[CALLER] = ANYONE


def front(error: Exception | None = None) -> Front:
    desk = cast("Desk", Broken(error or KeyError()))
    return Front(desk, cast("Feed", None), no_sign_in, step_minutes=15, alarm_minutes=20)


def kinds(parent: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for kind in parent.__subclasses__():
        if kind.__module__.startswith("clinic."):
            yield kind
        yield from kinds(kind)


KINDS = {kind.slug: kind for kind in kinds()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_refusal_is_a_page(kind: type[Refusal], language: str) -> None:
    headers = [(b"accept-language", language.encode())]
    scope = {"type": "http", "method": "POST", "path": "/new", "query_string": b"", "root_path": ""}
    refusal = kind.example()
    answer = refusing.page(front(), Request({**scope, "headers": headers}), refusal)
    assert answer.status_code == refusal.status
    assert answer.headers["content-type"].startswith("text/html")
    for name, value in refusal.headers.items():
        assert answer.headers[name] == value
    said = re.sub("<[^>]*>", "", re.split("<main.*?>|</main>", bytes(answer.body).decode())[1])
    # What is for programs is not shown to people.
    assert not re.search(r"JSON|If-Match|Idempotency|\b(POST|PATCH|GET)\b|CLINIC_", said)


def test_what_a_form_can_mend_has_words_of_its_own() -> None:
    assert {kind.slug for kind in booking.MENDABLE} <= refusing.SAID.keys()


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (DatabaseUnavailable("away"), 503, "cannot be reached right now"),
        (OutcomeUnknown("lost"), 503, "did not answer in time"),
        (KeyError("a bug"), 500, "did not work"),
    ],
)
async def test_what_is_away_or_broken_is_a_page(
    caplog: pytest.LogCaptureFixture, error: Exception, status: int, words: str
) -> None:
    app = Starlette(routes=table.routes(front(error), everyone))
    with caplog.at_level(logging.ERROR):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://clinic"
        ) as client:
            answer = await client.get("/card/17")
    assert answer.status_code == status
    assert words in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    # A bug is logged with its cause, and never with what stands in the path.
    assert ("/card/{id} failed" in caplog.text) == (status == 500)
    assert "17" not in caplog.text.split("Traceback")[0]


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), OutcomeUnknown("lost")])
async def test_a_form_is_kept_while_the_book_is_away(error: Exception) -> None:
    app = Starlette(routes=table.routes(front(error), everyone))
    form = {
        "key": "the-very-key",
        "patient_name": "Анна Ли",
        "office_number": "221B",
        "date": "2027-12-01",
        "time": "10:15",
    }
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://clinic"
    ) as client:
        answer = await client.post("/new", data=form)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    for value in form.values():
        assert f'value="{value}"' in answer.text
    assert ("not done twice" in answer.text) == isinstance(error, OutcomeUnknown)
