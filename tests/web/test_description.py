"""The description of the HTTP API: is it right, is it whole, can it be read."""

import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from html.parser import HTMLParser
from typing import Any, cast

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clinic.appointments.desk import Desk
from clinic.appointments.routes import REFUSALS
from clinic.roles import OPERATIONS, api_routes
from clinic.supervisor import Unavailable
from clinic.web import mishaps
from clinic.web.browsers import ANSWER_HEADERS
from clinic.web.description import Explained
from clinic.web.health import health_routes
from clinic.web.mishaps import answers_of, problems_of
from clinic.web.problems import MEDIA_TYPE, on_bug, on_unavailable
from clinic.web.reading import JSON
from tests.process.clinic import ClinicProcess
from tests.process.described import check, document

EXPLAINED = {one.name: one for operation in OPERATIONS for one in problems_of(operation)}


def routes() -> list[Route]:
    """Return the routes of the real application, with nothing behind them."""
    desk = cast("Desk", _Nothing())
    return [*api_routes(cast("Any", None), desk), *health_routes(cast("Any", None))]


class _Nothing:
    def __getattr__(self, _name: str) -> "_Nothing":
        return self


def test_the_document_is_openapi_3_1(clinic: ClinicProcess) -> None:
    served = clinic.http.get("/openapi.json").json()
    assert served == document()
    assert served["openapi"].startswith("3.1.")
    assert not list(OpenAPIV31SpecValidator(served).iter_errors())


def test_what_is_described_is_what_is_served() -> None:
    served = {
        (route.path.removesuffix("/"), method)
        for route in routes()
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (path, method.upper())
        for path, operations in document()["paths"].items()
        for method in operations
    }
    assert described == served


def test_every_path_is_served_with_and_without_a_final_slash() -> None:
    paths = [route.path for route in routes()]
    assert sorted(paths) == sorted(
        path + slash for path in document()["paths"] for slash in ("", "/")
    )


def test_every_refusal_is_described_and_explained() -> None:
    for kind in REFUSALS.values():
        details = EXPLAINED[kind.name].details
        assert (details["type"], details["title"]) == (kind.uri, kind.title)
        assert details["status"] == kind.status


def described_forms() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every body in the document, each with a name that says where it is."""
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                for media_type, content in operation["requestBody"]["content"].items():
                    yield f"{method} {path} {media_type}", content
            for status, answer in operation["responses"].items():
                for media_type, content in answer.get("content", {}).items():
                    yield f"{method} {path} {status} {media_type}", content


FORMS = list(described_forms())


@pytest.mark.parametrize(("name", "content"), FORMS, ids=[name for name, _ in FORMS])
def test_every_example_is_what_its_schema_says(name: str, content: dict[str, Any]) -> None:
    schema = {**content["schema"], "components": document()["components"]}
    assert content["examples"], name
    for example in content["examples"].values():
        Draft202012Validator(schema).validate(example["value"])


def schemas_in(found: Any) -> Iterator[dict[str, Any]]:
    """Yield every JSON Schema in a part of the document, and those inside of them."""
    if isinstance(found, list):
        for part in found:
            yield from schemas_in(part)
    elif isinstance(found, dict):
        if {"properties", "type", "const", "enum", "anyOf", "allOf", "$ref"} & found.keys():
            yield found
        for name, part in found.items():
            if name not in {"example", "examples"}:
                yield from schemas_in(part)


def test_the_schemas_are_ones_that_generators_of_clients_read() -> None:
    """They drop an object's fields if it has alternatives, and what is of several types at once."""
    components = document()["components"]["schemas"]
    for schema in schemas_in([document()["paths"], components]):
        assert not ("properties" in schema and {"anyOf", "oneOf", "allOf"} & schema.keys()), schema
        if {"const", "enum"} & schema.keys():
            assert isinstance(schema.get("type"), str), schema
    assert {"patient_name", "office_number", "date_time"} == set(components["Booking"]["required"])
    for name in ("Booking", "Change"):
        for field in components[name]["properties"].values():
            assert "default" not in field  # else it has to be sent
    for problem in EXPLAINED.values():
        assert set(components[problem.schema_name]["required"]) >= {"type", "title", "detail"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: str(operation.name))
