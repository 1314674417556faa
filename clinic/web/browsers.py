"""What a browser must not do with the clinic for the page of another site.

A page may have a browser send requests to any address, and reads of the answers what the browser
lets it. So requests from other sites change nothing, names that are not the clinic's are refused,
and every answer says what may be done with it.
"""

import functools
import ipaddress
import re
import socket
from collections.abc import Callable, Collection
from http import HTTPStatus

from starlette.types import Scope

from clinic.web.headers import header, headers_by_name
from clinic.web.refusals import Refusal

# Unless an answer has its own, it is stored nowhere, stands in no frame, and is no other origin's
# script, style or picture: https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html
ANSWER_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
REQUEST_ID = b"x-request-id"
NAMES = frozenset(name for name, _ in ANSWER_HEADERS)

# In these headers a browser says which page sends the request.
TELLING = (b"sec-fetch-site", b"origin")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# A host, and its port if there is one (RFC 3986, 3.2.2, without what no host of ours has in it).
HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z._-]{1,255})(?::([0-9]{0,5}))?")
PORTS = {"http": "80", "https": "443"}

KnowsHost = Callable[[str], bool]
"""Says of a Host header whether it names the clinic."""


class Misdirected(Refusal):
    """The Host header is none of the clinic's names."""

    status = HTTPStatus.MISDIRECTED_REQUEST
    slug = "misdirected"
    title = "The clinic has another name"
    explanation = (
        "The header Host names another host. The setting CLINIC_HOSTS says which names are the "
        "clinic's; health is answered under any."
    )
    detail = (
        "The clinic does not answer to the name in the header Host. Ask it by its own name, or "
        "have that name added to its setting CLINIC_HOSTS. Nothing was changed."
    )


class CrossSite(Refusal):
    """The page of another origin asks for a change."""

    status = HTTPStatus.FORBIDDEN
    slug = "cross-site"
    title = "Sent by another site"
    explanation = (
        "A browser says (Sec-Fetch-Site, Origin) that a page of another site sent this, and only "
        "the clinic's own may change anything. Programs that are no browsers send neither header."
    )
    detail = (
        "This came from a web page of another site, which may not change anything here. Use the "
        "clinic at its own address; a proxy in front of it must pass on the header Host. Nothing "
        "was changed."
    )


def reaches_others(listening: str, names: Collection[str]) -> bool:
    """Tell whether others than this machine may reach the clinic, by where it listens.

    Or by its names: a clinic on loopback that answers to another one stands behind a proxy.
    """
    return not is_loopback(listening) or not all(map(_names_this_machine, names))


def _names_this_machine(name: str) -> bool:
    plain = _plain(name)
    try:
        return ipaddress.ip_address(plain).is_loopback
    except ValueError:
        return plain == "localhost" or plain.endswith(".localhost")


def known_hosts(given: Collection[str], listening: str) -> KnowsHost:
    """Return the check of a Host header: by the names that are given, or by where we listen.

    A clinic that listens on loopback only accepts names of loopback only; otherwise any web page
    could have its own name resolved to it, and read all answers as its own (DNS rebinding). A
    clinic that listens elsewhere cannot know its names, and accepts all unless they are given.
    """
    if not given and not is_loopback(listening):
        return lambda _host: True
    names = {_plain(name) for name in given or ("localhost", "127.0.0.1", "::1", listening)}

    @functools.lru_cache(maxsize=64)
    def knows(host: str) -> bool:
        found = HOST.fullmatch(host)
        return found is not None and _plain(found[1]) in names

    return knows


def is_cross_origin(scope: Scope) -> bool:
    """Tell whether a browser sends a request for a page that is not the clinic's own.

    Raises:
        RepeatedHeader: a header that says so is repeated.
    """
    names = (b"host", b"origin", b"sec-fetch-site")
    host, origin, site = (header(scope, name) for name in names)
    return _is_cross_origin(host, origin, site)


def refusal(
    scope: Scope, knows: KnowsHost, origins: Collection[str] = frozenset()
) -> Refusal | None:
    """Return the refusal of a request to another host or from another site's page, or None.

    Pages of the ``origins`` may ask for changes.
    """
    by_name = headers_by_name(scope)
    try:
        host = header(scope, b"host") if b"host" in by_name else None
        if host is not None and not knows(host):
            return Misdirected()
        if scope["method"] in SAFE_METHODS or by_name.keys().isdisjoint(TELLING):
            return None
        site, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin")
    except Refusal as repeated:
        return repeated
    if origin in origins:
        return None
    return CrossSite() if _is_cross_origin(host, origin, site) else None


def add_answer_headers(own: list[tuple[bytes, bytes]]) -> None:
    """Add to an answer's headers those that each must have, unless it has its own."""
    for name, _ in own:
        if name in NAMES:
            given = {name for name, _ in own}
            own += [one for one in ANSWER_HEADERS if one[0] not in given]
            break
    else:
        own += ANSWER_HEADERS


def _is_cross_origin(host: str | None, origin: str | None, site: str | None) -> bool:
    """Tell whether a browser sends this for a page that is not the clinic's.

    No page can set these headers, and every browser sends one of them with a request that could
    change something; programs that are not browsers send neither. The order of the checks is that
    of https://pkg.go.dev/net/http#CrossOriginProtection.
    """
    if site is not None and site != "none":
        return site != "same-origin"
    return origin is not None and not _is_own(origin, host)


def _is_own(origin: str, host: str | None) -> bool:
    """Tell whether an origin is the host that was asked, even if a proxy ends TLS in between."""
    scheme, separator, authority = origin.partition("://")
    theirs, ours = HOST.fullmatch(authority), HOST.fullmatch(host or "")
    if not separator or theirs is None or ours is None:
        return False  # "null", say: a page in a sandbox, or a file
    port = PORTS.get(scheme.lower(), "")
    return (_plain(theirs[1]), theirs[2] or port) == (_plain(ours[1]), ours[2] or port)


def _plain(host: str) -> str:
    """Return a host in the one form in which it is compared."""
    host = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def is_loopback(host: str) -> bool:
    """Tell whether all addresses of a host are of this machine only."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(one[4][0])).is_loopback for one in found)
