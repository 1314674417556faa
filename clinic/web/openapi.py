"""The description of the HTTP API as an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from clinic.web.callers import MEANINGS, Permission
from clinic.web.description import answers_of, refusals_of, schema_name
from clinic.web.endpoints import Answer, Content, Endpoint, Header, Schema
from clinic.web.refusals import Refusal

OPENAPI_VERSION = "3.1.1"
REFERENCE = "#/components/schemas/{model}"
TEXT = """\
Every path is the same with and without a final slash. HEAD is answered as GET is, without a body.
Times are the clinic's wall-clock time; a time with an offset is converted to it. Errors are problem
details (RFC 9457), whose `type` leads to an explanation. An unknown address gets 404; a method that
an address does not have gets 405, with Allow.

While no token has ever been made, and only its own machine can reach it, the clinic serves all.
From the first token on, each request needs one, in the header Authorization: Bearer TOKEN."""

# The names of the security schemes, and the schemes.
TOKEN, FEED_TOKEN = "token", "feedToken"
SCHEMES: dict[str, Any] = {
    TOKEN: {
        "type": "http",
        "scheme": "bearer",
        "description": "A token that who runs the clinic has made with the command `token make`. "
        "Permissions: " + "; ".join(f"`{one}`: {text}" for one, text in MEANINGS.items()) + ".",
    },
    FEED_TOKEN: {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "A token for one calendar feed alone, in its URL, since calendar programs "
        "cannot send headers.",
    },
}


class _Untitled(GenerateJsonSchema):
    """JSON Schemas without titles that only repeat the names of fields."""

    def field_title_should_be_set(self, _schema: object) -> Literal[False]:
        return False


class _Schemas:
    """The JSON Schemas of all models that endpoints use."""

    def __init__(self, endpoints: Sequence[Endpoint[Any]]) -> None:
        wanted = dict.fromkeys(used for one in endpoints for used in _models_of(one))
        references, found = TypeAdapter.json_schemas(
            [(_full_name(model), mode, TypeAdapter(model)) for model, mode in wanted],
            ref_template=REFERENCE,
            schema_generator=_Untitled,
        )
        self._references = {name: reference for (name, _), reference in references.items()}
        self.components: dict[str, Any] = {
            name: _spoken(schema) for name, schema in found.get("$defs", {}).items()
        }

    def of(self, model: type[Any]) -> Schema:
        """Return the reference to a model's schema."""
        return self._references[_full_name(model)]

    def members(self, model: type[BaseModel]) -> dict[str, Any]:
        """Return the schemas of a model's fields."""
        schema = model.model_json_schema(
            mode="serialization", ref_template=REFERENCE, schema_generator=_Untitled
        )
        self.components |= {name: _spoken(found) for name, found in schema.get("$defs", {}).items()}
        members: dict[str, Any] = schema["properties"]
        return members

    def of_content(self, content: Content) -> Schema:
        """Return the schema of a body."""
        form = content.form if isinstance(content.form, Mapping) else self.of(content.form)
        return {"type": "array", "items": form} if content.many else form

    def parameters(self, model: type[BaseModel]) -> Iterator[tuple[str, dict[str, Any], bool]]:
        """Yield the parameters of a query: name, schema, and whether it has to be given."""
        schema = model.model_json_schema(ref_template=REFERENCE, schema_generator=_Untitled)
        for name, given in schema["properties"].items():
            # A parameter that is not given is not there; no text stands for null.
            forms = [one for one in given.get("anyOf", [given]) if one.get("type") != "null"]
            yield name, forms[0], name in schema.get("required", ())


def openapi(
    version: str, endpoints: Sequence[Endpoint[Any]], root_path: str = ""
) -> dict[str, Any]:
    """Return the document that describes the endpoints, as clients find them below a path."""
    schemas = _Schemas(endpoints)
    for refusal in dict.fromkeys(found for one in endpoints for found in refusals_of(one)):
        schemas.components[schema_name(refusal)] = _problem(refusal, root_path, schemas)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        described = _operation(endpoint, root_path, schemas)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = described
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "clinic", "version": version, "description": TEXT},
        "servers": [{"url": root_path or "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(one.group for one in endpoints)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "securitySchemes": SCHEMES,
        },
    }


