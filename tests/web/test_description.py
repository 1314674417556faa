"""The description of the HTTP API: is it right, is it whole, can it be read."""

import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from clinic.database import OutcomeUnknown
from clinic.parts import ENDPOINTS
from clinic.supervisor import Unavailable
from clinic.web.browsers import ANSWER_HEADERS, CrossSite, Misdirected
from clinic.web.callers import Permission
from clinic.web.description import NOWHERE, answers_of, refusals_of, schema_name
from clinic.web.endpoints import Endpoint, Guarded, routes
from clinic.web.headers import ListTooLong, RepeatedHeader
from clinic.web.problems import on_bug, on_unavailable
from clinic.web.reading import (
    JSON,
    BodyTooLarge,
    EncodedBody,
    MalformedBody,
    QueryTooLong,
    WrongMediaType,
)
from clinic.web.refusals import (
    MEDIA_TYPE,
    MaybeDone,
    NoSuchAddress,
    NoSuchMethod,
    NotNow,
    OurFault,
    Refusal,
    WrongFields,
)
from clinic.web.serving.refusals import HeadersTooLarge
from tests.process.clinic import ClinicProcess
from tests.process.described import check, document

EXPLAINED = {one.slug: one for endpoint in ENDPOINTS for one in refusals_of(endpoint)} | {
    one.slug: one for one in NOWHERE
}


def kinds(of: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    """Yield every kind of refusal that there is in the clinic."""
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_the_document_is_openapi_3_1(clinic: ClinicProcess) -> None:
    served = clinic.http.get("/openapi.json").json()
    assert served == document()
    assert served["openapi"].startswith("3.1.")
    assert not list(OpenAPIV31SpecValidator(served).iter_errors())


def test_each_endpoint_is_served_with_and_without_a_final_slash(clinic: ClinicProcess) -> None:
    """An unknown method is answered with the methods that the path has."""
    for path, operations in document()["paths"].items():
        for slash in ("", "/"):
            answer = clinic.http.request("TRACE", path.replace("{id}", "1") + slash)
            allowed = set(answer.headers["allow"].split(", "))
            assert allowed - {"HEAD"} == {method.upper() for method in operations}
            assert ("HEAD" in allowed) == ("GET" in allowed)


def test_no_method_on_a_path_stands_twice_in_the_table() -> None:
    keys = [(endpoint.method, endpoint.path) for endpoint in ENDPOINTS]
    assert len(keys) == len(set(keys))
    names = [endpoint.name for endpoint in ENDPOINTS]
    assert len(names) == len(set(names))


def test_every_kind_of_refusal_is_explained_once() -> None:
    found = list(kinds())
    assert {kind.slug: kind for kind in found} == EXPLAINED
    assert len({kind.slug for kind in found}) == len(found)
    for kind in found:
        details = kind.example().problem_details("/below")
        assert details["type"] == f"/below/docs#{kind.slug}"
        assert details["title"] == kind.title
        assert details["status"] == kind.status
        assert str(details["detail"]).endswith((".", "?"))
        assert kind.explanation.endswith(".")
        assert not kind.title.endswith(".")


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
    """Generators drop the fields of an object with alternatives, and values of several types."""
    components = document()["components"]["schemas"]
    for schema in schemas_in([document()["paths"], components]):
        assert not ("properties" in schema and {"anyOf", "oneOf", "allOf"} & schema.keys()), schema
        if {"const", "enum"} & schema.keys():
            assert isinstance(schema.get("type"), str), schema
    assert {"patient_name", "office_number", "date_time"} == set(components["Booking"]["required"])
    for name in ("Booking", "Change"):
        for field in components[name]["properties"].values():
            assert "default" not in field  # else it has to be sent
    for endpoint in ENDPOINTS:
        for refusal in refusals_of(endpoint):
            assert set(components[schema_name(refusal)]["required"]) >= {"type", "title", "detail"}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: str(endpoint.name))
def test_every_parameter_has_a_schema_that_its_example_meets(endpoint: Endpoint[Any]) -> None:
    described = document()["paths"][endpoint.path][endpoint.method.lower()]
    for parameter in described["parameters"]:
        if "example" in parameter:
            Draft202012Validator(parameter["schema"]).validate(parameter["example"])


