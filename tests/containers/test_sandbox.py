"""What the entry point meets in a container, built by hand around the real program.

A number for a user, a read-only root, one writable volume, the first process: bubblewrap makes it.
"""

import ast
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.containers.files import (
    FINAL,
    OURS,
    SERVICES,
    STAGES,
    arguments,
    health_checks,
    image_environment,
    only,
)
from tests.process.clinic import ROOT, until
from tests.servers import free_port
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

# A user that no /etc/passwd knows; not the image's own, because `--user` may name any.
UID = 12345


@dataclass(frozen=True)
class Image:
    """A root file system as bubblewrap's options, and the Python in it."""

    mounts: list[str]
    python: str


@pytest.fixture(scope="module", params=["machine", pytest.param("built", marks=pytest.mark.long)])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image as this machine can stand in for it, and the one that the Dockerfile builds."""
    if not (shutil.which("bwrap") and shutil.which("setpriv")):
        pytest.skip("needs bwrap and setpriv: apt-get install bubblewrap util-linux")
    trial = ["bwrap", "--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "true"]
    refusal = subprocess.run(trial, capture_output=True, text=True, check=False)
    if refusal.returncode:
        pytest.skip(f"this machine refuses namespaces: {refusal.stderr.strip()}")
    if request.param == "built":
        return Image(["--ro-bind", built(tmp_path_factory.mktemp("image")), "/"], "python")
    return Image(laid_out(tmp_path_factory.mktemp("app")), sys.executable)


def built(directory: Path) -> str:
    """Build the image and return where its root lies."""
    if os.geteuid() or not (shutil.which("buildah") and shutil.which("mmdebstrap")):
        pytest.skip("needs root, buildah and mmdebstrap: apt-get install buildah mmdebstrap")
    command = [str(Path(__file__).with_name("build-image")), str(directory)]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def laid_out(app: Path) -> list[str]:
    """Lay /app out as the Dockerfile does, over this machine's system and Python."""
    for copy in arguments(STAGES[1], "COPY"):
        source = ROOT / copy.split()[0]
        if source.is_dir():
            shutil.copytree(source, app / source.name, ignore=shutil.ignore_patterns("*.pyc"))
        else:
            shutil.copy(source, app)
    subprocess.run(["chmod", "-R", "a=rX,u+w", str(app)], check=True)
    (app / "clinic.db").symlink_to("/data/clinic.db")
    mounts = ["--ro-bind", "/usr", "/usr", "--dir", "/data", "--dir", "/tmp"]
    for path in map(Path, ("/bin", "/sbin", "/lib", "/lib64")):
        if path.is_symlink():
            mounts += ["--symlink", str(path.readlink()), str(path)]
        else:
            mounts += ["--ro-bind-try", str(path), str(path)]
    for place in ("/etc/ssl", sys.base_prefix, sys.prefix):
        for parent in list(Path(place).parents)[-2::-1]:  # or they are closed to others
            mounts += ["--perms", "0755", "--dir", str(parent)]
        mounts += ["--ro-bind-try", place, place]
    return [*mounts, "--ro-bind", str(app), "/app"]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """An empty directory that anyone may write to: the one writable volume."""
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(0o1777)
    return path


