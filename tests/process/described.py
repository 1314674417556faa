"""What a clinic answers, held against what it says of itself in its description."""

import functools
import json
import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from clinic import __version__
from clinic.parts import ENDPOINTS
from clinic.web.browsers import ANSWER_HEADERS
from clinic.web.openapi import openapi
from clinic.web.refusals import NoSuchAddress

# Long lists take long to check, and what is in them was checked in short ones.
LARGEST_CHECKED_BYTES = 64 * 1024


class CheckedClient(httpx.Client):
    """A client that fails on every answer that the description does not hold."""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        response = super().send(request, **options)
        check(response)
        return response


@functools.cache
def document() -> dict[str, Any]:
    return openapi(__version__, ENDPOINTS)


def check(response: httpx.Response) -> None:
    """Fail unless the description has this answer to this request, with these headers and body."""
    method, path = response.request.method, response.request.url.path
    template = template_of(path)
    said = f"{method} {template}: {response.status_code}"
    missing = {name.decode() for name, _ in ANSWER_HEADERS} - response.headers.keys()
    assert not missing, f"{said} is without {missing}"
    if template is None or response.status_code == 405 or is_elsewhere(response):
        elsewhere = {400, 403, 404, 405, 408, 421, 431, 500, 501, 503}
        assert response.status_code in elsewhere, f"{said} for {path}"
        return
    operations = document()["paths"][template]
    operation = operations.get("get" if method == "HEAD" else method.lower())
    assert operation, f"{said} is of no operation that is described"
    answer = operation["responses"].get(str(response.status_code))
    assert answer, f"{said} is not described"
    for name, header in answer.get("headers", {}).items():
        assert name in response.headers or not header["required"], f"{said} is without {name}"
    contents = answer.get("content", {})
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if not contents:
        assert not media_type, f"{said} has a body, of type {media_type}"
        return
    assert media_type in contents, f"{said} is of type {media_type}"
    if method != "HEAD" and media_type.endswith("json"):
        check_body(response, f"{said} {media_type}", contents[media_type]["schema"])


def is_elsewhere(response: httpx.Response) -> bool:
    """Tell whether the role of this process has no such address; a consumer serves only health."""
    return (
        response.status_code == 404
        and response.is_closed
        and response.content != b""
        and response.json() == NoSuchAddress().problem_details()
    )


def check_body(response: httpx.Response, said: str, schema: dict[str, Any]) -> None:
    if response.is_closed and len(response.content) <= LARGEST_CHECKED_BYTES:
        error = next(validator(json.dumps(schema)).iter_errors(response.json()), None)
        assert error is None, f"{said}: {error.json_path}: {error.message}"


@functools.cache
def template_of(path: str) -> str | None:
    """Return the path as it is described, or None for one at which there is nothing."""
    for template in document()["paths"]:
        pattern = "[^/]+".join(re.escape(part) for part in re.split("{[^}]+}", template))
        if re.fullmatch(f"{pattern}/?", path):
            return str(template)
    return None


@functools.cache
def validator(schema: str) -> Draft202012Validator:
    """Return what validates a body; a member that is not described is wrong in it."""
    components = closed(document()["components"])
    return Draft202012Validator({**closed(json.loads(schema)), "components": components})


def closed(schema: Any) -> Any:
    """Return a schema whose objects have no members that it does not name, unless it says so.

    The description leaves it open whether a newer clinic will tell more; this one does not.
    """
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    return (
        {"additionalProperties": False} | parts
        if "properties" in parts and parts.get("type") == "object"
        else parts
    )
