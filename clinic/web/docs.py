"""The description over HTTP: ``/openapi.json`` for programs, ``/docs`` for people."""

import base64
import functools
import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
import anyio.to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clinic.web.description import Answer, Content, Header, Operation
from clinic.web.mishaps import NOWHERE, answers_of, problems_of
from clinic.web.openapi import OPENAPI_VERSION, openapi
from clinic.web.reading import JSON

HTML = "text/html"
# Where a clinic listens unless it is told otherwise; what a Host header says is anybody's word.
HERE = "http://127.0.0.1:8000"
FOLDER = Path(__file__).parent

OPERATIONS = (
    Operation(
        name="openapi",
        group="This description",
        method="GET",
        path="/openapi.json",
        summary="Describe the API to programs",
        answers=[
            Answer(
                status=HTTPStatus.OK,
                text="An OpenAPI 3.1 document.",
                contents={
                    JSON: Content(
                        {
                            "type": "object",
                            "required": ["openapi", "info", "paths"],
                            "additionalProperties": True,
                        },
                        {
                            "document": {
                                "openapi": OPENAPI_VERSION,
                                "info": {"title": "clinic", "version": "0.1.0"},
                                "paths": {},
                            }
                        },
                    )
                },
            )
        ],
    ),
    Operation(
        name="docs",
        group="This description",
        method="GET",
        path="/docs",
        summary="Describe the API to people",
        answers=[
            Answer(
                status=HTTPStatus.OK,
                text="This page.",
                contents={HTML: Content({"type": "string"}, {"page": "<!doctype html>..."})},
                headers=[
                    Header(
                        name="Content-Security-Policy",
                        text="The page loads nothing and runs nothing.",
                        example="default-src 'none'",
                    )
                ],
            )
        ],
    ),
)


def docs_routes(version: str, operations: Sequence[Operation]) -> list[Route]:
    """Return the routes that describe the operations; their answers are made when asked for."""
    style = (FOLDER / "docs.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    @functools.cache
    def document(root_path: str) -> bytes:
        described = openapi(version, operations, root_path)
        return json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()

    @functools.cache
    def page(root_path: str) -> bytes:
        return render(version, operations, root_path, style).encode()

    made_once = anyio.Lock()

    async def made(make: Callable[[str], bytes], request: Request) -> bytes:
        # In a thread, because the first time takes 35 ms; one at a time, so that it stays the only.
        async with made_once:
            return await anyio.to_thread.run_sync(make, request.scope["root_path"])

    async def for_programs(request: Request) -> Response:
        return Response(await made(document, request), media_type=JSON)

    async def for_people(request: Request) -> Response:
        content = await made(page, request)
        return Response(content, media_type=HTML, headers={"Content-Security-Policy": policy})

    return [
        Route(path + slash, endpoint)
        for path, endpoint in (("/openapi.json", for_programs), ("/docs", for_people))
        for slash in ("", "/")
    ]


def render(version: str, operations: Sequence[Operation], root_path: str, style: str) -> str:
    """Return the page, made of the document and of the operations that it describes."""
    described = openapi(version, operations, root_path)
    operations = [operation.under(root_path) for operation in operations]
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"kind": kind, "shown": shown}
    groups: dict[str, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(operation.group, []).append(operation)
    problems = {one.name: one for operation in operations for one in problems_of(operation)}
    return environment.get_template("docs.html").render(
        style=style,
        root_path=root_path,
        info=described["info"],
        paths=described["paths"],
        schemas=described["components"]["schemas"],
        groups=groups,
        answers_of=answers_of,
        curl=partial(curl, root_path=root_path),
        problems=problems | {one.name: one for one in NOWHERE},
    )


def curl(operation: Operation, root_path: str = "") -> str:
    """Return a command that does an operation as its first example does."""
    path = root_path + operation.path.format(**operation.path_parameters)
    query = next((one for one in operation.queries if one), {})
    words = ["curl", "-s", HERE + path + (f"?{urlencode(query)}" if query else "")]
    if operation.method not in {"GET", "POST"}:
        words += ["-X", operation.method]
    if operation.body:
        example = next(iter(operation.body.content.examples.values()))
        words += ["-H", f"Content-Type: {operation.body.media_types[0]}"]
        words += ["-d", json.dumps(example, ensure_ascii=False)]
    return shlex.join(words)


def shown(example: object) -> str:
    """Return an example as it is printed: text as it is, and all else as JSON."""
    if isinstance(example, str):
        return example
    return json.dumps(example, ensure_ascii=False, indent=2)


def kind(schema: Mapping[str, Any]) -> str:
    """Return in a few words what a JSON Schema of a field or parameter asks for."""
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(schema["enum"])
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    word = words.get(schema["type"], str(schema["type"]))
    match schema:
        case {"format": "date"}:
            word = "day such as 2027-12-01"
        case {"minLength": least, "maxLength": most}:
            word += f", {least} to {most} characters"
        case {"minimum": least, "maximum": most}:
            word += f", {least} to {most}"
    return word
