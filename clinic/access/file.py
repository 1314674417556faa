"""Tokens in a file, for containers: their digests, so that the file is no secret."""

import datetime
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from clinic.access.token import DIGEST, BadToken, Token, check_name, read_permissions

# The file is read again when it has changed.
LARGEST_FILE_BYTES = 1024 * 1024
FIELDS = 3
FORM = "NAME, PERMISSION[+PERMISSION], DIGEST[, DAY]"


def line_of(token: Token) -> str:
    """Return the line by which a token stands in a file."""
    fields = [token.name, "+".join(sorted(token.permissions)), token.digest]
    if token.expires_at is not None:
        fields.append(token.expires_at.isoformat(timespec="minutes"))
    return ", ".join(fields)


class TokensFile:
    """A file with a token a line; empty lines, and those that begin with #, are passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._tokens: list[Token] = []

    def read(self) -> list[Token]:
        """Return the tokens, read again if the file has changed.

        Raises:
            BadToken: the file cannot be read, or a line is wrong; the message names it.
        """
        try:
            status = os.stat(self.path)  # noqa: PTH116 - a third of what Path's takes
            seen = status.st_mtime_ns, status.st_size, status.st_ino
            if seen != self._seen:
                if status.st_size > LARGEST_FILE_BYTES:
                    raise BadToken("the file is larger than 1 MiB: it is no list of tokens")
                lines = self.path.read_text(encoding="utf-8").splitlines()
                self._tokens = list(read_lines(lines))
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            raise BadToken(f"the file cannot be read: {type(error).__name__}") from None
        return self._tokens


def read_lines(lines: Iterable[str]) -> Iterator[Token]:
    """Yield the tokens in lines of a file.

    Raises:
        BadToken: a line is wrong.
    """
    names = set()
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            token = read_line(text)
        except (BadToken, ValueError):
            raise BadToken(
                f"line {number} is no token: write {FORM}, as the command `token make --for-file` "
                "prints it"
            ) from None
        if token.name in names:
            raise BadToken(f"line {number} has the same name as another one")
        names.add(token.name)
        yield token


def read_line(text: str) -> Token:
    """Return the token in a line.

    Raises:
        BadToken, ValueError: it is none.
    """
    fields = [field.strip() for field in text.split(",")]
    if not FIELDS <= len(fields) <= FIELDS + 1 or not DIGEST.fullmatch(fields[2]):
        raise BadToken(text)
    expires_at = None
    if len(fields) > FIELDS:
        expires_at = datetime.datetime.fromisoformat(fields[FIELDS])
        if expires_at.tzinfo is None:
            expires_at = expires_at.replace(tzinfo=datetime.UTC)
    return Token(
        name=check_name(fields[0]),
        digest=fields[2],
        permissions=read_permissions(fields[1].split("+")),
        expires_at=expires_at,
        from_file=True,
    )
