"""Sessions: whoever has signed in with a token need not send it again, for a while.

The cookie says which token was used and when; it is signed, so that nobody can make one. What it
allows is what the token allows at that moment: with a token that is revoked its sessions end.

Forms need no secret of their own against requests that other sites forge: the browser sends the
cookie to nobody for another site (SameSite), and what it says of where a request comes from decides
in any case (``clinic.web.browsers``), as
https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
has it. So a page can be made once for all who look at it.
"""

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from itsdangerous import BadSignature, TimestampSigner

from clinic.access.token import Token
from clinic.access.tokens import Tokens

COOKIE = "clinic_session"
# A desk is left for lunch, and nobody signs in twice a day. Both are for the office worker of
# https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html.
IDLE = datetime.timedelta(hours=2)
LONGEST = datetime.timedelta(hours=12)
# How often a session in use is given a new cookie.
RENEWED_AFTER = datetime.timedelta(minutes=5)
# Marks a session that was begun by HTTPS.
SECURE = "s"
# Longer than any that we make.
LONGEST_COOKIE = 300


class Session(NamedTuple):
    """A session that holds: its token, and the cookie to go on with, if it is time for a new one.

    ``secure`` says that it was begun by HTTPS.
    """

    token: Token
    renewed: str | None
    secure: bool


@dataclass(frozen=True)
class Sessions:
    """The sessions of a clinic."""

    tokens: Tokens
    clock: Callable[[], float] = time.time

    async def begin(self, secret: str, *, secure: bool) -> str | None:
        """Return the cookie of a new session, or None if the token does not count.

        ``secure`` says that the browser came by HTTPS: it never sends the cookie otherwise then.

        Raises:
            DatabaseUnavailable: the database cannot say which tokens count.
        """
        token = await self.tokens.find(secret)
        if token is None:
            return None
        signer = self._signer(await self._key())
        mark = SECURE if secure else ""
        return signer.sign(f"{token.digest}.{int(self.clock())}.{mark}").decode("ascii")

    async def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie, or None if it has ended or was never made.

        Raises:
            DatabaseUnavailable: the database cannot say which tokens count.
        """
        if len(cookie) > LONGEST_COOKIE:
            return None
        key, now = await self._key(), self.clock()
        signer = self._signer(key)
        try:
            value, seen_at = signer.unsign(cookie, return_timestamp=True)
            digest, began, mark = value.decode("ascii").split(".")
            began_at = int(began)
        except (BadSignature, ValueError):
            return None
        idle_seconds = now - seen_at.timestamp()
        if idle_seconds > IDLE.total_seconds() or now - began_at > LONGEST.total_seconds():
            return None
        token = (await self.tokens.known()).by_digest.get(digest)
        if token is None or not token.counts:
            return None
        due = idle_seconds > RENEWED_AFTER.total_seconds()
        return Session(
            token,
            signer.sign(value).decode("ascii") if due else None,
            mark == SECURE,
        )

    async def _key(self) -> str:
        return (await self.tokens.known()).session_key

    def _signer(self, key: str) -> "_Signer":
        return _Signer(key, self.clock)


class _Signer(TimestampSigner):
    """Signs by a clock, and nothing that another part of the clinic may sign with the same key."""

    def __init__(self, key: str, clock: Callable[[], float]) -> None:
        super().__init__(key, salt="clinic.session", digest_method=sha256)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock())


def set_cookie(value: str, path: str, *, secure: bool) -> str:
    """Return the header that gives a browser the cookie, or with an empty value takes it away."""
    ages = int(LONGEST.total_seconds()) if value else 0
    attributes = f"Path={path}; Max-Age={ages}; HttpOnly; SameSite=Strict"
    return f"{COOKIE}={value}; {attributes}" + ("; Secure" if secure else "")
