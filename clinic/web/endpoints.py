"""The endpoint: one method on one path, what it does, who may ask, and how it is described.

Each feature has a table of its own; routes, the OpenAPI document and ``/docs`` are made from these.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clinic.web.callers import Permission
from clinic.web.leaving import ends_with_client
from clinic.web.refusals import Refusal

Part = TypeVar("Part")
"""What a feature's handlers are given beside the request: its face, such as the desk."""

Schema = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header of a request or of an answer; ``always`` says that it is never missing."""

    name: str
    text: str
    example: str
    always: bool = True
    pattern: str | None = None


@dataclass(frozen=True)
class Content:
    """What a body may be: its form, and examples, each by a name that says what it is for.

    The form is a model or dataclass that pydantic reads and writes, or a JSON Schema. ``many`` says
    that it is a list of that form.
    """

    form: type[Any] | Schema
    examples: Mapping[str, object]
    many: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an endpoint may answer; ``contents`` are by media type, none for no body."""

    text: str
    status: HTTPStatus = HTTPStatus.OK
    contents: Mapping[str, Content] = field(default_factory=dict)
    headers: Sequence[Header] = ()


@dataclass(frozen=True, kw_only=True)
class Body:
    """What a request's body has to be; the first of the media types is the usual one."""

    media_types: Sequence[str]
    content: Content


@dataclass(frozen=True, kw_only=True)
class Endpoint(Generic[Part]):
    """One method on one path, which is the same with and without a final slash.

    ``handler`` answers; if it is ``expensive``, it is cancelled when its client leaves. ``needs``
    is the permission that a client must have. What it does is ``audited`` or not: of what it
    changes, the feature writes the audit in the transaction of the change; of what it only reads,
    the guard does, if ``audited`` says so of the request.

    The rest describes it. ``name`` is its operationId and its anchor in ``/docs``. ``ids`` and
    ``queries`` are examples: of the values in the path, and of whole queries. ``refusals`` are
    those of its own; ``clinic.web.description`` adds those that all share.
    """

    method: str
    path: str
    handler: Callable[[Part, Request], Awaitable[Response]]
    needs: Permission
    audited: bool | Callable[[Request], bool] = False
    expensive: bool = False

    name: str
    group: str
    summary: str
    text: str = ""
    ids: Mapping[str, object] = field(default_factory=dict)
    query: type[BaseModel] | None = None
    queries: Sequence[Mapping[str, str]] = ()
    headers: Sequence[Header] = ()
    body: Body | None = None
    answers: Sequence[Answer]
    refusals: Sequence[type[Refusal]] = ()


class Guarded(Protocol):
    """What the guard looks at of an endpoint or a page."""

    @property
    def name(self) -> str:
        """What it is called in the audit."""

    @property
    def needs(self) -> Permission:
        """The permission that a client must have."""

    @property
    def audited(self) -> bool | Callable[[Request], bool]:
        """Whether what it does is audited; of what it only reads, by the request."""


Guard = Callable[[Guarded, Request], Awaitable[None]]
"""Lets a request in, and says in its scope who sends it, or raises a Refusal."""


def routes(table: Iterable[Endpoint[Part]], part: Part, guard: Guard) -> list[Route]:
    """Return the routes of a feature's endpoints.

    Their handlers are given the ``part``, once the ``guard`` has let the request in.
    """
    by_path: defaultdict[str, dict[str, Endpoint[Part]]] = defaultdict(dict)
    for endpoint in table:
        by_path[endpoint.path][endpoint.method] = endpoint
    return [
        Route(path + slash, _answering(endpoints, part, guard), methods=list(endpoints))
        for path, endpoints in by_path.items()
        for slash in ("", "/")
    ]


def _answering(
    endpoints: Mapping[str, Endpoint[Part]], part: Part, guard: Guard
) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers all methods on a path; HEAD is answered as GET is, without the body."""
    handlers = {method: _handler(endpoint, part, guard) for method, endpoint in endpoints.items()}
    if "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]

    async def answer(request: Request) -> Response:
        return await handlers[request.method](request)

    return answer


def _handler(
    endpoint: Endpoint[Part], part: Part, guard: Guard
) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        await guard(endpoint, request)
        return await endpoint.handler(part, request)

    return ends_with_client(handle) if endpoint.expensive else handle
