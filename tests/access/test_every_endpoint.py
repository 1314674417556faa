"""Every endpoint, asked with every kind of token: who is let in, and who is not.

A new endpoint is walked as soon as it stands in its table; what it needs it has to say there.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import anyio
import httpx
import pytest

from clinic.access.tokens import Tokens
from clinic.appointments.search import FeedSearch
from clinic.database import Dialect, migrate, open_database, utc_now
from clinic.parts import ENDPOINTS
from clinic.web.callers import INCLUDED, Permission
from clinic.web.endpoints import Endpoint
from tests.conftest import NUMBERS
from tests.process.clinic import ClinicProcess, running
from tests.servers import Postgres

REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
# What a client may send that is no token which counts.
WRONG = {
    "none": None,
    "empty": "Bearer",
    "revoked": "Bearer {revoked}",
    "expired": "Bearer {expired}",
    "cut": "Bearer {cut}",
    "mutilated": "Bearer {mutilated}",
    "longer": "Bearer {desk}x",
    "twice": "Bearer {desk} {desk}",
    "another scheme": "Basic {desk}",
    "unknown": "Bearer clinic_" + "A" * 43,
    "its digest": "Bearer " + "0" * 64,
}
GIVEN = [one for one in Permission if one is not Permission.OPEN]


async def made_tokens(url: str) -> dict[str, str]:
    """Make a token of each kind, and return their secrets by their names."""
    secrets: dict[str, str] = {}
    async with open_database(url) as database:
        tokens = Tokens(database)

        async def make(name: str, permission: Permission, **more: Any) -> None:
            secrets[name], _ = await tokens.make(name, frozenset({permission}), **more)

        for given in GIVEN:
            feed = FeedSearch(office_number="221B").key if given is Permission.FEED else None
            await make(str(given), given, feed=feed)
        await make("revoked", Permission.ADMINISTER)
        await tokens.revoke("revoked")
        past = utc_now() - datetime.timedelta(seconds=1)
        await make("expired", Permission.ADMINISTER, expires_at=past)
    desk = secrets["desk"]
    secrets["cut"] = desk[:-1]
    secrets["mutilated"] = desk[:-1] + ("A" if desk[-1] != "A" else "B")
    return secrets


@dataclass(frozen=True)
class Guarded:
    """A clinic that has a token of each kind."""

    clinic: ClinicProcess
    secrets: dict[str, str]

    @property
    def http(self) -> httpx.Client:
        return self.clinic.http

    def sent(self, name: str) -> dict[str, str]:
        """Return the header with the token of a name."""
        return {"Authorization": f"Bearer {self.secrets[name]}"}


@pytest.fixture(scope="module", params=list(Dialect))
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    url = f"sqlite:///{folder / 'clinic.db'}"
    if request.param is Dialect.POSTGRESQL:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.create_database(f"guarded_{next(NUMBERS)}")
    migrate(url)
    secrets = anyio.run(made_tokens, url)
    with running(folder, DATABASE_URL=url) as clinic:
        yield Guarded(clinic, secrets)
        assert clinic.stop() == 0
        assert not [secret for secret in secrets.values() if secret in clinic.log]


def ask(
    guarded: Guarded, endpoint: Endpoint[Any], method: str, authorization: str | None
) -> HTTPStatus:
    path = endpoint.path.format(**endpoint.ids)
    headers = {} if authorization is None else {"Authorization": authorization}
    body = b"{}" if endpoint.body else None
    if endpoint.body:
        headers["Content-Type"] = endpoint.body.media_types[0]
    answer = guarded.http.request(method, path, headers=headers, content=body)
    return HTTPStatus(answer.status_code)


def methods(endpoint: Endpoint[Any]) -> list[str]:
    return [endpoint.method, *(["HEAD"] if endpoint.method == "GET" else [])]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.name)
def test_an_endpoint_lets_in_whoever_has_the_permission_and_nobody_else(
    guarded: Guarded, endpoint: Endpoint[Any]
) -> None:
    for method in methods(endpoint):
        for given in GIVEN:
            status = ask(guarded, endpoint, method, f"Bearer {guarded.secrets[given]}")
            if endpoint.needs in INCLUDED[given]:
                assert status not in REFUSED, f"{given} is refused"
            else:
                assert status == HTTPStatus.FORBIDDEN, f"{given} is let in"
        for name, authorization in WRONG.items():
            sent = authorization and authorization.format(**guarded.secrets)
            status = ask(guarded, endpoint, method, sent)
            if endpoint.needs is Permission.OPEN:
                assert status not in REFUSED, f"{name} is refused"
            else:
                # Those who try many wrong ones are slowed down.
                assert status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}, name


def test_what_permission_includes_which() -> None:
    """Nobody but an administrator may do everything; whoever operates sees no patients."""
    assert Permission.DESK not in INCLUDED[Permission.OPERATE]
    assert Permission.DESK not in INCLUDED[Permission.READ]
    assert INCLUDED[Permission.FEED] == {Permission.OPEN, Permission.FEED}
    for given in Permission:
        assert given in INCLUDED[given]
        assert INCLUDED[given] <= INCLUDED[Permission.ADMINISTER]
        assert (Permission.ADMINISTER in INCLUDED[given]) == (given is Permission.ADMINISTER)


def test_what_is_open_to_all_is_on_a_list() -> None:
    open_to_all = {one.path for one in ENDPOINTS if one.needs is Permission.OPEN}
    assert open_to_all == {"/health/live", "/health/ready", "/openapi.json", "/docs"}


def test_a_feed_token_is_good_for_one_feed_in_its_url(guarded: Guarded) -> None:
    secret, desk = guarded.secrets["feed"], guarded.secrets["desk"]
    for number, office in enumerate(("221B", "222")):
        body = {
            "patient_name": "Иван Иванов",
            "office_number": office,
            "date_time": f"2027-12-0{number + 1}T15:30:00",
        }
        booked = guarded.http.post("/appointment", json=body, headers=guarded.sent("desk"))
        assert booked.status_code == 201

    def feed(**query: str) -> int:
        return guarded.http.get("/appointment.ics", params=query).status_code

    assert feed(office_number="221B", token=secret) == 200
    assert feed(office_number="№ 221-b", token=secret) == 200
    assert feed(office_number="222", token=secret) == 403
    assert feed(office_number="221B", doctor_name="Dr Watson", token=secret) == 403
    assert feed(doctor_name="221B", token=secret) == 403
    assert feed(office_number="221B", token=guarded.secrets["revoked"]) in {401, 429}
    assert feed(office_number="221B") == 401
    # Other tokens work there, too: a calendar program can send none in a header.
    assert feed(office_number="222", token=guarded.secrets["read"]) == 200
    # Elsewhere a token in the URL, where logs and histories keep it, does not count.
    assert guarded.http.get("/appointment", params={"token": desk}).status_code == 401


def test_who_may_only_read_sees_no_patient(guarded: Guarded) -> None:
    body = {
        "patient_name": "Канарейкин Пётр",
        "office_number": "hidden",
        "date_time": "2027-12-01T15:30:00",
        "patient_phone": "+7 900 123-45-67",
        "note": "Канарейкин hears badly",
        "override": True,
        "reason": "Канарейкин is in a hurry",
    }
    booked = guarded.http.post("/appointment", json=body, headers=guarded.sent("desk"))
    assert booked.status_code == 201
    personal = ("patient_name", "patient_phone", "note", "override_reason")
    seen = 0
    for name in ("read", "operate", "desk", "administer"):
        headers = guarded.sent(name)
        sees = name in {"desk", "administer"}
        asked = ["", "?office_number=hidden", "?office_number=hidden&limit=10"]
        for query in asked:
            answer = guarded.http.get(f"/appointment{query}", headers=headers)
            (found,) = [one for one in answer.json() if one["office_number"] == "hidden"]
            assert all((found[field] is not None) == sees for field in personal)
            one = guarded.http.get(f"/appointment/{found['id']}", headers=headers)
            assert one.json() == found
            history = guarded.http.get(f"/appointment/{found['id']}/events", headers=headers)
            lines = guarded.http.get(
                f"/appointment{query}", headers={**headers, "Accept": "text/csv"}
            )
            for text in (answer.text, one.text, lines.text):
                assert ("Канарейкин" in text) == sees
                assert ("123-45-67" in text) == sees
            # The events themselves have no patient; the reason beside one may.
            assert ("Канарейкин" in history.text) <= sees
            seen += 1
        # To find or not to find somebody tells of them as well.
        for query in ("patient=кан", "patient_name=Канарейкин Пётр", "patient_phone=4567"):
            status = guarded.http.get(f"/appointment?{query}", headers=headers).status_code
            assert status == (200 if sees else 403)
    assert seen == 4 * 3


def test_health_tells_details_only_to_those_with_a_token(guarded: Guarded) -> None:
    assert guarded.http.get("/health/ready").json() == {"status": "ready"}
    wrong = {"Authorization": "Bearer wrong"}
    assert guarded.http.get("/health/ready", headers=wrong).json() == {"status": "ready"}
    right = guarded.sent("read")
    assert guarded.http.get("/health/ready", headers=right).json()["parts"]["http"]["state"] == "up"
