"""The front desk over HTTP, as a browser without a script sees it; on both databases."""

import datetime
import html
import json
import re
import uuid
from collections.abc import Iterator

import httpx
import pytest

from clinic.pages.assets import FOR_EVER
from clinic.pages.front import POLICY
from clinic.pages.table import PAGES
from tests.pages.conftest import Person, hidden
from tests.process.clinic import ClinicProcess, running

DAY = "2027-12-01"
# What somebody may type into every field, and no page may take for more than text.
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{'zq'*3}}"


def some() -> str:
    """Return a name that nobody else has."""
    return uuid.uuid4().hex[:10]


def a_form(**fields: str) -> dict[str, str]:
    return {
        "key": some(),
        "patient_name": f"Анна {some()}",
        "office_number": some(),
        "date": DAY,
        "time": "10:15",
        **fields,
    }


def booked(clinic: ClinicProcess, **fields: object) -> dict[str, object]:
    found = clinic.http.post(
        "/appointment",
        json={
            "patient_name": f"Иван {some()}",
            "office_number": some(),
            "date_time": f"{DAY}T10:15:00",
            **fields,
        },
    )
    assert found.status_code == 201, found.text
    record: dict[str, object] = found.json()
    return record


def errors(page: str) -> dict[str, str]:
    """Return what a form says is wrong, by its fields."""
    return dict(re.findall(r'class="error" id="(\w+)-error">([^<]*)<', page))


def value(page: str, name: str) -> str:
    """Return what stands in a field of a form."""
    found = re.search(rf'<input id="{name}"[^>]* value="([^"]*)"', page)
    assert found, page
    return html.unescape(found[1])


def test_a_page_says_what_a_browser_may_do_with_it(person: Person) -> None:
    for path in ("/", f"/day/{DAY}", f"/day/{DAY}?view=list", "/new", "/find", "/card/987654321"):
        answer = person.http.get(path)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?! src)", answer.text)
        loaded = re.findall(r'(?:src|href|action)="([^"]*)"', answer.text)
        assert all(one.startswith(("/", "#")) and not one.startswith("//") for one in loaded), path
        assert person.http.head(path).status_code == answer.status_code


