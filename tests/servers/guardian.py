"""Guard a command, so that neither it nor any descendant outlives the process that started it.

The guardian is this very file, run as a script (so it imports nothing of ours): a subreaper, whose
descendants are exactly the command's processes. It ends them, and removes their directory, as soon
as its owner is gone, however that one died.
"""

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

START_SECONDS = 60.0  # 20 times what a start takes on two idle cores: a loaded CI machine is slow
STOP_SECONDS = 30.0
POLL_SECONDS = 0.01
OWNER_POLL_SECONDS = 0.2  # how long a command may outlive its owner

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
IPC_RMID = 0  # linux/ipc.h


class ServerFailed(Exception):
    """A server, or a command to it, did not do as told; the message ends with what it printed."""


# The owner's side


class Guarded:
    """A command under a guardian: `main` is the pid of the command itself."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        user: str | None = None,
    ) -> None:
        """Start it in its directory, where a log of the command's name gets what it prints."""
        header = [str(os.getpid()), user or "", str(directory)]
        self._log = directory / f"{Path(command[0]).name}.log"
        with self._log.open("ab") as output:
            self._start = output.tell()
            self._guardian = subprocess.Popen(
                [sys.executable, "-ISB", __file__, *header, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,  # Ctrl-C is for the tests; they end the servers in order
            )
        assert self._guardian.stdout is not None
        with self._guardian.stdout as pipe:
            self.main = int(pipe.readline() or 0)

    @property
    def running(self) -> bool:
        return self._guardian.poll() is None

    @property
    def guardian(self) -> int:
        """The guardian's own pid."""
        return self._guardian.pid

    def pids(self) -> list[int]:
        return list(descendants(self.guardian))

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Wait for a start to succeed; if it does not, end it and raise ServerFailed."""
        try:
            wait_until(lambda: self._ended(what) or ready(), what, START_SECONDS)
        except ServerFailed as error:
            self.kill()
            printed = self._log.read_bytes()[self._start :].decode(errors="replace")
            raise ServerFailed(f"{error}: {printed[-2000:]}") from None

    def _ended(self, what: str) -> bool:
        if not self.running:
            raise ServerFailed(f"{what}: it ended")
        return False

    def freeze(self) -> None:
        """SIGSTOP all of it; again for those that were forked while we looked."""

        def frozen() -> bool:
            running = [pid for pid, state in descendants(self.guardian).items() if state != "T"]
            send(signal.SIGSTOP, running)
            return not running

        wait_until(frozen, "freeze", STOP_SECONDS)

    def thaw(self) -> None:
        """SIGCONT all of it."""
        send(signal.SIGCONT, self.pids())

    def stop(self, number: signal.Signals) -> None:
        """Signal the command and wait for its end; past the deadline kill it and complain."""
        self.thaw()
        send(number, [self.main])
        try:
            self._guardian.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(f"no stop within {STOP_SECONDS:.0f} s") from None

    def kill(self) -> None:
        """SIGKILL the command and all its descendants, and wait until there are none."""
        if self.running:
            self._guardian.send_signal(signal.SIGTERM)
            self._guardian.wait(STOP_SECONDS)


def wait_until(ready: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until it is ready; raise ServerFailed past the deadline."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ServerFailed(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


# Both sides


def descendants(root: int) -> dict[int, str]:
    """Return the living descendants of a process with their states, parents first."""
    children: dict[int, list[tuple[int, str]]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end as we look
            content = (process / "stat").read_bytes()
            # The name comes before, in parentheses, and may have spaces and parentheses itself.
            state, parent = content[content.rindex(b")") + 2 :].split()[:2]
            children.setdefault(int(parent), []).append((int(process.name), state.decode()))
    found: dict[int, str] = {}
    generation = children.get(root, [])
    while generation:
        found.update((pid, state) for pid, state in generation if state not in "ZX")
        generation = [child for pid, _ in generation for child in children.get(pid, [])]
    return found


def send(number: signal.Signals, pids: Sequence[int]) -> None:
    """Signal these processes, those of them that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def remove(directory: Path) -> None:
    """Remove a server's directory, and the System V segment that a killed PostgreSQL leaves."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        lines = (directory / "data" / "postmaster.pid").read_text().split("\n")
        ctypes.CDLL(None).shmctl(int(lines[6].split()[1]), IPC_RMID, None)
    shutil.rmtree(directory, ignore_errors=True)


# The guardian's side


def guard(owner: int, user: str, directory: Path, command: Sequence[str]) -> int:
    """Run the command until it ends, SIGTERM comes, or the owner is gone; return its exit code.

    The owner is watched by polling. PR_SET_PDEATHSIG would not do: it fires when the *thread* ends
    that started us, and tests start servers in threads.
    """
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    watched = {signal.SIGCHLD, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    main = os.fork()
    if main == 0:
        become(command, user, prctl)
    with contextlib.suppress(OSError):
        os.write(1, b"%d\n" % main)
    os.close(1)
    code: int | None = None
    while code is None and os.getppid() == owner:
        received = signal.sigtimedwait(watched, OWNER_POLL_SECONDS)
        if received is not None and received.si_signo == signal.SIGTERM:
            break
        code = reap(main)
    sweep()
    if os.getppid() != owner:
        remove(directory)
    return code or 0


def become(command: Sequence[str], user: str, prctl: Callable[..., int]) -> None:
    """Turn this fork of the guardian into the command. Does not return."""
    try:
        os.setsid()
        os.dup2(2, 1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if user:
            account = pwd.getpwnam(user)
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        # For the guardian's own death by SIGKILL. After setuid, which would clear it.
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        os.execvp(command[0], list(command))
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def reap(main: int) -> int | None:
    """Reap every dead child; return the exit code of `main` once it is among them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == main:
                code = os.waitstatus_to_exitcode(found[1])
    return code


def sweep() -> None:
    """Kill and reap until there is no descendant, not even a zombie.

    To PostgreSQL's next start, a zombie with the old postmaster's pid is a running server.
    """
    with contextlib.suppress(ChildProcessError):
        while True:
            send(signal.SIGKILL, list(descendants(os.getpid())))
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(POLL_SECONDS / 5)


if __name__ == "__main__":
    _owner, _user, _directory, *_command = sys.argv[1:]
    sys.exit(guard(int(_owner), _user, Path(_directory), _command))
