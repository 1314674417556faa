"""Signing in with a token: what a browser without one gets, and what it gets with one."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from clinic.pages.table import PAGES, Page
from clinic.web.callers import INCLUDED, Permission
from tests.process.clinic import ClinicProcess, running
from tests.process.test_start import run

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


class Guarded:
    """A clinic with tokens, asked as a browser asks: it keeps cookies, and follows no redirect."""

    def __init__(self, clinic: ClinicProcess, secrets: dict[str, str]) -> None:
        self.url, self.secrets = clinic.url, secrets

    def browser(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=OWN_PAGE)

    @contextlib.contextmanager
    def signed_in(self, name: str) -> Iterator[httpx.Client]:
        with self.browser() as browser:
            sent = {"token": self.secrets[name], "back": "/find"}
            answer = browser.post("/sign-in", data=sent)
            assert (answer.status_code, answer.headers["location"]) == (303, "/find")
            yield browser


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("signing-in")
    secrets = {
        one: run(folder, "token", "make", one, "--permission", one).stdout.strip()
        for one in ("read", "desk", "operate", "administer")
    }
    with running(folder) as clinic:
        yield Guarded(clinic, secrets)
        assert clinic.stop() == 0
        assert not [secret for secret in secrets.values() if secret in clinic.log]


def path_of(page: Page) -> str:
    return page.path.format(id=1, day="2027-12-01", name="pages.css")


@pytest.mark.parametrize("page", PAGES, ids=lambda one: f"{one.method} {one.path}")
def test_a_page_is_for_whoever_has_the_permission(guarded: Guarded, page: Page) -> None:
    if page.path == "/news":
        return  # a stream that does not end; below
    with guarded.browser() as browser:
        answer = browser.request(page.method, path_of(page), data={})
        if page.needs is Permission.OPEN:
            assert answer.headers.get("location", "") in {"", "/", "/sign-in"}
        else:
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in?back=/")
    if page.path.startswith("/sign"):
        return
    for name in ("read", "desk", "operate", "administer"):
        with guarded.signed_in(name) as browser:
            answer = browser.request(page.method, path_of(page))
            refused = answer.status_code == 403
            assert refused == (page.needs not in INCLUDED[Permission(name)])
            assert "sign-in" not in answer.headers.get("location", "")


def test_only_few_pages_are_open_to_all() -> None:
    open_to_all = {page.path for page in PAGES if page.needs is Permission.OPEN}
    assert open_to_all == {"/sign-in", "/sign-out", "/language", "/static/{name}"}


def test_one_signs_in_goes_where_one_wanted_and_signs_out(guarded: Guarded) -> None:
    with guarded.browser() as browser:
        asked = browser.get("/day/2027-12-01?view=list")
        assert asked.headers["location"] == "/sign-in?back=/day/2027-12-01%3Fview%3Dlist"
        page = browser.get(asked.headers["location"])
        assert page.status_code == 200
        assert page.headers["cache-control"] == "no-store"
        form = page.text.partition('action="/sign-in"')[2]
        back = re.search('name="back" value="([^"]*)"', form)
        assert back
        assert back[1] == "/day/2027-12-01?view=list"
        sent = {"token": f" {guarded.secrets['desk']} ", "back": back[1]}
        begun = browser.post("/sign-in", data=sent)
        assert begun.headers["location"] == back[1]
        cookie = begun.headers["set-cookie"]
        for attribute in ("HttpOnly", "SameSite=Strict", "Path=/"):
            assert attribute in cookie
        assert guarded.secrets["desk"] not in cookie
        day = browser.get(back[1])
        assert day.status_code == 200
        assert 'action="/sign-out"' in day.text
        # The API takes the cookie of our own pages as well.
        assert browser.get("/appointment?limit=1").status_code == 200
        assert browser.post("/sign-out").headers["location"] == "/sign-in"
        assert browser.get("/find").status_code == 303


def test_a_token_that_does_not_count_is_said_so_and_not_shown(guarded: Guarded) -> None:
    with guarded.browser() as browser:
        for wrong in ("", "wrong", "clinic_" + "A" * 43):
            answer = browser.post("/sign-in", data={"token": wrong, "back": "/find"})
            assert answer.status_code == 422
            assert "set-cookie" not in answer.headers
            assert 'aria-invalid="true"' in answer.text
            assert not wrong or f'value="{wrong}"' not in answer.text
        many = [browser.post("/sign-in", data={"token": "wrong"}).status_code for _ in range(12)]
        assert many[-1] == 429
        # Whoever has a right one gets in all the same.
    with guarded.signed_in("desk"):
        pass


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": ""},
    ],
)
def test_the_page_of_another_site_cannot_use_a_session(
    guarded: Guarded, headers: dict[str, str]
) -> None:
    with guarded.signed_in("desk") as browser:
        assert browser.get("/appointment?limit=1", headers=headers).status_code == 401
        assert browser.get("/find", headers=headers).status_code == 303
        body = {"patient_name": "a", "office_number": "1", "date_time": "2027-12-01T10:00"}
        assert browser.post("/appointment", json=body, headers=headers).status_code == 403


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil", "x", ""])
def test_nobody_is_sent_to_another_site(guarded: Guarded, back: str) -> None:
    with guarded.browser() as browser:
        sent = {"token": guarded.secrets["desk"], "back": back}
        assert browser.post("/sign-in", data=sent).headers["location"] == "/"


def test_a_session_behind_https_is_for_https_alone(guarded: Guarded) -> None:
    with guarded.browser() as browser:
        host = guarded.url.removeprefix("http://")
        sent = {"token": guarded.secrets["desk"]}
        answer = browser.post("/sign-in", data=sent, headers={"Origin": f"https://{host}"})
        assert "; Secure" in answer.headers["set-cookie"]


def test_news_are_for_whoever_may_read(guarded: Guarded) -> None:
    with guarded.browser() as browser:
        assert browser.get("/news").status_code == 303
    with guarded.signed_in("read") as browser, browser.stream("GET", "/news") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")


def test_while_no_token_is_needed_there_is_nothing_to_sign_out_of(tmp_path: Path) -> None:
    with running(tmp_path) as clinic, httpx.Client(base_url=clinic.url) as browser:
        page = browser.get("/")
        assert page.status_code == 200
        assert "/sign-out" not in page.text
