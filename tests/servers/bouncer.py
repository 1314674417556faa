"""A private PgBouncer in front of a PostgreSQL."""

import contextlib
import re
import shutil
import signal
import socket
from pathlib import Path
from typing import Literal

from tests.servers.guardian import Guarded
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.postgres import Postgres, account_to_run_as
from tests.servers.server import Server, ServerMissing, run

# From this version on it can carry prepared statements over in transaction mode.
CARRIES_PREPARED = (1, 21)

CONFIGURATION = """
[databases]
* = host={host} port={server_port} user=postgres
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 4
{more}
"""


class PgBouncer(Server):
    """A private PgBouncer with all its settings as they come but for the pool's mode and size."""

    def __init__(self, behind: Postgres, mode: Literal["session", "transaction"]) -> None:
        super().__init__(tls=False)
        self._behind = behind
        self._mode = mode
        self._user = account_to_run_as()
        self.port = 0

    @property
    def version(self) -> tuple[int, ...]:
        """Its version, such as (1, 21, 0)."""
        said = run([self._binary, "--version"], self._environment, Path("/"))
        found = re.search(r"PgBouncer ([0-9.]+)", said)
        return tuple(map(int, found[1].split("."))) if found else ()

    def database_url(self, name: str) -> str:
        """Return the address of a database of the server behind it."""
        return self._behind.database_url(name).replace(f":{self._behind.port}/", f":{self.port}/")

    def stop(self) -> None:
        """Stop it at once."""
        if self._guarded and self.running:
            self._guarded.stop(signal.SIGTERM)

    def _create(self) -> Path:
        self._binary = find_binary()
        directory = self._make_directory("pgbouncer", self._user)
        self._environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "LC_ALL": "C.UTF-8"}
        if self._user:
            shutil.chown(directory, self._user)
        return directory

    def _settle(self) -> None:
        self.port = free_port()
        more = ""
        if self._mode == "transaction" and self.version >= CARRIES_PREPARED:
            more = "max_prepared_statements = 200"
        (self.directory / "pgbouncer.ini").write_text(
            CONFIGURATION.format(
                host=LOOPBACK,
                server_port=self._behind.port,
                port=self.port,
                mode=self._mode,
                more=more,
            )
        )

    def _launch(self) -> None:
        command = [self._binary, "pgbouncer.ini"]
        self._guarded = Guarded(command, self._environment, self.directory, self._user)

        def ready() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection((LOOPBACK, self.port), timeout=1).close()
                return True
            return False

        self._guarded.wait_until(ready, "start of PgBouncer")


def find_binary() -> str:
    """Return where PgBouncer is, or raise ServerMissing."""
    found = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
    if found is None:
        raise ServerMissing("no PgBouncer here: run scripts/install-servers")
    return found
