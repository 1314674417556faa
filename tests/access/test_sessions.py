"""Sessions: begun with a token, ended by time, by the token's end, by anyone who meddles."""

import pytest

from clinic.access.sessions import IDLE, LONGEST, RENEWED_AFTER, Sessions, set_cookie
from clinic.access.tokens import Tokens
from clinic.database import Database
from clinic.web.callers import Permission

pytestmark = pytest.mark.anyio
DESK = frozenset({Permission.DESK})


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def begun(database: Database) -> tuple[Sessions, Clock, str]:
    tokens, clock = Tokens(database), Clock()
    secret, _ = await tokens.make("Anna", DESK)
    sessions = Sessions(tokens, clock)
    cookie = await sessions.begin(secret, secure=True)
    assert cookie is not None
    assert secret not in cookie
    return sessions, clock, cookie


async def test_a_session_is_that_of_its_token(database: Database) -> None:
    sessions, _, cookie = await begun(database)
    session = await sessions.find(cookie)
    assert session is not None
    assert session.token.name == "Anna"
    assert session.renewed is None
    assert session.secure
    # Another process signs with the same key.
    elsewhere = await Sessions(Tokens(database), sessions.clock).find(cookie)
    assert elsewhere == session
    assert await sessions.begin("clinic_" + "A" * 43, secure=False) is None


async def test_a_session_ends_when_nobody_uses_it(database: Database) -> None:
    sessions, clock, cookie = await begun(database)
    clock.now += IDLE.total_seconds()
    assert await sessions.find(cookie) is not None
    clock.now += 1
    assert await sessions.find(cookie) is None


async def test_a_session_in_use_goes_on_until_its_last_hour(database: Database) -> None:
    sessions, clock, cookie = await begun(database)
    first, began = cookie, clock.now
    while clock.now - began <= LONGEST.total_seconds():
        session = await sessions.find(cookie)
        assert session is not None
        cookie = session.renewed or cookie
        clock.now += RENEWED_AFTER.total_seconds() + 1
    assert cookie != first
    assert await sessions.find(cookie) is None


async def test_a_session_ends_with_its_token(database: Database) -> None:
    sessions, _, cookie = await begun(database)
    await sessions.tokens.revoke("Anna")
    assert await sessions.find(cookie) is None


async def test_nobody_can_make_a_session(database: Database) -> None:
    sessions, _, cookie = await begun(database)
    value, seen_at, signature = cookie.rsplit(".", 2)
    digest = value.partition(".")[0]
    later = value.replace("1800000000", "1800009999")
    assert later != value
    wrong = [
        "",
        ".",
        "..",
        value,
        digest,
        f"{later}.{seen_at}.{signature}",
        f"{value}.{seen_at}A.{signature}",
        f"{value}.{seen_at}.{signature[:-1]}",
        f"{value}.{seen_at}.",
        cookie + "x",
        cookie * 10,
        "é" * 40,
        "\x00" * 40,
    ]
    for one in wrong:
        assert await sessions.find(one) is None
    assert await sessions.find(cookie) is not None


def test_the_cookie_is_for_this_site_and_for_no_script() -> None:
    given = set_cookie("value", "/clinic", secure=True)
    assert given.startswith("clinic_session=value; Path=/clinic; Max-Age=43200; ")
    for attribute in ("HttpOnly", "SameSite=Strict", "Secure"):
        assert f"; {attribute}" in given
    assert "Secure" not in set_cookie("value", "/", secure=False)
    assert "Max-Age=0" in set_cookie("", "/", secure=False)
