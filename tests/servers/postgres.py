"""A private PostgreSQL."""

import contextlib
import os
import pwd
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from tests.servers.guardian import Guarded
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.server import NEWER, ON_NEWER, Server, ServerMissing, run


class Postgres(Server):
    """A private PostgreSQL on a port of 127.0.0.1, its data in a throw-away directory.

    Anyone on the machine may connect as the superuser `postgres`. With `tls` it offers TLS too,
    under a certificate for localhost and 127.0.0.1 from an authority of its own. `settings` are
    added to its configuration. `newer` is one of scripts/install-newer-servers. A database per test
    isolates tests.
    """

    def __init__(
        self,
        *,
        fsync: bool = True,
        tls: bool = False,
        settings: Mapping[str, str] | None = None,
        newer: bool = ON_NEWER,
    ) -> None:
        super().__init__(tls=tls)
        self._newer = newer
        self.port = 0
        self._user = account_to_run_as()
        self._settings = {
            "listen_addresses": LOOPBACK,
            "max_connections": "200",
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
            # Not the default, posix: after a SIGKILL that would leave files in /dev/shm.
            "dynamic_shared_memory_type": "mmap",
        }
        if tls:
            files = {"ssl_cert_file": "../server.pem", "ssl_key_file": "../server.key"}
            self._settings |= {"ssl": "on", **files}
        if newer:
            self._settings["jit"] = "off"  # its compiler was not unpacked
        self._settings |= settings or {}

    @property
    def url(self) -> str:
        """The address of the database `postgres`."""
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        """Return the address of a database, whether it is there or not."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/{quote(name, safe='')}"

    @property
    def tls_url(self) -> str:
        """The address of the database `postgres`, with the certificate verified in full."""
        query = f"sslmode=verify-full&sslrootcert={quote(str(self.ca_file), safe='/')}"
        return f"postgresql://postgres@localhost:{self.port}/postgres?{query}"

    def stop(self) -> None:
        """Stop it as `pg_ctl stop -m fast` does."""
        if self._guarded and self.running:
            self._guarded.stop(signal.SIGINT)

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database and return its address; copying a template saves its migrations."""
        self.execute(f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(template)}")
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, ending the connections to it."""
        self.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run SQL by psql and return the rows as bare text; raise ServerFailed on an error."""
        how = ["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement]
        where = ["-h", LOOPBACK, "-p", str(self.port), "-U", "postgres", "-d", database]
        command = [f"{self._binaries}/psql", *how, *where]
        return run(command, self._environment, self.directory).strip()

    def dump_schema(self, database: str) -> str:
        """Return what pg_dump says of a database's schema, without yoyo's own tables."""
        where = ["-h", LOOPBACK, "-p", str(self.port), "-U", "postgres", "-d", database]
        command = [f"{self._binaries}/pg_dump", "-s", "-T", "*yoyo*", *where]
        lines = run(command, self._environment, self.directory).splitlines()
        return "\n".join(line for line in lines if not line.startswith("\\"))

    def _create(self) -> Path:
        self._binaries = find_binaries(newer=self._newer)
        directory = self._make_directory("postgres", self._user)
        # Only what it needs: a PGPORT or PGOPTIONS of the developer's must not leak in.
        self._environment = {
            "PATH": os.defpath,
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
            "PGCONNECT_TIMEOUT": "10",
        }
        if self._user:
            for path in (directory, *directory.iterdir()):
                shutil.chown(path, self._user)
        how = ["-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        command = [f"{self._binaries}/initdb", "-D", "data", "-U", "postgres", *how]
        run(command, self._environment, directory, user=self._user)
        return directory

    def _settle(self) -> None:
        self.port = free_port()

    def _launch(self) -> None:
        settings = {**self._settings, "unix_socket_directories": str(self.directory)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        data = self.directory / "data"
        command = [f"{self._binaries}/postgres", "-D", "data", "-p", str(self.port), *options]
        self._guarded = guarded = Guarded(command, self._environment, self.directory, self._user)

        def ready() -> bool:
            # As pg_ctl does it: line 1 is the pid (a stale file has another), line 8 the state.
            with contextlib.suppress(OSError):
                lines = (data / "postmaster.pid").read_text().split("\n")
                return lines[0] == str(guarded.main) and lines[7:8] == ["ready   "]
            return False

        guarded.wait_until(ready, "start of PostgreSQL")


def find_binaries(*, newer: bool = False) -> Path:
    """Return the directory of the newest PostgreSQL's binaries, or raise ServerMissing."""
    place = NEWER if newer else Path("/")

    def version(directory: Path) -> int:
        return int(re.sub(r"\D", "", directory.parent.name) or 0)

    found = sorted((place / "usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    if not newer and (in_path := shutil.which("initdb")):
        found.append(Path(in_path).resolve().parent)
    for directory in found:
        if all((directory / name).exists() for name in ("initdb", "postgres", "psql")):
            return directory
    script = "scripts/install-newer-servers" if newer else "scripts/install-servers"
    raise ServerMissing(f"no PostgreSQL here: run {script}")


def account_to_run_as() -> str | None:
    """Name the account to run PostgreSQL, which refuses to run as root; None is our own."""
    if os.geteuid() != 0:
        return None
    accounts = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
