"""The front desk in a real browser, as a person uses it: with a script and without."""

import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.browser.chromium import Browser, Page
from tests.process.clinic import ClinicProcess, running

# The second stands for a name in a house's network, without TLS: conftest.py leads it here.
HOSTS = "127.0.0.1,clinic.test"
LIVE = "document.querySelector('#as-of').classList.contains('live')"
AXE = Path(__file__).parent / ".axe" / "axe.min.js"
# What others do has to be seen within this time; a busy machine gets more.
SOON_SECONDS = 6.0


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClinicProcess]:
    with running(
        tmp_path_factory.mktemp("desk"),
        CLINIC_HOURS="00:00-24:00",
        CLINIC_HOSTS=HOSTS,
        CLINIC_ALLOW_ANONYMOUS=1,
    ) as process:
        yield process
        assert process.stop() == 0
        assert "Traceback" not in process.log


def today(desk: ClinicProcess) -> str:
    found = re.search(r'data-day="([^"]*)"', httpx.get(f"{desk.url}/").text)
    assert found
    return found[1]


def some() -> str:
    return uuid.uuid4().hex[:8]


def booked(desk: ClinicProcess, **fields: object) -> int:
    found = desk.http.post(
        "/appointment",
        json={
            "patient_name": f"Иван {some()}",
            "office_number": some(),
            "date_time": f"{today(desk)}T10:15:00",
            **fields,
        },
    )
    assert found.status_code == 201, found.text
    return int(found.json()["id"])


def status(desk: ClinicProcess, number: int) -> str:
    return str(desk.http.get(f"/appointment/{number}").json()["status"])


