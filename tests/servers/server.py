"""What every private server has: a life under a guardian, a directory, a certificate."""

import os
import pwd
import re
import stat
import subprocess
import sys
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import trustme

from tests.servers.guardian import START_SECONDS, Guarded, ServerFailed, remove
from tests.servers.ports import LOOPBACK

# What servers print that find their port taken; Erlang's port mapper ends without a word.
TAKEN = re.compile(
    "address already in use|eaddrinuse|dist_port_already_used|start of epmd: it ended",
    re.IGNORECASE,
)


# Where scripts/install-newer-servers unpacks what is newer than the system's.
NEWER = Path(__file__).parent / "newer"
# Whether all tests run on these: scripts/test-long --newer.
ON_NEWER = os.environ.get("TEST_SERVERS") == "newer"


class ServerMissing(Exception):
    """A server is not installed here; the message says what to do about it."""


class Server(ABC):
    """A private server: ports and data survive stop, restart and kill, not close."""

    def __init__(self, *, tls: bool) -> None:
        self._tls = tls
        self._directory: Path | None = None
        self._remove: Callable[[], object] | None = None
        self._guarded: Guarded | None = None
        self._environment: dict[str, str] = {}

    @abstractmethod
    def _create(self) -> Path:
        """Find the binaries, make the directory, and return it; called once."""

    @abstractmethod
    def _settle(self) -> None:
        """Choose free ports; called again if somebody took one in the meantime."""

    @abstractmethod
    def _launch(self) -> None:
        """Start the server on its ports and wait until it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it in order; what is stopped may be stopped again."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        """Its own directory: configuration, data and logs."""
        if self._directory is None:
            raise RuntimeError("not started")
        return self._directory

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority, with `tls` only."""
        if not self._tls:
            raise RuntimeError("no TLS was asked for: tls=True")
        return self.directory / "ca.pem"

    @property
    def running(self) -> bool:
        return self._guarded is not None and self._guarded.running

    @property
    def pids(self) -> list[int]:
        """The pids of its processes."""
        return self._guarded.pids() if self._guarded else []

    def start(self) -> None:
        """Start it and wait until it is ready; at the first time, create its data.

        Raises ServerMissing without the binaries, ServerFailed if it does not come up.
        """
        if self.running:
            raise RuntimeError("already started")
        if self._directory is not None:
            self._launch()
            return
        if sys.platform != "linux":
            raise ServerMissing("the tests' servers run on Linux only")
        try:
            self._directory = self._create()
            self._launch_anywhere()
        except BaseException:
            self.close()
            raise

    def restart(self) -> None:
        """Stop it in order and start it."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL all its processes."""
        if self._guarded:
            self._guarded.kill()

    def freeze(self) -> None:
        """SIGSTOP all its processes: connections stay open, and mute."""
        if self._guarded:
            self._guarded.freeze()

    def thaw(self) -> None:
        """SIGCONT what `freeze` stopped."""
        if self._guarded:
            self._guarded.thaw()

    def close(self) -> None:
        """End it at once and remove its directory."""
        try:
            self.kill()
        finally:
            if self._remove:
                self._remove()
            self._directory = self._guarded = self._remove = None

    def _launch_anywhere(self) -> None:
        for last in (False, False, True):
            try:
                self._settle()
                self._launch()
            except ServerFailed as error:
                if last or not TAKEN.search(str(error)):
                    raise
            else:
                return

    def _make_directory(self, kind: str, user: str | None = None) -> Path:
        """Make a private directory that `user` can reach, with certificates if TLS is asked for.

        The place for temporary files may be closed to other users, and a Unix socket's path may
        have 107 bytes: for both reasons it may have to be the system's instead of the session's.
        """
        for place in (Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")):
            way = (place, *place.parents)
            open_to_user = not user or all(path.stat().st_mode & stat.S_IXOTH for path in way)
            if open_to_user and len(str(place)) <= 50:
                prefix = f"clinic-{kind}-{os.getpid()}-"
                directory = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
                break
        else:
            raise ServerFailed(f"no temporary directory that the user {user} can reach")
        # The guardian removes it, too, but a server that is stopped or killed has none. At our exit
        # a finalizer runs by itself.
        self._remove = weakref.finalize(self, remove, directory)
        if self._tls:
            issue_certificate(directory)
        return directory


def issue_certificate(directory: Path) -> None:
    """Write a new authority's ca.pem, and server.pem and server.key for localhost and 127.0.0.1."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", LOOPBACK)
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    (directory / "server.pem").write_bytes(b"".join(b.bytes() for b in certificate.cert_chain_pems))
    key = directory / "server.key"
    key.touch(mode=0o600)
    key.write_bytes(certificate.private_key_pem.bytes())


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    user: str | None = None,
    text: str = "",
) -> str:
    """Run a command and return what it printed; raise ServerFailed if it fails or hangs.

    Anything but UTF-8 in the output is replaced: the Erlang tools warn in whatever bytes they have.
    """
    shown = " ".join(command)[:200]
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            check=False,
            env=environment,
            cwd=directory,
            timeout=START_SECONDS,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerFailed(f"{shown}: no end after {START_SECONDS:.0f} s") from error
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        printed = output + done.stderr.decode(errors="replace")
        raise ServerFailed(f"{shown}: exit {done.returncode}: {printed[:2000]}")
    return output