def needed(endpoint: Endpoint[Any]) -> str:
    """Return which permission an endpoint needs, in a sentence; none for what is open to all."""
    if endpoint.needs is Permission.OPEN:
        return ""
    return f"Needs the permission `{endpoint.needs}`."


def _security(endpoint: Endpoint[Any]) -> list[dict[str, list[str]]]:
    """Return the security requirements: one of them has to be met, and none is for everybody."""
    if endpoint.needs is Permission.OPEN:
        return []
    feed: list[dict[str, list[str]]] = (
        [{FEED_TOKEN: []}] if endpoint.needs is Permission.FEED else []
    )
    return [{TOKEN: [str(endpoint.needs)]}, *feed]


def _full_name(model: type[Any]) -> str:
    return f"{model.__module__}.{model.__qualname__}"


def _models_of(endpoint: Endpoint[Any]) -> Iterator[tuple[type[Any], JsonSchemaMode]]:
    if endpoint.body and not isinstance(endpoint.body.content.form, Mapping):
        yield endpoint.body.content.form, "validation"
    for answer in endpoint.answers:
        for content in answer.contents.values():
            if not isinstance(content.form, Mapping):
                yield content.form, "serialization"


def _spoken(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without those parts of a docstring that are for the code's readers."""
    text = schema.get("description", "").partition("\n\n")[0]
    return {**schema, "description": " ".join(text.replace("``", "`").split())}


def _problem(refusal: type[Refusal], root_path: str, schemas: _Schemas) -> dict[str, Any]:
    """Return a refusal's schema, whole: generators of clients drop what they cannot merge."""
    members = schemas.members(refusal.Members) if refusal.Members else {}
    details = refusal.example().problem_details(root_path)
    return {
        "description": refusal.explanation,
        "type": "object",
        "properties": {
            "type": {"type": "string", "const": details["type"]},
            "title": {"type": "string", "const": details["title"]},
            "status": {"type": "integer", "const": details["status"]},
            "detail": {"description": "What is wrong, for people to read.", "type": "string"},
            **members,
        },
        "required": ["type", "title", "status", "detail", *members],
        "additionalProperties": True,
    }


def _operation(endpoint: Endpoint[Any], root_path: str, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [endpoint.group],
        "summary": endpoint.summary,
        "description": " ".join(filter(None, [endpoint.text, needed(endpoint)])),
        "security": _security(endpoint),
        "parameters": list(_parameters(endpoint, schemas)),
        "responses": {
            str(int(answer.status)): _response(answer, schemas)
            for answer in answers_of(endpoint, root_path)
        },
    }
    if endpoint.body:
        content = _content(endpoint.body.content, schemas)
        described["requestBody"] = {
            "required": True,
            "content": dict.fromkeys(endpoint.body.media_types, content),
        }
    return described


def _parameters(endpoint: Endpoint[Any], schemas: _Schemas) -> Iterator[dict[str, Any]]:
    for name, value in endpoint.ids.items():
        kind = {"type": "integer", "minimum": 1} if isinstance(value, int) else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": kind, "example": value}
    if endpoint.query:
        examples = {name: value for query in endpoint.queries for name, value in query.items()}
        for name, schema, required in schemas.parameters(endpoint.query):
            parameter = {"name": name, "in": "query", "required": required, "schema": schema}
            if name in examples:
                number = schema.get("type") == "integer"
                parameter["example"] = int(examples[name]) if number else examples[name]
            yield parameter
    for header in endpoint.headers:
        yield {"name": header.name, "in": "header", **_header(header)}


def _header(header: Header) -> dict[str, Any]:
    schema = {"type": "string"} | ({"pattern": header.pattern} if header.pattern else {})
    return {
        "description": header.text,
        "required": header.always,
        "schema": schema,
        "example": header.example,
    }


def _content(content: Content, schemas: _Schemas) -> dict[str, Any]:
    return {
        "schema": schemas.of_content(content),
        "examples": {name: {"value": value} for name, value in content.examples.items()},
    }


def _response(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    response: dict[str, Any] = {"description": answer.text}
    if answer.headers:
        response["headers"] = {header.name: _header(header) for header in answer.headers}
    if answer.contents:
        response["content"] = {
            media_type: _content(content, schemas)
            for media_type, content in answer.contents.items()
        }
    return response
