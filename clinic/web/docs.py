"""The description over HTTP: ``/openapi.json`` for programs, ``/docs`` for people."""

import base64
import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
import anyio.to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from clinic.web.callers import Permission
from clinic.web.description import NOWHERE, answers_of, refusals_of
from clinic.web.endpoints import Answer, Content, Endpoint, Header
from clinic.web.openapi import OPENAPI_VERSION, openapi
from clinic.web.reading import JSON

HTML = "text/html"
# Where a clinic listens by default. A Host header may name anything, so it is not used.
HERE = "http://127.0.0.1:8000"
FOLDER = Path(__file__).parent


class Documents:
    """The description of endpoints, for programs and for people; each made when first asked for."""

    def __init__(self, version: str, endpoints: Sequence[Endpoint[Any]]) -> None:
        self._version = version
        self._endpoints = endpoints
        self._style = (FOLDER / "docs.css").read_text(encoding="utf-8")
        self._made: dict[tuple[str, str], bytes] = {}
        self._making = anyio.Lock()

    @property
    def policy(self) -> str:
        """The page's Content-Security-Policy: nothing but its own style."""
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        return (
            f"default-src 'none'; style-src 'sha256-{digest}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    async def document(self, root_path: str) -> bytes:
        """Return the OpenAPI document."""
        return await self._once("document", root_path, self._document)

    async def page(self, root_path: str) -> bytes:
        """Return the page."""
        return await self._once("page", root_path, self._page)

    async def _once(self, name: str, root_path: str, make: Callable[[str], bytes]) -> bytes:
        # In a thread, because making it takes 35 ms; one at a time, so that it is made only once.
        async with self._making:
            if (name, root_path) not in self._made:
                made = await anyio.to_thread.run_sync(make, root_path)
                self._made[name, root_path] = made
            return self._made[name, root_path]

    def _document(self, root_path: str) -> bytes:
        described = openapi(self._version, self._endpoints, root_path)
        return json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()

    def _page(self, root_path: str) -> bytes:
        return render(self._version, self._endpoints, root_path, self._style).encode()


async def show_document(documents: Documents, request: Request) -> Response:
    """Answer programs."""
    return Response(await documents.document(request.scope["root_path"]), media_type=JSON)


async def show_page(documents: Documents, request: Request) -> Response:
    """Answer people."""
    return Response(
        await documents.page(request.scope["root_path"]),
        media_type=HTML,
        headers={"Content-Security-Policy": documents.policy},
    )


def render(version: str, endpoints: Sequence[Endpoint[Any]], root_path: str, style: str) -> str:
    """Return the page, made of the document and of the endpoints that it describes."""
    described = openapi(version, endpoints, root_path)
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"kind": kind, "shown": shown}
    groups: dict[str, list[Endpoint[Any]]] = {}
    for endpoint in endpoints:
        groups.setdefault(endpoint.group, []).append(endpoint)
    refusals = [*(found for one in endpoints for found in refusals_of(one)), *NOWHERE]
    return environment.get_template("docs.html").render(
        style=style,
        root_path=root_path,
        info=described["info"],
        paths=described["paths"],
        schemas=described["components"]["schemas"],
        groups=groups,
        answers_of=partial(answers_of, root_path=root_path),
        curl=partial(curl, root_path=root_path),
        problems={one.slug: one.example() for one in refusals},
    )


def curl(endpoint: Endpoint[Any], root_path: str = "") -> str:
    """Return a command that asks an endpoint as its first example does."""
    path = root_path + endpoint.path.format(**endpoint.ids)
    query = next((one for one in endpoint.queries if one), {})
    words = ["curl", "-s", HERE + path + (f"?{urlencode(query)}" if query else "")]
    if endpoint.method not in {"GET", "POST"}:
        words += ["-X", endpoint.method]
    if endpoint.body:
        example = next(iter(endpoint.body.content.examples.values()))
        words += ["-H", f"Content-Type: {endpoint.body.media_types[0]}"]
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
    if "$ref" in schema:
        return "object"
    if "items" in schema:
        return f"list of {kind(schema['items'])}"
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


ENDPOINTS: tuple[Endpoint[Documents], ...] = (
    Endpoint(
        method="GET",
        path="/openapi.json",
        handler=show_document,
        needs=Permission.OPEN,
        name="openapi",
        group="This description",
        summary="Get the OpenAPI document",
        text="The description of this API, for programs.",
        answers=[
            Answer(
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
    Endpoint(
        method="GET",
        path="/docs",
        handler=show_page,
        needs=Permission.OPEN,
        name="docs",
        group="This description",
        summary="Get this page",
        text="The description of this API, for people.",
        answers=[
            Answer(
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