def contained(image: Image, volume: Path, *command: str, **environment: str) -> list[str]:
    """Return the command line that runs a command as a container's first process would run.

    Root really becomes the other user; anyone else does so inside a user namespace.
    """
    sandbox = ["bwrap", *image.mounts, "--bind", str(volume), "/data"]
    sandbox += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/", "--chdir", "/app"]
    sandbox += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1", "--clearenv"]
    variables = image_environment() | {"CLINIC_HOST": "127.0.0.1"}
    variables["PATH"] = variables["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
    for name, value in (variables | environment).items():
        sandbox += ["--setenv", name, value]
    if os.geteuid():
        return [*sandbox, "--unshare-user", "--uid", str(UID), "--gid", str(UID), *command]
    sandbox += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [*sandbox, "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *command]


def entry_point(image: Image) -> list[str]:
    python, *program = json.loads(only(FINAL, "ENTRYPOINT"))
    assert python == "python"
    return [image.python, *program]


@dataclass(frozen=True)
class Running:
    """A program in its container."""

    sandbox: subprocess.Popen[bytes]
    pid: int
    port: int
    log: Path

    def healthy(self, check: str) -> bool:
        """Run a health check as it is written, but against our port."""
        _, *options = health_checks()[check]
        options = [re.sub(r"\b800[01], timeout", f"{self.port}, timeout", one) for one in options]
        done = subprocess.run(
            [sys.executable, *options],
            env={"CLINIC_PORT": str(self.port), "http_proxy": "http://127.0.0.1:1"},
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return done.returncode == 0

    def stop(self) -> int:
        """Stop it as an engine does: SIGTERM to the first process, from outside its namespace."""
        os.kill(self.pid, signal.SIGTERM)
        grace = float(SERVICES["api"]["environment"]["CLINIC_GRACE_SECONDS"])
        return self.sandbox.wait(grace + SLACK_SECONDS)


@contextlib.contextmanager
def running(image: Image, volume: Path, role: str) -> Iterator[Running]:
    port = free_port()
    told, tell = os.pipe()
    command = contained(image, volume, *entry_point(image), CLINIC_ROLE=role, CLINIC_PORT=str(port))
    command[1:1] = ["--info-fd", str(tell)]
    log = volume.with_name(f"{role}.log")
    with log.open("ab") as output:
        sandbox = subprocess.Popen(
            command, pass_fds=[tell], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    os.close(tell)
    with os.fdopen(told) as report:
        clinic = Running(sandbox, json.load(report)["child-pid"], port, log)
    try:
        assert not clinic.healthy("image")  # nothing listens yet
        until(lambda: clinic.healthy("api") or sandbox.poll() is not None)
        assert sandbox.poll() is None, log.read_text()
        yield clinic
    finally:
        if sandbox.poll() is None:
            os.kill(clinic.pid, signal.SIGKILL)
            sandbox.wait()


CONFINEMENT = """
import errno, os, pwd
def refused(path):
    try:
        open(path, "w")
    except OSError as error:
        return errno.errorcode[error.errno]
try:
    user = pwd.getpwuid(os.getuid()).pw_name
except KeyError:
    user = None
print([os.getpid(), os.getuid(), user, refused("/data/file"), refused("/app/file"),
       refused("/tmp/file"), sorted(set(os.environ) & {"USER", "LOGNAME", "HOME"})])
"""


def test_the_container_made_by_hand_is_one(image: Image, volume: Path) -> None:
    command = contained(image, volume, image.python, "-c", CONFINEMENT)
    seen = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ast.literal_eval(seen.stdout) == [1, UID, None, None, "EROFS", "EROFS", []]


def test_an_appointment_outlives_its_container(image: Image, volume: Path) -> None:
    booking = {
        "patient_name": "Иван Иванов",
        "office_number": "221B",
        "date_time": "2025-12-01T15:30:00",
    }
    with running(image, volume, "all") as clinic:
        url = f"http://127.0.0.1:{clinic.port}/appointment"
        booked = httpx.post(url, json=booking)
        assert booked.status_code == 201
        assert clinic.healthy("image")
        assert clinic.stop() == 0, clinic.log.read_text()
    assert (volume / "clinic.db").is_file()
    with running(image, volume, "all") as clinic:
        listed = httpx.get(f"http://127.0.0.1:{clinic.port}/appointment").json()
        assert [appointment["id"] for appointment in listed] == [booked.json()["id"]]


@pytest.mark.parametrize("role", OURS)
def test_a_role_starts_and_exits_on_sigterm_within_its_grace(
    image: Image, volume: Path, role: str
) -> None:
    with running(image, volume, role) as clinic:
        assert clinic.healthy(role)
        assert clinic.stop() == 0, clinic.log.read_text()
