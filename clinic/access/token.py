"""A token: what it looks like, and what it is good for.

A token is a random secret behind a prefix by which scanners for secrets find it where it should not
be. The database holds its digest only, so that whoever reads the database cannot use it. With 256
random bits there is nothing to guess, so a fast hash is enough: slow ones protect what people think
up themselves (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html).
"""

import datetime
import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from clinic.acting import RESERVED
from clinic.database import utc_now
from clinic.web.callers import Caller, Permission, included

PREFIX = "clinic_"
SECRET_BYTES = 32
# What `secret` returns, and nothing longer is ever hashed.
FORM = re.compile(PREFIX + "[0-9A-Za-z_-]{43}")
NAME = re.compile("[0-9A-Za-zА-яЁё][0-9A-Za-zА-яЁё ._@-]{0,62}")
DIGEST = re.compile("[0-9a-f]{64}")


class BadToken(Exception):
    """A token cannot be made or used so; the message says why."""


@dataclass(frozen=True)
class Token:
    """What the clinic knows of a token; times are aware UTC.

    ``feed`` is the one calendar feed that it is good for; then its permission is ``feed``.
    ``made_by`` is who made it, ``from_file`` says that it stands in a file and not in the database.
    """

    name: str
    digest: str
    permissions: frozenset[Permission]
    feed: str | None = None
    expires_at: datetime.datetime | None = None
    made_at: datetime.datetime | None = None
    made_by: str | None = None
    revoked_at: datetime.datetime | None = None
    last_used_at: datetime.datetime | None = None
    from_file: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is neither revoked nor expired by now."""
        return self.revoked_at is None and (self.expires_at is None or utc_now() < self.expires_at)

    @cached_property
    def caller(self) -> Caller:
        """Return whom it stands for."""
        return Caller(self.name, included(self.permissions), feed=self.feed)


def new_secret() -> str:
    """Return a new token, which is shown once and kept nowhere."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest_of(secret: str) -> str | None:
    """Return the digest by which a token is known, or None if it has not the form of one."""
    if not FORM.fullmatch(secret):
        return None
    return hashlib.sha256(secret.encode()).hexdigest()


def check_name(name: str) -> str:
    """Return a token's name, which stands in the audit and beside what the token changes.

    Raises:
        BadToken: it cannot be a name.
    """
    if not NAME.fullmatch(name) or name != name.strip():
        raise BadToken(
            "a token's name must be 1 to 63 letters, digits, blanks and . _ @ -, and begin with a "
            "letter or digit"
        )
    if name in RESERVED:
        raise BadToken(f"no token can be called {name}: the audit has another use for that name")
    return name


def read_permissions(words: Iterable[str]) -> frozenset[Permission]:
    """Return the permissions of these names.

    Raises:
        BadToken: one of them is no permission that a token can have.
    """
    can_have = [one for one in Permission if one is not Permission.OPEN]
    try:
        found = frozenset(Permission(word) for word in words)
    except ValueError:
        found = frozenset()
    if not found or Permission.OPEN in found:
        raise BadToken(f"a token's permissions are among {', '.join(can_have)}")
    return found
