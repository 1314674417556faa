"""The numbers of a process over HTTP: ``/metrics``."""

from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response

from clinic.web.callers import Permission
from clinic.web.endpoints import Answer, Content, Endpoint

Numbers = Callable[[], Awaitable[bytes]]
"""Returns the numbers in Prometheus' text format."""

TEXT = "text/plain"
EXAMPLE = """\
# HELP clinic_events_open Events that are neither recorded nor set aside yet, ...
# TYPE clinic_events_open gauge
clinic_events_open 0.0
"""


async def show(numbers: Numbers, _request: Request) -> Response:
    """Answer Prometheus."""
    return Response(await numbers(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


ENDPOINTS: tuple[Endpoint[Numbers], ...] = (
    Endpoint(
        method="GET",
        path="/metrics",
        handler=show,
        needs=Permission.OPERATE,
        name="metrics",
        group="Health",
        summary="Get the numbers of the process",
        text="For Prometheus, of this process alone but for what the whole clinic has in its "
        "database. Nothing of a patient is in them.",
        answers=[
            Answer(
                text="The numbers, in Prometheus' text format.",
                contents={TEXT: Content({"type": "string"}, {"numbers": EXAMPLE})},
            )
        ],
    ),
)
