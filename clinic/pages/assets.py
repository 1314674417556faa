"""Style sheet, script and icon: served under names with a hash, and kept for ever by browsers.

A name stands for one content: after an update pages name another, so nothing is ever asked for
twice and nothing old is ever shown.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from clinic.web.headers import header_list
from clinic.web.refusals import NoSuchAddress

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOR_EVER = "public, max-age=31536000, immutable"
HASH_LENGTH = 12
# Smaller answers become no packet less.
LEAST_COMPRESSED = 1024
# Of a page of 300 KB in a few ms; a higher level saves a twentieth and takes three times as long.
LEVEL = 5


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that browsers load, and the same compressed."""

    content: bytes
    compressed: bytes
    media_type: str


class Assets:
    """All files that browsers load, by the names under which they are served."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._files: dict[str, Asset] = {}
        for path in sorted(FOLDER.iterdir()):
            if path.suffix in TYPES:
                content = path.read_bytes()
                if path.name == "pages.css":
                    content += places().encode()
                self._add(path.stem, path.suffix, content)

    def _add(self, stem: str, suffix: str, content: bytes) -> None:
        name = f"{stem}.{hashlib.sha256(content).hexdigest()[:HASH_LENGTH]}{suffix}"
        self._names[stem + suffix] = name
        compressed = gzip.compress(content, 9, mtime=0)
        self._files[name] = Asset(content, compressed, TYPES[suffix])

    @property
    def names(self) -> Mapping[str, str]:
        """The names under which files are served, by their own."""
        return self._names

    def answer(self, request: Request) -> Response:
        """Answer with the file that a request names.

        Raises:
            NoSuchAddress: there is none of this name.
        """
        asset = self._files.get(request.path_params["name"])
        if asset is None:
            raise NoSuchAddress
        headers = {"Cache-Control": FOR_EVER, "Vary": "Accept-Encoding"}
        content = asset.content
        if takes_gzip(request):
            content = asset.compressed
            headers["Content-Encoding"] = "gzip"
        return Response(content, headers=headers, media_type=asset.media_type)


def takes_gzip(request: Request) -> bool:
    """Tell whether a client takes answers that are compressed by gzip."""
    for part in (header_list(request.scope, b"accept-encoding") or "").lower().split(","):
        name, _, weight = part.replace(" ", "").partition(";")
        if name == "gzip":
            return not weight.startswith("q=0") or weight.strip("q=0.") != ""
    return False


def places() -> str:
    """Return the rules by which a block's classes say where it stands.

    ``h10 m15 H10 M30`` is from 10:15 up to 10:30, and ``l1 of2`` the second of two side by side. A
    style in the page would say it shorter, but no page may have one.
    """
    rules = [f".{name}{n}{{--{name}:{n}}}" for name in ("h", "from", "to") for n in range(25)]
    rules += [f".H{n}{{--eh:{n}}}" for n in range(25)]
    rules += [f".m{n}{{--m:{n}}}.M{n}{{--em:{n}}}" for n in range(60)]
    rules += [f".l{n}{{--l:{n}}}.of{n}{{--of:{n}}}" for n in range(13)]
    rules += [f".n{n}{{--n:{n}}}" for n in range(1, 61)]
    return "".join(rules) + "\n"
