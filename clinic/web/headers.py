"""Read headers, each as what it is: one value, or a list."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Self

from starlette.types import Scope

from clinic.web.refusals import Refusal

# Browsers send an Accept of some 200 bytes. To read a list takes 1 us for each of its members.
LONGEST_LIST_BYTES = 4 * 1024
# The weight of a media range, and what it has to be (RFC 9110, 12.4.2).
WEIGHT = re.compile(r";\s*q=\s*([^;\s]*)")
NUMBER = re.compile(r"[01](\.[0-9]{0,3})?")
# Where a request's scope keeps its headers by their names.
BY_NAME = "clinic.headers"
# Where in the value of a header a path begins.
PATH = re.compile("(?:^|<)(?=/)")


class RepeatedHeader(Refusal):
    """A header that may be sent only once is repeated."""

    status = HTTPStatus.BAD_REQUEST
    slug = "repeated-header"
    title = "A header is repeated"
    explanation = (
        "A header that may be sent only once was repeated: it is not clear which value is meant."
    )

    def __init__(self, name: bytes) -> None:
        super().__init__(f"The header {_spelt(name)} was sent more than once. Nothing was changed.")

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of two Content-Types."""
        return cls(b"content-type")


class ListTooLong(Refusal):
    """A header is longer than any that makes sense."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    slug = "list-too-long"
    title = "A header is too long"
    explanation = (
        "A header that is a list, such as Accept, is too long: keep it below "
        f"{LONGEST_LIST_BYTES // 1024} KiB."
    )

    def __init__(self, name: bytes) -> None:
        super().__init__(
            f"The header {_spelt(name)} is longer than {LONGEST_LIST_BYTES // 1024} KiB. "
            "Nothing was changed."
        )

    @classmethod
    def example(cls) -> Self:
        """Return the refusal of an Accept."""
        return cls(b"accept")


def _spelt(name: bytes) -> str:
    return name.decode("ascii").title()


def header(scope: Scope, name: bytes) -> str | None:
    """Return the value of a header that is no list, or None; ``name`` is in lower case.

    Starlette copies all headers before it looks for one, and handles an exception where there is
    none: for three headers that is a twentieth of a booking's time (benchmarks/README.md).

    Raises:
        RepeatedHeader: it is repeated, and another reader might take another one of its values.
    """
    by_name = headers_by_name(scope)
    value = by_name.get(name)
    if value is None:
        return None
    lines = scope["headers"]
    if len(by_name) < len(lines) and [one for one, _ in lines].count(name) > 1:
        raise RepeatedHeader(name)
    return str(value, "latin-1")


def header_list(scope: Scope, name: bytes) -> str | None:
    """Return a header that is a list, its lines joined by commas, or None.

    See RFC 9110, 5.3: several lines of it mean the same as one.

    Raises:
        ListTooLong: it is longer than any list that makes sense.
    """
    by_name = headers_by_name(scope)
    value = by_name.get(name)
    if value is None:
        return None
    lines = scope["headers"]
    if len(by_name) < len(lines):
        value = b", ".join([value for one, value in lines if one == name])
    if len(value) > LONGEST_LIST_BYTES:
        raise ListTooLong(name)
    return str(value, "latin-1")


def headers_by_name(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by their names; of those in several lines the last."""
    by_name: dict[bytes, bytes] | None = scope.get(BY_NAME)
    if by_name is None:
        by_name = scope[BY_NAME] = dict(scope["headers"])
    return by_name


def below(root_path: str, links: str) -> str:
    """Return the value of a ``Location`` or ``Link`` with its paths below another path."""
    return PATH.sub(rf"\g<0>{root_path}", links)


def preferred(scope: Scope, offered: Sequence[str]) -> str:
    """Return the media type that a client likes best; the first one if it likes none of them.

    See RFC 9110, 12.5.1. To answer with what was not asked for is what it advises, too.
    """
    ranges: dict[str, float] = {}
    for part in (header_list(scope, b"accept") or "*/*").lower().split(","):
        name, separator, parameters = part.partition(";")
        weight = WEIGHT.search(separator + parameters)
        text = weight[1] if weight else "1"
        ranges[name.strip()] = float(text) if NUMBER.fullmatch(text) else 0.0

    def liking(media_type: str) -> float:
        for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
            if name in ranges:
                return ranges[name]
        return 0.0

    return max(offered, key=liking)
