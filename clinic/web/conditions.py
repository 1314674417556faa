"""Conditional requests (RFC 9110, 13): entity tags made of a record's version."""

import re

from starlette.requests import Request

TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')


def entity_tag(version: int) -> str:
    """Return the ``ETag`` of a record in this version."""
    return f'"{version}"'


def may_change(request: Request, version: int) -> bool:
    """Tell whether ``If-Match`` allows to change a record in this version; without one all may."""
    header = request.headers.get("if-match")
    return header is None or _names(header, version, weakly=False)


def is_known(request: Request, version: int) -> bool:
    """Tell whether ``If-None-Match`` says that the client has this version already."""
    header = request.headers.get("if-none-match")
    return header is not None and _names(header, version, weakly=True)


def _names(header: str, version: int, *, weakly: bool) -> bool:
    """Tell whether a list of entity tags names a version; a weak one does so only weakly."""
    if header.strip() == "*":
        return True
    return any(tag == str(version) and (weakly or not weak) for weak, tag in TAG.findall(header))
