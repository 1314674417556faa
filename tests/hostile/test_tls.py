"""The nginx of docs/security.md, as it stands there: TLS in front of a clinic with tokens."""

import contextlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import start_or_skip
from tests.hostile.proxies import Nginx
from tests.process.clinic import ROOT, ClinicProcess, running
from tests.process.test_start import run
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.server import issue_certificate
from tests.timing import PATIENCE_SECONDS

pytestmark = pytest.mark.hostile

(DESCRIBED,) = re.findall(
    r"```nginx\n(.*?)```", (ROOT / "docs" / "security.md").read_text(), re.DOTALL
)
AROUND = """
daemon off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {described}
}}
"""


class Described(Nginx):
    """The nginx of the document, with names, ports and files of the test's own."""

    def _settle(self) -> None:
        self.ports = {"kept": free_port(), "tls": free_port()}
        issue_certificate(self.directory)
        (self.directory / "server.key").chmod(0o644)  # nginx may run as another user
        described = DESCRIBED
        for told, own in {
            "listen 80;": f"listen {LOOPBACK}:{self.ports['kept']};",
            "listen 443 ssl;": f"listen {LOOPBACK}:{self.ports['tls']} ssl;",
            "server_name clinic.example;": "server_name localhost;",
            "/etc/ssl/clinic.pem": "server.pem",
            "/etc/ssl/clinic.key": "server.key",
            "/var/log/nginx/clinic.log": "clinic.log",
            "http://127.0.0.1:8000": f"http://{LOOPBACK}:{self._clinics[0]}",
        }.items():
            assert told in described, told
            described = described.replace(told, own)
        (self.directory / "nginx.conf").write_text(AROUND.format(described=described))


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClinicProcess]:
    folder = tmp_path_factory.mktemp("clinic")
    secret = run(folder, "token", "make", "desk", "--permission", "desk").stdout.strip()
    with running(folder, CLINIC_HOSTS="localhost") as process:
        process.http.headers["Authorization"] = f"Bearer {secret}"
        yield process


@pytest.fixture(scope="module")
def nginx(clinic: ClinicProcess) -> Iterator[Described]:
    proxy = Described(clinic.port)
    start_or_skip(proxy)
    with contextlib.closing(proxy):
        yield proxy


@pytest.fixture
def client(clinic: ClinicProcess, nginx: Described) -> Iterator[httpx.Client]:
    trusted = ssl.create_default_context(cafile=nginx.directory / "ca.pem")
    with httpx.Client(
        base_url=f"https://localhost:{nginx.ports['tls']}",
        headers={"Authorization": clinic.http.headers["Authorization"]},
        verify=trusted,
        timeout=PATIENCE_SECONDS,
    ) as client:
        yield client


def test_the_clinic_is_whole_behind_it(client: httpx.Client) -> None:
    body = {
        "patient_name": "Анна Ли",
        "office_number": "1",
        "date_time": "2027-12-01T15:30:00",
    }
    made = client.post("/appointment", json=body)
    assert made.status_code == 201
    assert made.headers["strict-transport-security"] == "max-age=31536000"
    assert client.get(made.headers["location"]).json()["patient_name"] == "Анна Ли"
    own = {"Origin": str(client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert client.post("/appointment", json=body, headers=own).status_code == 200
    other = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/appointment", json=body, headers=other).status_code == 403


def test_nobody_comes_in_without_a_token(client: httpx.Client) -> None:
    del client.headers["Authorization"]
    answer = client.get("/appointment")
    assert answer.status_code == 401
    assert answer.headers["strict-transport-security"]
    assert client.get("/health/live").status_code == 200


def test_whoever_comes_without_tls_is_sent_to_it(nginx: Described) -> None:
    url = f"http://{LOOPBACK}:{nginx.ports['kept']}"
    answer = httpx.get(f"{url}/appointment?limit=1", headers={"Host": "localhost"})
    assert answer.status_code == 301
    assert answer.headers["location"] == "https://localhost/appointment?limit=1"


def test_no_token_of_a_calendar_is_in_its_log(client: httpx.Client, nginx: Described) -> None:
    client.get("/appointment.ics?office_number=1&token=clinic_secret")
    log = Path(nginx.directory / "clinic.log").read_text()
    assert "GET /appointment.ics" in log
    assert "clinic_secret" not in log