def test_every_parameter_has_a_schema_that_its_example_meets(operation: Any) -> None:
    described = document()["paths"][operation.path][operation.method.lower()]
    for parameter in described["parameters"]:
        if "example" in parameter:
            Draft202012Validator(parameter["schema"]).validate(parameter["example"])


@pytest.mark.parametrize(
    ("mishap", "ask"),
    [
        (mishaps.MALFORMED_BODY, {"content": b"x", "headers": {"Content-Type": JSON}}),
        (mishaps.BODY_TOO_LARGE, {"content": b" " * 70_000}),
        (mishaps.WRONG_MEDIA_TYPE, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}),
        (mishaps.WRONG_MEDIA_TYPE, {"content": b"{}"}),
        (mishaps.ENCODED_BODY, {"json": {}, "headers": {"Content-Encoding": "gzip"}}),
        (
            mishaps.REPEATED_HEADER,
            {"content": b"{}", "headers": [("Content-Type", JSON), ("Content-Type", JSON)]},
        ),
        (
            mishaps.LIST_TOO_LONG,
            {"method": "GET", "headers": {"Accept": "text/csv," * 500}},
        ),
        (mishaps.QUERY_TOO_LONG, {"method": "GET", "params": {"patient_name": "x" * 9000}}),
        (mishaps.MISDIRECTED, {"headers": {"Host": "evil.example:8000"}}),
        (mishaps.CROSS_SITE, {"headers": {"Origin": "https://evil.example"}}),
        (
            mishaps.WRONG_FIELDS,
            {"json": {"patient_name": "", "office_number": "1", "date_time": "2027-12-01T15:30"}},
        ),
        (mishaps.NO_SUCH_ADDRESS, {"url": "/nowhere"}),
        (mishaps.NO_SUCH_METHOD, {"method": "PUT"}),
        (mishaps.HEADERS_TOO_LARGE, {"headers": {"X-Long": "x" * 200_000}}),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_a_mishap_is_answered_as_its_example_says(
    clinic: ClinicProcess, mishap: Explained, ask: dict[str, Any]
) -> None:
    answer = clinic.http.request(**{"method": "POST", "url": "/appointment", **ask})
    assert answer.json() == mishap.details
    assert answer.headers.items() >= {
        (name.lower(), value) for name, value in mishap.example.headers.items()
    }


@pytest.mark.parametrize(
    ("mishap", "handler"),
    [(mishaps.UNAVAILABLE, on_unavailable), (mishaps.OUR_FAULT, on_bug)],
    ids=["unavailable", "our-fault"],
)
async def test_a_failure_is_answered_as_its_example_says(
    mishap: Explained,
    handler: Callable[[Request, Exception], Awaitable[Response]],
    anyio_backend: str,
) -> None:
    assert anyio_backend
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    answer = await handler(request, Unavailable("away"))
    assert httpx.Response(200, content=bytes(answer.body)).json() == mishap.details
    assert answer.status_code == mishap.example.status
    assert answer.headers.get("retry-after") == mishap.example.headers.get("Retry-After")


class Page(HTMLParser):
    """What there is to know of a page: its tags in order, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, attribute: str) -> list[str]:
        return [str(found[attribute]) for _, found in self.tags if attribute in found]


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_page_needs_nothing_else(clinic: ClinicProcess, path: str) -> None:
    answer = clinic.http.get(path)
    page = Page(answer.text)
    assert answer.headers["content-security-policy"].startswith(
        "default-src 'none'; style-src 'sha"
    )
    assert not {"script", "img", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert not page.all("src") + page.all("style") + page.all("onclick")
    assert "url(" not in answer.text
    assert "@import" not in answer.text
    assert all(link.startswith("#") or link == "/openapi.json" for link in page.all("href"))


def test_the_page_has_an_anchor_for_everything(clinic: ClinicProcess) -> None:
    page = Page(clinic.http.get("/docs").text)
    anchors = page.all("id")
    assert len(anchors) == len(set(anchors))
    assert set(anchors) >= {operation.name for operation in OPERATIONS} | set(EXPLAINED)
    assert set(anchors) >= {kind.uri.removeprefix("/docs#") for kind in REFUSALS.values()}
    assert {link[1:] for link in page.all("href") if link.startswith("#")} <= set(anchors)
    assert set(page.all("aria-labelledby")) <= set(anchors)


def test_the_page_says_everything_that_is_described(clinic: ClinicProcess) -> None:
    text = clinic.http.get("/docs").text
    sections = dict(re.findall(r'<section id="([a-z-]+)"(.*?)</section>', text, re.DOTALL))
    for operation in OPERATIONS:
        section = sections[operation.name]
        assert operation.path in section
        assert "curl -s " in section
        for answer in answers_of(operation):
            assert f"{answer.status.value} {answer.status.phrase}" in section
        for parameter in document()["paths"][operation.path][operation.method.lower()][
            "parameters"
        ]:
            assert f"<code>{parameter['name']}</code>" in section


def test_the_page_is_built_to_be_read_by_all(clinic: ClinicProcess) -> None:
    text = clinic.http.get("/docs").text
    tags = Page(text).tags
    assert ("html", {"lang": "en"}) in tags
    assert {"header", "nav", "main"} <= {tag for tag, _ in tags}
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert "width=device-width" in text
    assert "prefers-color-scheme: dark" in text


def test_colours_have_contrast(clinic: ClinicProcess) -> None:
    style = re.findall(r"--([a-z]+): #([0-9a-f]+)", clinic.http.get("/docs").text)
    half = len(style) // 2
    for colours in (dict(style[:half]), dict(style[half:])):
        for ink in ("text", "quiet", "link"):
            for ground in ("ground", "raised"):
                # WCAG 2.2, 1.4.3, level AA.
                assert contrast(colours[ink], colours[ground]) >= 4.5


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2, "contrast ratio")."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


RECORD = {
    "id": 1,
    "patient_name": "Иван Иванов",
    "office_number": "221B",
    "date_time": "2027-12-01T15:30:00",
    "doctor_name": None,
    "appointment_datetime": "2027-12-01T15:30:00",
    "duration_minutes": 15,
    "status": "booked",
    "override_reason": None,
}


def answered(
    status: int = 200, body: object = RECORD, method: str = "GET", media_type: str = JSON
) -> httpx.Response:
    request = httpx.Request(method, "http://clinic/appointment/1")
    everywhere = {name.decode(): value.decode() for name, value in ANSWER_HEADERS}
    headers = {"ETag": '"1"', "Content-Type": media_type} | everywhere
    return httpx.Response(status, json=body, headers=headers, request=request)


def test_the_check_lets_pass_what_is_described() -> None:
    check(answered())


@pytest.mark.parametrize(
    "wrong",
    [
        answered(method="POST"),
        answered(status=201),
        answered(media_type="text/plain"),
        answered(body={name: RECORD[name] for name in RECORD if name != "status"}),
        answered(body=RECORD | {"status": "lost"}),
        answered(body=RECORD | {"colour": "red"}),
        answered(body=[RECORD]),
        answered(
            404,
            body=EXPLAINED["slot-taken"].details,
            media_type=MEDIA_TYPE,
        ),
    ],
)
def test_the_check_fails_what_is_not_described(wrong: httpx.Response) -> None:
    with pytest.raises(AssertionError):
        check(wrong)


@pytest.mark.parametrize("name", ["etag", "x-content-type-options", "cache-control"])
def test_the_check_misses_a_header(name: str) -> None:
    wrong = answered()
    del wrong.headers[name]
    with pytest.raises(AssertionError):
        check(wrong)