def test_what_pages_load_is_kept_for_ever_and_compressed(person: Person) -> None:
    page = person.sees("/")
    for name in set(re.findall(r'"(/static/[^"]*)"', page)):
        answer = person.http.get(name)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == FOR_EVER
        plain = person.http.get(name, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content
    assert person.http.get("/static/pages.000000000000.css").status_code == 404
    assert person.http.get("/static/../front.py").status_code == 404
    zipped = person.http.get("/new", headers={"Accept-Encoding": "gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    refused = person.http.get("/new", headers={"Accept-Encoding": "gzip;q=0, br"})
    assert "content-encoding" not in refused.headers


def test_pages_are_in_no_description_of_the_api(clinic: ClinicProcess) -> None:
    described = clinic.http.get("/openapi.json").json()["paths"].keys()
    assert not described & {page.path for page in PAGES}
    docs = clinic.http.get("/docs").text
    assert "/card/" not in docs


def test_what_is_refused_is_a_page(person: Person) -> None:
    for path in ("/card/987654321", "/day/2027-13-01", "/day/nonsense", "/card/x"):
        answer = person.http.get(path)
        assert answer.status_code == 404
        assert "There is no" in answer.text or "There is nothing" in answer.text
    answer = person.http.request("DELETE", f"/day/{DAY}")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert answer.headers["content-type"].startswith("text/html")
    answer = person.http.post("/new", content=b"{}", headers={"Content-Type": "application/json"})
    assert answer.status_code == 415
    answer = person.http.post(
        "/new",
        content=b"patient_name=%ff%fe",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code == 400


def test_no_other_site_can_send_a_form(clinic: ClinicProcess) -> None:
    form = a_form()
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        answer = httpx.post(f"{clinic.url}/new", data=form, headers=headers)
        assert answer.status_code == 403
    assert not clinic.http.get("/appointment", params={"patient": form["patient_name"]}).json()


def test_the_language_is_the_browsers_until_one_is_chosen(clinic: ClinicProcess) -> None:
    ours = Person(clinic.url, language="de, ru;q=0.8, en;q=0.5")
    assert '<html lang="ru">' in ours.sees("/")
    answer = ours.sends("/language", language="en", back="/find?q=abc")
    assert answer.url.path == "/find"
    assert '<html lang="en">' in answer.text
    assert '<html lang="en">' in ours.sees(f"/day/{DAY}")
    ours.close()


@pytest.mark.parametrize("back", ["//evil.example/", "https://evil.example", "/\\evil.example", ""])
def test_a_form_leads_nowhere_else(person: Person, back: str) -> None:
    answer = person.http.post(
        "/language", data={"language": "en", "back": back}, follow_redirects=False
    )
    assert answer.headers["location"] == "/"


def test_booking_leads_to_the_day_and_is_done_once(person: Person, clinic: ClinicProcess) -> None:
    form = a_form(patient_phone="+7 916 000-11-22", note="аллергия", duration_minutes="25")
    answer = person.sends("/new", **form)
    assert answer.status_code == 200
    assert answer.url.path == f"/day/{DAY}"
    assert form["patient_name"] in answer.text
    found = clinic.http.get("/appointment", params={"patient_name": form["patient_name"]}).json()
    assert [one["duration_minutes"] for one in found] == [25]
    # The same form sent twice, and the same appointment from another form.
    assert person.sends("/new", **form).url.path == f"/day/{DAY}"
    answer = person.sends("/new", **form | {"key": some()})
    assert "stood in the book already" in answer.text
    again = clinic.http.get("/appointment", params={"patient_name": form["patient_name"]}).json()
    assert again == found
    # With something else in it, it is another booking.
    answer = person.sends("/new", **form | {"patient_name": f"Пётр {some()}"})
    assert answer.status_code == 422
    assert "used before" in answer.text
    assert hidden(answer.text, "key") != form["key"]


def test_what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost(person: Person) -> None:
    form = a_form(patient_name="", duration_minutes="an hour", date="", time="", note="x" * 600)
    answer = person.sends("/new", **form)
    assert answer.status_code == 422
    assert errors(answer.text) == {
        "patient_name": "is required",
        "date_time": "is required",
        "duration_minutes": "must be a whole number",
        "note": "must have at most 500 characters",
    }
    assert value(answer.text, "office_number") == form["office_number"]
    assert value(answer.text, "duration_minutes") == "an hour"
    assert value(answer.text, "note") == form["note"]


def test_a_taken_time_names_the_conflict_and_is_answered_by_one_button(
    person: Person, clinic: ClinicProcess
) -> None:
    there = booked(clinic)
    form = a_form(office_number=str(there["office_number"]), time="10:20")
    answer = person.sends("/new", **form)
    assert answer.status_code == 409
    assert str(there["patient_name"]) in answer.text
    assert value(answer.text, "patient_name") == form["patient_name"]
    offers = [html.unescape(one) for one in re.findall(r'name="take" value="([^"]*)"', answer.text)]
    assert json.loads(offers[0]) == [f"{DAY}T10:30:00"]
    answer = person.sends("/new", **form, take=offers[0])
    assert answer.url.path == f"/day/{DAY}"
    found = clinic.http.get("/appointment", params={"patient_name": form["patient_name"]}).json()
    assert [one["date_time"] for one in found] == [f"{DAY}T10:30:00"]


def test_a_taken_time_is_booked_for_a_reason(person: Person, clinic: ClinicProcess) -> None:
    there = booked(clinic)
    form = a_form(office_number=str(there["office_number"]), reason="острая боль")
    answer = person.sends("/new", **form)
    assert answer.status_code == 200
    assert "Overbooked" in answer.text
    found = clinic.http.get("/appointment", params={"patient_name": form["patient_name"]}).json()
    assert found[0]["override_reason"] == "острая боль"


def test_a_closed_time_says_why(person: Person, clinic: ClinicProcess) -> None:
    doctor = f"Dr {some()}"
    booked(clinic, doctor_name=doctor)
    closure = {
        "doctor_name": doctor,
        "begins": f"{DAY}T12:00:00",
        "ends": f"{DAY}T14:00:00",
        "reason": "конференция",
    }
    assert clinic.http.post("/closure", json=closure).status_code == 201
    answer = person.sends("/new", **a_form(doctor_name=doctor, time="12:30"))
    assert answer.status_code == 409
    assert "The doctor does not work: конференция" in answer.text
    shaded = person.sees(f"/day/{DAY}", by="doctor")
    assert "конференция" in shaded
    assert 'class="x h12 m0 H14 M0"' in shaded


def test_free_times_are_suggested(person: Person, clinic: ClinicProcess) -> None:
    there = booked(clinic, doctor_name=f"Dr {some()}")
    form = a_form(office_number=str(there["office_number"]), time="", suggest="1")
    answer = person.sends("/new", **form)
    assert answer.status_code == 200
    assert f"{DAY}T08:00:00" in html.unescape(answer.text)
    assert value(answer.text, "patient_name") == form["patient_name"]


def test_a_form_can_be_checked_before_it_is_sent(person: Person, clinic: ClinicProcess) -> None:
    there = booked(clinic, doctor_name=f"Dr {some()}")
    form = a_form(patient_name="", office_number=str(there["office_number"]), check="1")
    answer = person.sends("/new", **form)
    assert answer.status_code == 409
    assert "That time is taken" in answer.text
    assert 'name="take"' in answer.text
    # Its doctor is taken in any office; with a reason, or at another time, nothing conflicts.
    doctor = str(there["doctor_name"])
    other = str(booked(clinic)["office_number"])
    answer = person.sends("/new", **form | {"office_number": other, "doctor_name": doctor})
    assert answer.status_code == 409
    for free in (
        {"reason": "pain"},
        {"time": "11:00"},
        {"office_number": some()},
        {"date": "", "time": ""},
    ):
        answer = person.sends("/new", **form | free)
        assert answer.status_code == 200
        assert "That time is taken" not in answer.text
    # What is changed is no conflict for itself.
    page = person.sees(f"/card/{there['id']}", edit="1")
    version = hidden(page, "version")
    answer = person.sends(f"/card/{there['id']}", **form, version=version)
    assert answer.status_code == 200
    offices = {one["name"] for one in clinic.http.get("/office").json()}
    new = a_form(check="1")
    person.sends("/new", **new)
    assert new["office_number"] not in offices | {
        one["name"] for one in clinic.http.get("/office").json()
    }


def test_a_free_cell_starts_a_booking_there(person: Person, clinic: ClinicProcess) -> None:
    there = booked(clinic)
    page = person.sees(f"/day/{DAY}")
    column = next(one for one in page.split("<section") if f">{there['office_number']}<" in one)
    taken = re.findall(r'href="/new\?[^"]*T10:15"', column)
    assert not taken
    link = re.search(r'href="(/new\?[^"]*T10:30)"', column)
    assert link
    form = person.sees(html.unescape(link[1]))
    assert value(form, "office_number") == there["office_number"]
    assert [value(form, "date"), value(form, "time")] == [DAY, "10:30"]


def today(person: Person) -> str:
    """Return the day that a clinic has today, where a patient can arrive."""
    found = re.search(r'data-day="([^"]*)"', person.sees("/"))
    assert found
    return found[1]


def steps(page: str, number: object) -> list[str]:
    return re.findall(rf'name="step" value="({number}:[^"]*)"', page)


def test_one_button_brings_a_patient_on_and_another_back(
    person: Person, clinic: ClinicProcess
) -> None:
    day = today(person)
    there = booked(clinic, date_time=f"{day}T10:15:00")
    number, back = there["id"], f"/day/{day}?view=list"
    for status, version in (("arrived", 1), ("in_room", 2), ("done", 3)):
        page = person.sees(back)
        assert steps(page, number)[0] == f"{number}:{version}:{status}"
        answer = person.sends("/step", step=f"{number}:{version}:{status}", back=back)
        assert answer.url.path == f"/day/{day}"
        assert clinic.http.get(f"/appointment/{number}").json()["status"] == status
    # A second click on the same button is no surprise.
    again = person.sends("/step", step=f"{number}:3:done", back=back)
    assert again.status_code == 200
    undo = steps(answer.text, number)
    assert undo == [f"{number}:4:in_room"]
    person.sends("/step", step=undo[0], back=back)
    assert clinic.http.get(f"/appointment/{number}").json()["status"] == "in_room"


def test_a_stale_screen_changes_nothing_and_says_what_happened(
    person: Person, clinic: ClinicProcess
) -> None:
    there = booked(clinic)
    number = there["id"]
    clinic.http.patch(f"/appointment/{number}", json={"status": "cancelled"})
    answer = person.sends("/step", step=f"{number}:1:arrived", back=f"/day/{DAY}")
    assert answer.status_code == 412
    assert "Somebody else was quicker" in answer.text
    assert "<b>Cancelled</b>" in answer.text
    assert f'href="/day/{DAY}"' in answer.text
    answer = person.sends("/step", step=f"{number}:2:done", back="javascript:alert(1)")
    assert answer.status_code == 409
    assert "javascript" not in answer.text
    answer = person.sends(f"/card/{number}", **a_form(), version="1")
    assert answer.status_code == 412
    assert clinic.http.get(f"/appointment/{number}").json()["status"] == "cancelled"
    # Restored only if its time is free; the page leads on to the appointment.
    booked(clinic, office_number=there["office_number"])
    answer = person.sends("/step", step=f"{number}:2:booked", back=f"/day/{DAY}")
    assert answer.status_code == 409
    assert f'href="/card/{number}"' in answer.text
    for nonsense in ("", "1", "x:1:done", f"{number}:2:gone", f"{number}:2:done:1"):
        assert person.sends("/step", step=nonsense).status_code == 404


def test_moving_by_a_free_cell(person: Person, clinic: ClinicProcess) -> None:
    there = booked(clinic, doctor_name=f"Dr {some()}")
    other = booked(clinic)
    number = there["id"]
    assert f"/day/{DAY}?move={number}" in person.sees(f"/card/{number}")
    page = person.sees(f"/day/{DAY}", move=str(number))
    assert "Choose a free time for" in page
    column = next(one for one in page.split("<section") if f">{other['office_number']}<" in one)
    to = re.findall(r'name="to" value="(o[^"]*T11:00)"', column)
    answer = person.sends(f"/card/{number}/move", to=to[0], version="1", back="/")
    assert answer.status_code == 200
    assert "Moved" in answer.text
    now = clinic.http.get(f"/appointment/{number}").json()
    assert now["date_time"] == f"{DAY}T11:00:00"
    assert now["office_number"] == other["office_number"]
    assert now["doctor_name"] == there["doctor_name"]
    # Where it is taken, the form says so and keeps the rest.
    taken = to[0].replace("T11:00", "T10:15")
    version = hidden(person.sees(f"/day/{DAY}", move=str(number)), "version")
    answer = person.sends(f"/card/{number}/move", to=taken, version=version)
    assert answer.status_code == 409
    assert "That time is taken" in answer.text
    assert value(answer.text, "time") == "10:15"


def test_changing_sends_what_is_different_only(person: Person, clinic: ClinicProcess) -> None:
    there = booked(clinic, note="впервые", patient_phone="+7 916 1")
    number = there["id"]
    page = person.sees(f"/card/{number}", edit="1")
    names = ("patient_name", "patient_phone", "office_number", "doctor_name", "date", "time")
    form = {name: value(page, name) for name in (*names, "duration_minutes", "note")}
    form |= {"version": hidden(page, "version"), "note": "", "patient_phone": "+7 916 2"}
    answer = person.sends(f"/card/{number}", **form)
    assert answer.status_code == 200
    assert "Changed" in answer.text
    now = clinic.http.get(f"/appointment/{number}").json()
    assert [now["note"], now["patient_phone"]] == [None, "+7 916 2"]
    kinds = [one["type"] for one in clinic.http.get(f"/appointment/{number}/events").json()]
    assert kinds == ["appointment.booked", "appointment.annotated"]
    history = person.sees(f"/card/{number}")
    assert history.index("Phone or note changed") < history.index("<b>Booked</b>")
    answer = person.sends(f"/card/{number}", **form | {"version": "2", "patient_name": ""})
    assert answer.status_code == 422
    assert errors(answer.text) == {"patient_name": "must not be empty"}


def test_a_patient_is_found_and_booked_again(person: Person, clinic: ClinicProcess) -> None:
    name, phone = f"Ёлкина{some()} Мария", f"{uuid.uuid4().int % 10**7:07}"
    office = some()
    for time in ("2020-03-01T09:00:00", "2021-03-01T09:00:00", f"{DAY}T09:00:00"):
        booked(
            clinic,
            patient_name=name,
            patient_phone=f"+7 916 {phone}",
            date_time=time,
            office_number=office,
        )
    for asked in (name.lower()[:12].replace("ё", "е"), phone[-7:], f"мар {name[:11]}"):
        page = person.sees("/find", q=asked)
        assert page.count(f">{name}</a>") == 3
        # The last one first, of those that are past.
        assert page.index("1 Mar 2021") < page.index("1 Mar 2020")
    again = re.search(r'class="button primary" href="(/new\?again=\d+)"', page)
    assert again
    form = person.sees(again[1])
    assert value(form, "patient_name") == name
    assert value(form, "office_number") == office
    assert value(form, "time") == ""
    assert "Nobody was found" in person.sees("/find", q=f"nobody {some()}")
    assert "Beginnings of the name" in person.sees("/find", q=" ")
    assert "must be one line" in person.sees("/find", q="a\x07b")


def test_nothing_that_is_typed_is_more_than_text(person: Person, clinic: ClinicProcess) -> None:
    evil = {name: f"{EVIL}{some()}"[-50:] for name in ("office_number", "patient_phone")}
    evil |= {name: f"{EVIL}{some()}" for name in ("patient_name", "doctor_name", "note")}
    there = booked(clinic, **evil, override=True, reason=EVIL)
    form = a_form(**evil, reason=EVIL, appointment_type=EVIL)
    pages = [
        person.sees(f"/day/{DAY}"),
        person.sees(f"/day/{DAY}", view="list"),
        person.sees(f"/day/{DAY}", by="doctor", all="1"),
        person.sees(f"/day/{DAY}", move=str(there["id"])),
        person.sees(f"/card/{there['id']}"),
        person.sees(f"/card/{there['id']}", edit="1"),
        person.sees("/new", again=str(there["id"])),
        person.sees("/find", q=EVIL),
        person.sees("/find", q=evil["patient_name"]),
        person.sends("/new", **form).text,
        person.sends("/new", **form | {"appointment_type": "", "reason": ""}).text,
        person.sends("/new", **form | {"date": EVIL, "time": EVIL}).text,
        person.sends("/step", step=EVIL, back=EVIL).text,
        person.sees("/", view=EVIL, by=EVIL, done=EVIL, was=EVIL, move=EVIL, only=EVIL),
    ]
    for page in pages:
        assert "<script>" not in page
        assert "<img src=x" not in page
        assert "zqzqzq" not in page


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClinicProcess]:
    with running(tmp_path_factory.mktemp("below"), CLINIC_ROOT_PATH="/a/desk") as process:
        yield process


def test_behind_a_proxy_all_leads_back_there(below: ClinicProcess) -> None:
    ours = Person(below.url)
    answer = ours.sends("/a/desk/new", **a_form())
    assert answer.url.path == f"/a/desk/day/{DAY}"
    pages = [answer.text, ours.sees("/a/desk/"), ours.sees("/a/desk/find", q="анна")]
    pages.append(ours.sees("/"))
    card = re.search(r'href="(/a/desk/card/\d+)"', answer.text)
    assert card
    pages += [ours.sees(card[1]), ours.sees(card[1], edit="1")]
    for page in pages:
        for link in re.findall(r'(?:src|href|action|data-news)="(/[^"]*)"', page):
            assert link.startswith("/a/desk/"), link
        for link in set(re.findall(r'(?:src|href)="(/a/desk/static[^"]*)"', page)):
            assert ours.http.get(link).status_code == 200
    answer = ours.sends("/a/desk/language", language="ru", back="/find")
    assert answer.url.path == "/a/desk/find"
    assert '<html lang="ru">' in answer.text
    ours.close()


def test_days_lead_to_days(person: Person) -> None:
    page = person.sees(f"/day/{DAY}", view="list")
    assert 'href="/day/2027-11-30?view=list"' in page
    assert 'href="/day/2027-12-02?view=list"' in page
    answer = person.http.get("/day", params={"date": "2028-02-29", "view": "list"})
    assert answer.url.path == "/day/2028-02-29"
    assert "view=list" in str(answer.url)
    for first, last in (("1900-01-01", "2199-12-31"),):
        assert person.sees(f"/day/{first}")
        assert person.sees(f"/day/{last}")
    assert datetime.date.fromisoformat(today(person))
