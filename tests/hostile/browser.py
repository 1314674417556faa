"""A real browser, the site of somebody evil, and a site that believes everything."""

import contextlib
import http.client
import json
import queue
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from tests.process.environment import clean_environment
from tests.servers.guardian import Guarded
from tests.servers.ports import LOOPBACK
from tests.servers.server import ServerMissing
from tests.timing import PATIENCE_SECONDS

PAGE = Path(__file__).with_name("page.html")
EVIL = "evil.example"


@dataclass
class Site:
    """A site that runs, and what it was sent."""

    port: int = 0
    leads_to: int | None = None
    """The port to which its name leads once its page is loaded, if somebody has it rebound."""
    reports: "queue.SimpleQueue[dict[str, str]]" = field(default_factory=queue.SimpleQueue)
    received: list[str] = field(default_factory=list)
    """Each request as a line: method, path and body, without its encoding."""


class Evil(BaseHTTPRequestHandler):
    """Serves the page; whatever else it is asked for, it passes on as it is."""

    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its name there
        pass

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_any(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        where = urlsplit(self.path)
        if where.path == "/page":
            self.answer(200, {"Content-Type": "text/html"}, PAGE.read_bytes())
        elif where.path == "/report":
            self.site.reports.put(json.loads(body))
            self.answer(204, {})
        elif where.path == "/redirect":
            self.answer(307, {"Location": parse_qs(where.query)["to"][0]})
        elif self.site.leads_to:
            self.pass_on(body)
        else:
            self.answer(404, {})

    def pass_on(self, body: bytes) -> None:
        port = self.site.leads_to
        clinic = http.client.HTTPConnection(LOOPBACK, port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(clinic):
            clinic.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "connection":
                    clinic.putheader(name, value)
            clinic.endheaders(body)
            response = clinic.getresponse()
            content = response.read()
        kept = {"content-length", "transfer-encoding", "connection", "date"}
        headers = {name: value for name, value in response.getheaders() if name.lower() not in kept}
        self.answer(response.status, headers, content)

    do_GET = do_POST = do_PATCH = do_DELETE = do_OPTIONS = do_any  # noqa: N815 - their names there


class Gullible(Evil):
    """Does whatever it is asked for, whoever asks."""

    def do_any(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = unquote_plus(self.rfile.read(size).decode(errors="replace"))
        # A form of text/plain cannot do without a sign of equality.
        self.site.received.append(f"{self.command} {self.path} {body.replace('=', '')}")
        headers = {
            "Access-Control-Allow-Origin": self.headers.get("Origin") or "*",
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Allow-Headers": "content-type",
            "Access-Control-Allow-Methods": "PATCH, DELETE",
            "Content-Type": "text/javascript" if self.path.startswith("/a") else "text/html",
        }
        self.answer(200, headers, b"/* secret */")

    do_GET = do_POST = do_PATCH = do_DELETE = do_OPTIONS = do_any  # noqa: N815 - their names there


@contextlib.contextmanager
def site(handler: type[Evil], leads_to: int | None = None) -> Iterator[Site]:
    """Run a site on a port of its own."""
    found = Site(leads_to=leads_to)
    made = type("Handler", (handler,), {"site": found})
    with ThreadingHTTPServer((LOOPBACK, 0), made) as server:
        server.daemon_threads = False
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def visit(
    folder: Path, evil: Site, name: str, target: str, victim: int
) -> tuple[dict[str, str], str]:
    """Have a browser open the page at one of its names; return the page's report, and the log."""
    binary = shutil.which("chromium")
    if binary is None:
        raise ServerMissing("no chromium here: run scripts/test-hostile")
    query = urlencode({"target": target, "victim": victim})
    browser = Guarded(
        [
            *(binary, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync"),
            *("--no-proxy-server", f"--user-data-dir={folder / 'profile'}"),
            *("--disable-component-update", "--enable-logging=stderr"),
            f"--host-resolver-rules=MAP {EVIL} {LOOPBACK}",
            f"http://{name}:{evil.port}/page?{query}",
        ],
        clean_environment({"HOME": str(folder)}),
        folder,
    )
    try:
        report = evil.reports.get(timeout=PATIENCE_SECONDS)
    finally:
        browser.kill()
    return report, (folder / "chromium.log").read_text(errors="replace")