@pytest.mark.parametrize(
    ("kind", "ask"),
    [
        (MalformedBody, {"content": b"x", "headers": {"Content-Type": JSON}}),
        (BodyTooLarge, {"content": b" " * 70_000}),
        (WrongMediaType, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}),
        (WrongMediaType, {"content": b"{}"}),
        (EncodedBody, {"json": {}, "headers": {"Content-Encoding": "gzip"}}),
        (
            RepeatedHeader,
            {"content": b"{}", "headers": [("Content-Type", JSON), ("Content-Type", JSON)]},
        ),
        (
            ListTooLong,
            {"method": "GET", "headers": {"Accept": "text/csv," * 500}},
        ),
        (QueryTooLong, {"method": "GET", "params": {"patient_name": "x" * 9000}}),
        (Misdirected, {"headers": {"Host": "evil.example:8000"}}),
        (CrossSite, {"headers": {"Origin": "https://evil.example"}}),
        (
            WrongFields,
            {"json": {"patient_name": "", "office_number": "1", "date_time": "2027-12-01T15:30"}},
        ),
        (NoSuchAddress, {"url": "/nowhere"}),
        (NoSuchMethod, {"method": "PUT"}),
        (HeadersTooLarge, {"headers": {"X-Long": "x" * 200_000}}),
    ],
    ids=lambda one: getattr(one, "slug", ""),
)
def test_a_refusal_is_answered_as_its_example_says(
    clinic: ClinicProcess, kind: type[Refusal], ask: dict[str, Any]
) -> None:
    answer = clinic.http.request(**{"method": "POST", "url": "/appointment", **ask})
    assert answer.json() == kind.example().problem_details()
    assert answer.headers.items() >= {
        (name.lower(), value) for name, value in kind.example().headers.items()
    }


@pytest.mark.parametrize(
    ("kind", "handler", "error"),
    [
        (NotNow, on_unavailable, Unavailable("away")),
        (MaybeDone, on_unavailable, OutcomeUnknown("no answer")),
        (OurFault, on_bug, ZeroDivisionError()),
    ],
    ids=lambda one: getattr(one, "slug", ""),
)
async def test_a_failure_is_answered_as_its_example_says(
    kind: type[Refusal],
    handler: Callable[[Request, Exception], Awaitable[Response]],
    error: Exception,
    anyio_backend: str,
) -> None:
    assert anyio_backend
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    answer = await handler(request, error)
    example = kind.example()
    assert httpx.Response(200, content=bytes(answer.body)).json() == example.problem_details()
    assert answer.status_code == kind.status
    assert answer.headers.get("retry-after") == example.headers.get("Retry-After")


async def test_each_method_on_a_path_has_its_own_handler(anyio_backend: str) -> None:
    """HEAD has the handler of GET, and all handlers are given their feature's part."""
    assert anyio_backend

    def endpoint(method: str, *, expensive: bool = False) -> Endpoint[str]:
        async def handler(part: str, request: Request) -> Response:
            return Response(f"{part} {method} {request.method}")

        return Endpoint(
            method=method,
            path="/thing",
            handler=handler,
            needs=Permission.READ,
            expensive=expensive,
            name=method.lower(),
            group="Things",
            summary="A thing",
            answers=[],
        )

    table = [endpoint("GET", expensive=True), endpoint("POST")]
    let_in: list[str] = []

    async def guard(endpoint: Guarded, request: Request) -> None:
        let_in.append(f"{endpoint.name} {request.method}")

    transport = httpx.ASGITransport(Starlette(routes=routes(table, "part", guard)))
    async with httpx.AsyncClient(transport=transport, base_url="http://clinic") as client:
        assert (await client.get("/thing")).text == "part GET GET"
        assert (await client.post("/thing/")).text == "part POST POST"
        assert (await client.head("/thing/")).status_code == 200
        assert (await client.put("/thing")).status_code == 405
    assert let_in == ["get GET", "post POST", "get HEAD"]


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
    assert set(anchors) >= {endpoint.name for endpoint in ENDPOINTS} | set(EXPLAINED)
    assert {link[1:] for link in page.all("href") if link.startswith("#")} <= set(anchors)
    assert set(page.all("aria-labelledby")) <= set(anchors)


def test_the_page_says_everything_that_is_described(clinic: ClinicProcess) -> None:
    text = clinic.http.get("/docs").text
    sections = dict(re.findall(r'<section id="([a-z_-]+)"(.*?)</section>', text, re.DOTALL))
    for endpoint in ENDPOINTS:
        section = sections[endpoint.name]
        assert endpoint.path in section
        assert "curl -s " in section
        for answer in answers_of(endpoint):
            assert f"{answer.status.value} {answer.status.phrase}" in section
        for parameter in document()["paths"][endpoint.path][endpoint.method.lower()]["parameters"]:
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
    "appointment_type": None,
    "duration_minutes": 15,
    "status": "booked",
    "patient_phone": None,
    "note": None,
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
            body=EXPLAINED["time-taken"].example().problem_details(),
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
