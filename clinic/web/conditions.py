"""Conditional requests (RFC 9110, 13): entity tags made of a record's version."""

import re

from starlette.requests import Request

from clinic.web.headers import header_list

TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')


def entity_tag(version: int) -> str:
    """Return the ``ETag`` of a record in this version."""
    return f'"{version}"'


def may_change(request: Request, version: int) -> bool:
    """Tell whether the request's conditions allow to change a record in this version.

    ``If-Match`` must name it and ``If-None-Match`` must not, where they are sent.
    """
    tags = header_list(request.scope, b"if-match")
    return (tags is None or _names(tags, version, weakly=False)) and not is_known(request, version)


def is_known(request: Request, version: int) -> bool:
    """Tell whether ``If-None-Match`` says that the client has this version already."""
    tags = header_list(request.scope, b"if-none-match")
    return tags is not None and _names(tags, version, weakly=True)


def _names(tags: str, version: int, *, weakly: bool) -> bool:
    """Tell whether a list of entity tags names a version; a weak one does so only weakly."""
    if tags.strip() == "*":
        return True
    return any(tag == str(version) and (weakly or not weak) for weak, tag in TAG.findall(tags))
