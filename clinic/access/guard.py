"""The guard: lets a request in to an endpoint, or refuses it.

While no token has ever been made, a clinic that only its own machine can reach serves everyone: who
tries it needs nothing. From the first token on everyone needs one.
"""

from dataclasses import dataclass, field

from starlette.requests import Request

from clinic.access.audit import Audit
from clinic.access.rates import Rate
from clinic.access.sessions import COOKIE, Sessions, set_cookie
from clinic.access.token import digest_of
from clinic.access.tokens import Tokens
from clinic.acting import ANONYMOUS, act_as, acting
from clinic.web.browsers import is_cross_origin
from clinic.web.callers import (
    CALLER,
    EVERYTHING,
    INCLUDED,
    RENEWED,
    SCHEME,
    Caller,
    NotAllowed,
    NoToken,
    Permission,
    TooManyRequests,
)
from clinic.web.endpoints import Guarded
from clinic.web.headers import header, headers_by_name

# Where a calendar program, which can send no headers, has its token.
PARAMETER = "token"
# Of tokens that do not count, each address may try ten at once, and ten a minute from then on. A
# token that counts is never refused for the wrong ones of others behind the same proxy; it is made
# of 256 random bits, which no number of tries finds.
WRONG_PER_SECOND = 10 / 60
WRONG_BURST = 10

ANYONE = Caller(ANONYMOUS, EVERYTHING)
"""Whoever asks a clinic that needs no token."""
NOBODY = Caller(ANONYMOUS, INCLUDED[Permission.OPEN], known=False)
"""Whoever asks without a token where one is needed; some endpoints are open to all."""


@dataclass
class Guard:
    """Who may do what.

    ``anonymous`` says whether to serve everyone while no token has ever been made; ``per_second``
    is how often each token may ask, and each address that sends none; None is without a limit.
    """

    tokens: Tokens
    sessions: Sessions
    audit: Audit
    anonymous: bool
    per_second: float | None = None
    _rate: Rate | None = field(init=False)
    _wrong: Rate = field(default_factory=lambda: Rate(WRONG_PER_SECOND, WRONG_BURST))

    def __post_init__(self) -> None:
        # Two seconds' worth at once, so that a page with all its parts is loaded.
        pace = self.per_second
        self._rate = None if pace is None else Rate(pace, max(1.0, 2 * pace))

    async def __call__(self, endpoint: Guarded, request: Request) -> None:
        """Let a request in, and say in its scope who sends it.

        Raises:
            NoToken: it needs a token, and has none that counts.
            NotAllowed: its token may not do this.
            TooManyRequests: the same client asks too often.
            DatabaseUnavailable: the database cannot say which tokens count.
        """
        if endpoint.needs is Permission.OPEN:
            request.scope[CALLER] = NOBODY
            return
        caller = await self._caller(endpoint, request)
        if self._rate is not None:
            named = caller is not ANYONE and caller is not NOBODY
            if wait := self._rate.wait_seconds(caller.name if named else _address(request)):
                raise TooManyRequests(wait)
        request.scope[CALLER] = caller
        if endpoint.needs not in caller.permissions:
            raise NotAllowed(endpoint.needs) if caller.known else NoToken
        if caller is not ANYONE:
            act_as(acting()._replace(actor=caller.name))
        if callable(endpoint.audited) and endpoint.audited(request):
            parameters = sorted(set(request.query_params) - {PARAMETER})
            await self.audit.read(f"{endpoint.name}.read", {"parameters": parameters})

    def is_known(self, request: Request) -> bool:
        """Tell whether somebody with a token asks for what is open to all, or none is needed.

        By what is remembered: health has to be told when the database is away, too.
        """
        remembered = self.tokens.remembered
        if remembered is None or not remembered.any_ever:
            return self.anonymous
        digest = digest_of(_sent(request) or "")
        found = remembered.by_digest.get(digest or "")
        return found is not None and found.counts

    async def _caller(self, endpoint: Guarded, request: Request) -> Caller:
        if await self._serves_anyone():
            return ANYONE
        secret = _sent(request)
        if secret is None and endpoint.needs is Permission.FEED:
            secret = request.query_params.get(PARAMETER)
        if secret is None:
            return await self._signed_in(request)
        token = await self.tokens.find(secret)
        if token is None:
            if wait := self._wrong.wait_seconds(_address(request)):
                raise TooManyRequests(wait)
            raise NoToken
        await self.tokens.used(token)
        return token.caller

    async def sign_in(self, request: Request, secret: str) -> str | None:
        """Return the header that begins a session, or None if the token does not count.

        Raises:
            TooManyRequests: too many that do not count came from there.
            DatabaseUnavailable: the database cannot say which tokens count.
        """
        # Only the page knows by which scheme the browser came: a proxy may end TLS in front of us.
        origin = header(request.scope, b"origin") or ""
        secure = origin.startswith("https://")
        cookie = await self.sessions.begin(secret, secure=secure)
        if cookie is None:
            if wait := self._wrong.wait_seconds(_address(request)):
                raise TooManyRequests(wait)
            return None
        return set_cookie(cookie, request.scope["root_path"] or "/", secure=secure)

    async def _signed_in(self, request: Request) -> Caller:
        """Return who has signed in, with the browser that sends the request.

        The page of another site may have the browser send the cookie: then it does not count. That
        other origins may be let in (CLINIC_CORS_ORIGINS) makes no difference.
        """
        if b"cookie" not in headers_by_name(request.scope) or is_cross_origin(request.scope):
            return NOBODY
        session = await self.sessions.find(request.cookies.get(COOKIE, ""))
        if session is None:
            return NOBODY
        if session.renewed is not None:
            path = request.scope["root_path"] or "/"
            request.scope[RENEWED] = set_cookie(session.renewed, path, secure=session.secure)
        await self.tokens.used(session.token)
        return session.token.caller

    async def _serves_anyone(self) -> bool:
        return self.anonymous and not (await self.tokens.known()).any_ever


def _sent(request: Request) -> str | None:
    """Return the token in the header Authorization, or None if there is no such header."""
    sent = header(request.scope, b"authorization")
    if sent is None:
        return None
    scheme, _, secret = sent.partition(" ")
    return secret.strip() if scheme.lower() == SCHEME.lower() else ""


def _address(request: Request) -> str:
    client = request.scope.get("client")
    return str(client[0]) if client else ""