@pytest.fixture(params=[True, False], ids=["script", "no script"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    found = browser.page(script=request.param)
    yield found
    assert not found.complaints()
    found.close()


@pytest.fixture
def live(browser: Browser) -> Iterator[Page]:
    found = browser.page()
    yield found
    found.close()


def test_a_receptionist_books_marks_arrived_and_moves(desk: ClinicProcess, page: Page) -> None:
    office, name, day = some(), f"Анна {some()}", today(desk)
    # An office is known from its first booking on.
    booked(desk, office_number=office, date_time=f"{day}T23:00:00")
    page.go(f"{desk.url}/day/{day}")
    page.sees(office)
    page.click(".top .primary")
    page.fill("#patient_name", name)
    page.fill("#office_number", office)
    page.fill("#date", day)
    page.fill("#time", "23:05")
    page.click("#save")
    # It is taken: one of the buttons books the next free time.
    page.sees("That time is taken")
    page.click("button[name=take]")
    page.until(f"location.pathname === '/day/{day}' && document.body.innerText.includes('{name}')")
    (found,) = desk.http.get("/appointment", params={"patient": name}).json()
    number = found["id"]
    page.click(f"#a{number} button")
    page.until(f"document.querySelector('#a{number}').classList.contains('arrived')")
    assert status(desk, number) == "arrived"
    page.click(f"#a{number} button")
    page.until(f"document.querySelector('#a{number}').classList.contains('in_room')")
    page.click("#said button")
    page.until(f"document.querySelector('#a{number}').classList.contains('arrived')")
    page.go(f"{desk.url}/card/{number}")
    page.click("a[href*='move=']")
    page.sees("Choose a free time")
    page.click("button[name=to][value$='T22:00']")
    page.until("location.search.includes('what=moved')")
    moved = desk.http.get(f"/appointment/{number}").json()
    assert moved["date_time"] == f"{day}T22:00:00"


def test_a_form_is_taken_in_a_house_without_tls(desk: ClinicProcess, page: Page) -> None:
    """Over plain HTTP a browser says by Origin alone where a form is from, if the page lets it."""
    number = booked(desk, date_time=f"{today(desk)}T00:00:00")
    page.go(f"http://clinic.test:{desk.port}/card/{number}")
    page.click("button[name=step]")
    page.until("location.pathname.startsWith('/day/')")
    assert status(desk, number) == "arrived"


def test_keys_act_on_what_has_the_focus(desk: ClinicProcess, live: Page) -> None:
    day = today(desk)
    number = booked(desk)
    live.go(f"{desk.url}/day/{day}")
    live.focus(f"#a{number} a")
    for key, wanted in (("a", "arrived"), ("i", "in_room"), ("d", "done"), ("u", "in_room")):
        live.press(key)
        live.until(f"document.querySelector('#a{number}').classList.contains('{wanted}')")
        assert status(desk, number) == wanted
        # The focus stays where it was.
        live.until(f"document.activeElement.closest('#a{number}') !== null")
    live.press("?")
    live.until("document.querySelector('#help').open")
    live.click("#keys-on")
    live.click("#help button")
    live.focus(f"#a{number} a")
    live.press("d")
    live.press("?")
    live.until("document.querySelector('#help').open")
    assert status(desk, number) == "in_room"
    live.click("#keys-on")
    live.press("Escape")
    live.until("!document.querySelector('#help').open")
    live.focus(f"#a{number} a")
    live.press("ArrowDown")
    assert live.evaluate(f"document.activeElement.closest('#a{number}') === null")
    live.press("]")
    live.until(f"location.pathname !== '/day/{day}' && {LIVE}")
    live.press("t")
    live.until(f"location.pathname === '/day/{day}' && {LIVE}")
    live.press("/")
    live.until("document.activeElement.name === 'q'")
    assert not live.complaints()


def test_what_others_do_is_seen_and_nothing_else_moves(desk: ClinicProcess, live: Page) -> None:
    day, office = today(desk), some()
    number = booked(desk, office_number=office)
    for view in ("grid", "list"):
        live.go(f"{desk.url}/day/{day}?view={view}")
        live.until(LIVE)
        live.focus(f"#a{number} a")
        live.evaluate(f"document.querySelector('#a{number}').marked = 1")
        name = f"Пётр {some()}"
        hour = "12" if view == "grid" else "14"
        other = booked(
            desk, office_number=office, patient_name=name, date_time=f"{day}T{hour}:00:00"
        )
        live.until(f"document.querySelector('#a{other}') !== null", SOON_SECONDS)
        desk.http.patch(f"/appointment/{other}", json={"status": "arrived"})
        live.until(
            f"document.querySelector('#a{other}').classList.contains('arrived')", SOON_SECONDS
        )
        # The very same element has the focus as before.
        assert live.evaluate(f"document.activeElement.closest('#a{number}').marked") == 1
        desk.http.patch(f"/appointment/{other}", json={"date_time": f"{day}T{hour}:30:00"})
        live.until(
            f"document.querySelector('#a{other}').innerText.includes('{hour}:30')", SOON_SECONDS
        )
        desk.http.patch(f"/appointment/{other}", json={"date_time": f"2031-01-01T{hour}:00:00"})
        live.until(f"document.querySelector('#a{other}') === null", SOON_SECONDS)
    # Another office, which has no column yet.
    new = booked(desk)
    live.go(f"{desk.url}/day/{day}")
    live.until(LIVE)
    new = booked(desk)
    live.until(f"document.querySelector('#a{new}') !== null", SOON_SECONDS)
    assert not live.complaints()


def test_a_form_says_what_conflicts_as_it_is_filled_in(desk: ClinicProcess, live: Page) -> None:
    office, name, day = some(), f"Ольга {some()}", today(desk)
    booked(desk, office_number=office, patient_name=name, patient_phone="+7 916 777-11-22")
    live.go(f"{desk.url}/new?t={day}T10:20")
    live.fill("#patient_name", name)
    live.until("document.querySelector('#patients option') !== null")
    live.until("document.querySelector('#patient_phone').value === '+7 916 777-11-22'")
    live.fill("#office_number", office)
    live.sees("That time is taken")
    live.until("document.querySelector('#reason') !== null")
    # Nothing that was typed is lost, and nothing was booked.
    assert live.evaluate("document.querySelector('#patient_name').value") == name
    live.fill("#office_number", some())
    live.until("document.querySelector('.notice') === null")
    assert len(desk.http.get("/appointment", params={"patient": name}).json()) == 1
    assert not live.complaints()


def test_a_lost_connection_is_said_and_mended(tmp_path: Path, live: Page) -> None:
    with running(tmp_path) as first:
        day = today(first)
        number = booked(first)
        live.go(f"{first.url}/day/{day}")
        live.until(LIVE)
        port = first.port
        assert first.stop() == 0
    live.until("document.querySelector('#as-of').classList.contains('lost')", SOON_SECONDS)
    assert live.evaluate("/\\d\\d:\\d\\d/.test(document.querySelector('#as-of').innerText)")
    with running(tmp_path, port=port) as second:
        second.http.patch(f"/appointment/{number}", json={"status": "arrived"})
        live.until(
            f"document.querySelector('#a{number}').classList.contains('arrived')", 3 * SOON_SECONDS
        )
        live.until(LIVE)


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ClinicProcess, int]]:
    """A clinic with one appointment of each status, and one of them."""
    with running(tmp_path_factory.mktemp("little"), CLINIC_HOURS="00:00-24:00") as process:
        ways: dict[str, list[str]] = {"arrived": [], "in_room": ["arrived"], "done": ["arrived"]}
        for hour, wanted in enumerate((*ways, "no_show", "cancelled", "booked")):
            time = f"{today(process)}T{hour:02}:00:00"
            number = booked(process, office_number="101", doctor_name="Dr Watson", date_time=time)
            for one in (*ways.get(wanted, ()), wanted):
                process.http.patch(f"/appointment/{number}", json={"status": one})
        yield process, number


VIEWS = ("/", "/?view=list&all=1", "/?by=doctor&all=1", "/new", "/find?q=иван", "card", "taken")


class Look(NamedTuple):
    width: int
    height: int
    dark: bool
    language: str


LOOKS = [
    Look(1440, 900, False, "en"),
    Look(1440, 900, True, "ru"),
    Look(390, 844, True, "en"),
    # A monitor of 1280 at 400 % (WCAG 1.4.10).
    Look(320, 256, False, "ru"),
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_has_a_barrier(
    little: tuple[ClinicProcess, int], browser: Browser, look: Look
) -> None:
    """By axe-core, and nothing has to be scrolled sideways."""
    if not AXE.exists() and not os.environ.get("CI"):
        pytest.skip("no axe-core here: scripts/install-browser")
    desk, number = little
    page = browser.page(look.width, look.height, dark=look.dark, language=look.language)
    for view in VIEWS:
        path = {"card": f"/card/{number}", "taken": f"/new?again={number}"}.get(view, view)
        page.go(desk.url + path)
        if view == "taken":
            page.fill("#patient_name", "Анна")
            page.fill("#time", "01:00")
            page.click("#save")
            page.until("document.querySelector('#said') !== null")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        page.evaluate(AXE.read_text() + "; 0")
        found = page.evaluate(
            f"""axe.run({{runOnly: {json.dumps(RULES)}}}).then((r) => r.violations.map(
            (v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200) + n.failureSummary)]
            ))"""
        )
        assert not found, (view, json.dumps(found, ensure_ascii=False, indent=1))
    assert not page.complaints()
    page.close()
