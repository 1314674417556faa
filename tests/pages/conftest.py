"""Clinics, people and browsers for the tests of the pages."""

import os
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.browser.chromium import Browser, chromium
from tests.process.clinic import ClinicProcess
from tests.servers.server import ServerMissing

FORM = {"Sec-Fetch-Site": "same-origin"}


class Person:
    """Somebody with a browser that runs no script: keeps cookies, goes where a page leads."""

    def __init__(self, url: str, language: str = "en", **headers: str) -> None:
        known = {"Accept": "text/html", "Accept-Language": language, **FORM, **headers}
        self.http = httpx.Client(base_url=url, headers=known, follow_redirects=True, timeout=60)

    def sees(self, path: str, **query: str) -> str:
        """Return what an address shows."""
        found = self.http.get(path, params=query or None)
        assert found.status_code == 200, found.text
        return found.text

    def sends(self, path: str, **fields: str) -> httpx.Response:
        """Send a form, and return the page that it leads to."""
        return self.http.post(path, data=fields)

    def close(self) -> None:
        """Forget everything."""
        self.http.close()


def hidden(page: str, name: str) -> str:
    """Return what a hidden field of a page holds."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, page
    return found[1]


@pytest.fixture
def person(clinic: ClinicProcess) -> Iterator[Person]:
    found = Person(clinic.url)
    yield found
    found.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One real browser for all tests; open pages of your own."""
    try:
        # "clinic.test" stands for a clinic in the house's network, without TLS.
        with chromium(
            tmp_path_factory.mktemp("browser"), "--host-resolver-rules=MAP clinic.test 127.0.0.1"
        ) as found:
            yield found
    except ServerMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
