"""The page of another site, in a real browser: nothing is booked, nothing is read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.browser import EVIL, Evil, Gullible, site, visit
from tests.process.clinic import ClinicProcess, running

pytestmark = pytest.mark.hostile

SECRET = "Тайный Пациент"
# The clinic is at 127.0.0.1: another site, the same site at another port, and a name of its own.
NAMES = ["localhost", "127.0.0.1", EVIL]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClinicProcess]:
    with running(tmp_path_factory.mktemp("clinic")) as process:
        yield process


# A browser that sends it reports these as done, whatever is answered.
BLIND = ("beacon, ", "form, ", "sandboxed, ", "frame")
# What reaches whoever does not defend himself, booked by the page's own fields.
HARMFUL = {
    *("no-cors, text", "no-cors, untyped", "no-cors, bytes", "no-cors, kept alive", "xhr"),
    *("no-cors, form", "no-cors, parts", "no-cors, by a redirect", "cors, text", "cors, json"),
    *("beacon, text", "beacon, untyped", "beacon, bytes", "beacon, json"),
    *("form, urlencoded", "form, multipart", "form, text", "sandboxed, text"),
}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_booked_and_nothing_is_read(
    clinic: ClinicProcess, tmp_path: Path, name: str
) -> None:
    victim = clinic.book(patient_name=SECRET, office_number=f"secret {name}").json()["id"]
    before = clinic.http.get("/appointment").json()
    with site(Evil, leads_to=clinic.port if name == EVIL else None) as evil:
        report, log = visit(tmp_path, evil, name, clinic.url, victim)
    assert clinic.http.get("/appointment").json() == before
    assert SECRET not in str(report)
    for attack, outcome in report.items():
        if attack.startswith("rebound, "):
            assert outcome.startswith("basic 421" if name == EVIL else "basic 404"), attack
        elif not attack.startswith(BLIND):
            assert outcome.startswith(("Error: ", "TypeError: ")), f"{attack}: {outcome}"
    assert log.count("frame-ancestors 'none'\". The request has been blocked.") >= 6  # and forms
    print(f"{len(report)} attacks from the page of {name}")


def test_who_does_not_defend_himself_is_harmed(tmp_path: Path) -> None:
    """The attacks are real ones: those of them that must not book do so elsewhere."""
    with site(Evil) as evil, site(Gullible) as gullible:
        report, _ = visit(tmp_path, evil, EVIL, f"http://127.0.0.1:{gullible.port}", 1)
    booked = {attack for attack in HARMFUL if any(attack in one for one in gullible.received)}
    assert booked == HARMFUL
    assert {"loaded"} == {report[one] for one in ("script", "frame", "object")}
    assert report["read"] == "cors 200 /* secret */"
    assert any(one.startswith("DELETE /appointment/1") for one in gullible.received)
