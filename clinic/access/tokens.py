"""Tokens: make, list and revoke them; and who a token stands for.

Each process remembers all tokens, and looks at the database again once a second while it is asked
for anything. So a token that is made counts everywhere at once, and one that is revoked nowhere
after ``FRESH_SECONDS``: what is remembered for longer is not used, even if the database is away.
"""

import asyncio
import datetime
import hmac
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from clinic.access.audit import Change, write
from clinic.access.file import TokensFile
from clinic.access.queries import (
    insert_token,
    select_known,
    select_tokens,
    update_revoked,
    update_used,
)
from clinic.access.token import BadToken, Token, check_name, digest_of, new_secret
from clinic.acting import acting
from clinic.database import Database, DatabaseUnavailable, StatementRefused, utc_now
from clinic.web.callers import Permission

log = logging.getLogger(__name__)

# How long what was read counts, and after how long it is read again.
FRESH_SECONDS = 2.0
LOOK_SECONDS = 1.0
# How exactly the last use of a token is known.
USED_SECONDS = 60.0


class NoSuchToken(Exception):
    """There is no token of this name that could be revoked."""


@dataclass(frozen=True)
class Known:
    """The tokens as they were read at a moment, of ``time.monotonic``."""

    read_at: float
    by_digest: Mapping[str, Token]
    any_ever: bool
    """Whether a token has ever been made: from the first one on, everyone needs one."""
    session_key: str


@dataclass
class Tokens:
    """The tokens of a database, and those of a file, if there is one."""

    database: Database
    file: TokensFile | None = None
    _known: Known | None = None
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    # When it was last written down that a token was used, by ``time.monotonic``.
    _used_at: dict[str, float] = field(default_factory=dict)
    _complained: str = ""

    async def known(self) -> Known:
        """Return the tokens as they were at most ``FRESH_SECONDS`` ago.

        Raises:
            DatabaseUnavailable: the database cannot be asked.
        """
        known = self._known
        now = time.monotonic()
        if known is not None and now - known.read_at < LOOK_SECONDS:
            return known
        if known is not None and self._reading.locked() and now - known.read_at < FRESH_SECONDS:
            return known  # somebody reads it at this moment
        async with self._reading:
            known = self._known
            if known is None or time.monotonic() - known.read_at >= LOOK_SECONDS:
                known = self._known = await self._read()
        return known

    @property
    def remembered(self) -> Known | None:
        """The tokens as they were read last, however long ago: for nothing that matters."""
        return self._known

    async def _read(self) -> Known:
        read_at = time.monotonic()
        session_key, stored = await select_known(self.database)
        tokens = [*stored, *self._in_file()]
        return Known(read_at, {one.digest: one for one in tokens}, bool(tokens), session_key)

    def _in_file(self) -> Sequence[Token]:
        """Return the tokens in the file; while it cannot be read, none of them counts."""
        if self.file is None:
            return []
        try:
            found, complaint = self.file.read(), ""
        except BadToken as error:
            found, complaint = [], str(error)
        if complaint and complaint != self._complained:
            log.error(
                "API_TOKENS_FILE: %s. Until that is put right, none of its tokens counts.",
                complaint,
            )
        self._complained = complaint
        return found

    async def find(self, secret: str) -> Token | None:
        """Return the token that somebody has sent, or None if it does not count.

        Raises:
            DatabaseUnavailable: the database cannot be asked.
        """
        digest = digest_of(secret)
        found = (await self.known()).by_digest.get(digest or "")
        # A look-up may take longer for what is more alike; nobody can choose a digest, though, and
        # what was found is compared in constant time.
        if found is None or digest is None or not hmac.compare_digest(found.digest, digest):
            return None
        return found if found.counts else None

    async def used(self, token: Token) -> None:
        """Write down that a token was used, once a minute: an operator sees which are in use."""
        now = time.monotonic()
        if token.from_file or now - self._used_at.get(token.digest, -USED_SECONDS) < USED_SECONDS:
            return
        self._used_at[token.digest] = now
        try:
            await update_used(self.database, token.digest, utc_now())
        except (DatabaseUnavailable, StatementRefused) as error:
            log.debug("The last use of a token was not written down: %s", error)

    async def make(
        self,
        name: str,
        permissions: frozenset[Permission],
        *,
        expires_at: datetime.datetime | None = None,
        feed: str | None = None,
    ) -> tuple[str, Token]:
        """Make a token; return it, for the only time, and what is known of it.

        Raises:
            BadToken: it cannot have this name, or another one has it.
            DatabaseUnavailable: the database cannot do it now.
        """
        secret, token = new_token(name, permissions, expires_at=expires_at, feed=feed)
        async with self.database.transaction() as connection:
            if not await insert_token(connection, token):
                raise BadToken(
                    f"there is a token called {name} already: revoke that one, or take another name"
                )
            detail = {"permissions": sorted(permissions)} | ({"feed": feed} if feed else {})
            await write(connection, Change("token.made", f"token/{name}", detail))
        self._known = None
        return secret, token

    async def revoke(self, name: str) -> None:
        """Revoke a token: it counts nowhere after ``FRESH_SECONDS``.

        Raises:
            NoSuchToken: there is none of this name, or it is revoked already.
            DatabaseUnavailable: the database cannot do it now.
        """
        async with self.database.transaction() as connection:
            if not await update_revoked(connection, name, utc_now()):
                raise NoSuchToken(name)
            await write(connection, Change("token.revoked", f"token/{name}"))
        self._known = None

    async def all(self) -> list[Token]:
        """Return all tokens, also those that do not count any more: the file's, then by age.

        Raises:
            BadToken: the file cannot be read.
            DatabaseUnavailable: the database cannot be asked.
        """
        in_file = self.file.read() if self.file else []
        return [*in_file, *await select_tokens(self.database)]


def new_token(
    name: str,
    permissions: frozenset[Permission],
    *,
    expires_at: datetime.datetime | None = None,
    feed: str | None = None,
) -> tuple[str, Token]:
    """Return a new secret and its token, which nobody knows yet.

    Raises:
        BadToken: it cannot have this name.
    """
    secret = new_secret()
    digest = digest_of(secret)
    assert digest is not None  # noqa: S101 - it has the form of a secret
    made = Token(check_name(name), digest, permissions, feed=feed, expires_at=expires_at)
    return secret, replace(made, made_at=utc_now(), made_by=acting().actor)
