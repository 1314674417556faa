"""Private proxies in front of clinics, set up as people commonly do."""

import contextlib
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.servers.guardian import Guarded
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.postgres import account_to_run_as
from tests.servers.server import Server, ServerMissing

# How long a proxy keeps an idle connection to a clinic; the usual 60 s, for those who cannot wait.
IDLE_SECONDS = 2

NGINX = """
daemon off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    proxy_set_header Host $http_host;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        ''      close;
    }}
    upstream clinic {{
        {backends}
        keepalive 64;
        keepalive_timeout {idle};
    }}
    server {{  # as it comes: HTTP/1.0, a connection for each request
        listen {host}:{ports[plain]};
        location / {{
            proxy_pass http://clinic;
        }}
        location /stripped/ {{
            proxy_pass http://clinic/;
        }}
    }}
    server {{
        listen {host}:{ports[kept]};
        location / {{
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_pass http://clinic;
        }}
    }}
    server {{  # the usual map for WebSocket, and nobody may cancel
        listen {host}:{ports[guarded]};
        location / {{
            limit_except GET POST PATCH {{
                deny all;
            }}
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_pass http://clinic;
        }}
    }}
}}
"""

HAPROXY = """
global
    maxconn 2000
    log stdout format raw daemon notice
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option redispatch
frontend plain
    bind {host}:{ports[plain]}
    http-request replace-path /stripped(/.*) \\1
    default_backend once
frontend kept
    bind {host}:{ports[kept]}
    default_backend clinic
frontend guarded  # nobody may cancel
    bind {host}:{ports[guarded]}
    http-request deny if METH_DELETE
    default_backend clinic
backend once
    option httpclose
    {backends}
backend clinic
    http-reuse always
    default-server pool-purge-delay {idle}s
    {backends}
"""


class Proxy(Server):
    """A proxy before one or more clinics, each given by its port.

    ``plain`` is a connection for each request, with the clinic below ``/stripped`` as well;
    ``kept`` keeps connections to the clinic, for whoever asks next; ``guarded`` lets nobody cancel.
    """

    NAME: str
    ARGUMENTS: Sequence[str]
    CONFIGURATION: str
    BACKEND: str

    def __init__(self, *clinics: int) -> None:
        super().__init__(tls=False)
        self._clinics = clinics
        self._user = account_to_run_as()
        self.ports: dict[str, int] = {}

    def url(self, way: str) -> str:
        """Return the address of one way through it."""
        return f"http://{LOOPBACK}:{self.ports[way]}"

    def connect(self, way: str) -> socket.socket:
        """Return a connection by one way."""
        return socket.create_connection((LOOPBACK, self.ports[way]), timeout=10)

    def stop(self) -> None:
        """Stop it at once."""
        if self._guarded and self.running:
            self._guarded.stop(signal.SIGTERM)

    def _create(self) -> Path:
        found = shutil.which(self.NAME, path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
        if found is None:
            raise ServerMissing(f"no {self.NAME} here: run scripts/test-hostile")
        self._binary = found
        directory = self._make_directory(self.NAME, self._user)
        self._environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "LC_ALL": "C.UTF-8"}
        if self._user:
            shutil.chown(directory, self._user)
        return directory

    def _settle(self) -> None:
        self.ports = {way: free_port() for way in ("plain", "kept", "guarded")}
        backends = [
            self.BACKEND.format(number=number, host=LOOPBACK, port=port)
            for number, port in enumerate(self._clinics)
        ]
        (self.directory / f"{self.NAME}.conf").write_text(
            self.CONFIGURATION.format(
                host=LOOPBACK,
                ports=self.ports,
                idle=IDLE_SECONDS,
                backends="\n    ".join(backends),
            )
        )

    def _launch(self) -> None:
        command = [self._binary, *self.ARGUMENTS]
        self._guarded = Guarded(command, self._environment, self.directory, self._user)

        def ready() -> bool:
            with contextlib.suppress(OSError):
                self.connect("kept").close()
                return True
            return False

        self._guarded.wait_until(ready, f"start of {self.NAME}")


class Nginx(Proxy):
    """An nginx that sends on what it is sent, Upgrade included."""

    NAME = "nginx"
    ARGUMENTS = ("-p", ".", "-c", "nginx.conf", "-e", "stderr")
    CONFIGURATION = NGINX
    BACKEND = "server {host}:{port} max_fails=0;"


class HAProxy(Proxy):
    """An HAProxy that uses a connection to the clinic for whoever asks."""

    NAME = "haproxy"
    ARGUMENTS = ("-f", "haproxy.conf", "-db")
    CONFIGURATION = HAPROXY
    BACKEND = "server clinic{number} {host}:{port}"
