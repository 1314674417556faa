"""The page on which one signs in with a token; a cookie then stands for it, for a while."""

from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clinic.access.sessions import set_cookie
from clinic.pages.front import HEADERS, Front, go, here, local
from clinic.web.reading import read_form


def ask(request: Request) -> Response:
    """Send a browser without a token to the page on which one signs in, and back afterwards."""
    back = here(request) if request.method in {"GET", "HEAD"} else "/"
    return RedirectResponse(f"/sign-in?back={quote(back)}", HTTPStatus.SEE_OTHER, headers=HEADERS)


async def form(front: Front, request: Request) -> Response:
    """Show the page."""
    return _shown(front, request, local(request.query_params.get("back")))


async def sign_in(front: Front, request: Request) -> Response:
    """Begin a session, and go where somebody wanted to go."""
    sent = await read_form(request)
    begun = await front.sign_in(request, sent.get("token", "").strip())
    if begun is None:
        wrong = HTTPStatus.UNPROCESSABLE_ENTITY
        return _shown(front, request, local(sent.get("back")), wrong, wrong=True)
    response = go(sent.get("back"))
    response.headers.append("Set-Cookie", begun)
    return response


async def sign_out(_front: Front, request: Request) -> Response:
    """End the session in this browser."""
    response = go("/sign-in")
    ended = set_cookie("", request.scope["root_path"] or "/", secure=False)
    response.headers.append("Set-Cookie", ended)
    return response


def _shown(
    front: Front,
    request: Request,
    back: str,
    status: HTTPStatus = HTTPStatus.OK,
    *,
    wrong: bool = False,
) -> Response:
    return front.show(request, "sign-in.html", status, back=back, wrong=wrong)
