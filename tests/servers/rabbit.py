"""A private RabbitMQ node."""

import contextlib
import itertools
import os
import re
import secrets
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from tests.servers.guardian import STOP_SECONDS, Guarded, ServerFailed, wait_until
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.server import NEWER, ON_NEWER, Server, ServerMissing, run

# The one that docker-compose.yml gives its RabbitMQ: tests run as users do.
ADVANCED_CONFIG = Path(__file__).parents[2] / "rabbitmq" / "advanced.config"

_numbers = itertools.count(1)


class Rabbit(Server):
    """A private RabbitMQ node on ports of 127.0.0.1, with an Erlang port mapper of its own.

    With `beside` it joins the cluster of another one, which must be running, and uses its mapper.

    Log in as guest, guest. With `tls` it listens for AMQP over TLS too, under a certificate for
    localhost and 127.0.0.1 from an authority of its own. A vhost per test isolates tests.

    With `hurried` its threads wait for work awake for a moment, and it starts in half the time;
    RabbitMQ's default, which is not to, leaves more of the processors to everybody else. `newer` is
    one of scripts/install-newer-servers.
    """

    def __init__(
        self,
        *,
        tls: bool = False,
        hurried: bool = True,
        beside: "Rabbit | None" = None,
        newer: bool = ON_NEWER,
    ) -> None:
        super().__init__(tls=tls)
        self._newer = newer
        self._beside = beside
        self._hurried = hurried
        self.node = f"clinic-{os.getpid()}-{next(_numbers)}@localhost"
        self.port = self.tls_port = 0
        self._port_mapper: Guarded | None = None
        self._port_mapper_port = self._distribution_port = 0
        self._cookie: str = beside._cookie if beside else secrets.token_hex(16)

    @property
    def url(self) -> str:
        """The address of the vhost `/`."""
        return self.vhost_url("/")

    def vhost_url(self, name: str) -> str:
        """Return the address of a vhost, whether it is there or not."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/{quote(name, safe='')}"

    @property
    def tls_url(self) -> str:
        """The address of the vhost `/` by TLS, with the certificate verified."""
        cafile = quote(str(self.ca_file), safe="/")
        return f"amqps://guest:guest@localhost:{self.tls_port}/%2F?cafile={cafile}"

    def stop(self) -> None:
        """Stop the node in order."""
        if self._guarded and self.running:
            self._guarded.stop(signal.SIGTERM)

    def close(self) -> None:
        """End the node and its port mapper at once and remove their directory."""
        try:
            if self._port_mapper:
                self._port_mapper.kill()
                self._port_mapper = None
        finally:
            super().close()

    def stop_app(self) -> None:
        """Stop RabbitMQ inside the Erlang VM: connections are closed, and refused from then on."""
        self.evaluate("rabbit:stop()")

    def start_app(self) -> None:
        """Start RabbitMQ again after `stop_app`, and wait until it is up."""
        self.evaluate("rabbit:start()")

    def close_all_connections(self, reason: str) -> None:
        """Close every client's connection with 320 CONNECTION_FORCED and the reason."""
        self.evaluate(
            f"[rabbit_networking:close_connection(P, {erlang_binary(reason)})"
            " || P <- rabbit_networking:connections()], ok"
        )

    @contextlib.contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Keep the memory alarm up, which blocks connections that publish."""
        alarm = "lists:keymember({resource_limit, memory, node()}, 1, rabbit_alarm:get_alarms())"

        def set_watermark(watermark: str, wanted: str) -> None:
            self.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({watermark})")
            wait_until(lambda: self.evaluate(alarm) == wanted, "memory alarm", STOP_SECONDS)

        before = self.evaluate("vm_memory_monitor:get_vm_memory_high_watermark()")
        try:
            set_watermark("0.00001", "true")
            yield
        finally:
            set_watermark(before, "false")

    @contextlib.contextmanager
    def disk_alarm(self) -> Iterator[None]:
        """Keep the disk alarm up, which blocks connections that publish."""
        alarm = "lists:keymember({resource_limit, disk, node()}, 1, rabbit_alarm:get_alarms())"

        def set_limit(limit: str, wanted: str) -> None:
            self.evaluate(f"rabbit_disk_monitor:set_disk_free_limit({limit})")
            wait_until(lambda: self.evaluate(alarm) == wanted, "disk alarm", STOP_SECONDS)

        before = self.evaluate("rabbit_disk_monitor:get_disk_free_limit()")
        try:
            set_limit("1000000000000000", "true")
            yield
        finally:
            set_limit(before, "false")

    def leader(self, queue: str) -> str:
        """Return the name of the node that leads a quorum queue of the vhost `/`."""
        name = f"rabbit_misc:r({erlang_binary('/')}, queue, {erlang_binary(queue)})"
        found = self.evaluate(
            f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), element(2, amqqueue:get_pid(Q))"
        )
        return found.strip("'")

    def create_vhost(self, name: str) -> str:
        """Create a vhost with all rights to guest, and return its address."""
        vhost, actor, all_of_it = map(erlang_binary, (name, "clinic", ".*"))
        rights = ", ".join([erlang_binary("guest"), vhost, *[all_of_it] * 3, actor])
        self.evaluate(
            f"ok = rabbit_vhost:add({vhost}, {actor}),"
            f" ok = rabbit_auth_backend_internal:set_permissions({rights})"
        )
        return self.vhost_url(name)

    def create_user(self, name: str, vhost: str, configure: str, write: str, read: str) -> str:
        """Give a user whose name is its password rights in a vhost, and return its address.

        The permissions are regular expressions: https://www.rabbitmq.com/docs/access-control
        """
        user, actor = map(erlang_binary, (name, "clinic"))
        rights = ", ".join(map(erlang_binary, (name, vhost, configure, write, read, "clinic")))
        self.evaluate(
            f"catch rabbit_auth_backend_internal:add_user({user}, {user}, {actor}),"
            f" ok = rabbit_auth_backend_internal:set_permissions({rights})"
        )
        return self.vhost_url(vhost).replace("guest:guest", f"{name}:{name}")

    def delete_vhost(self, name: str) -> None:
        """Delete a vhost with all its queues, if it is there."""
        vhost, actor = map(erlang_binary, (name, "clinic"))
        self.evaluate(
            f"case rabbit_vhost:exists({vhost}) of"
            f" true -> rabbit_vhost:delete({vhost}, {actor}); false -> ok end"
        )

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node and return what it printed; takes about a second."""
        command = [f"{self._binaries}/rabbitmqctl", "-n", self.node, *arguments]
        return run(command, self._environment, self.directory)

    def evaluate(self, expression: str) -> str:
        """Evaluate Erlang in the node and return the value as text; takes 20 ms.

        Raises ServerFailed with Erlang's exception. erl_call is a part of Erlang; unlike
        rabbitmqctl it does not boot a VM of its own.
        """
        where = ["-address", f"{LOOPBACK}:{self._distribution_port}", "-c", self._cookie, "-r"]
        command = ["erl_call", *where, "-e"]
        printed = ""
        for last in (False, False, False, False, True):
            try:
                printed = run(command, self._environment, self.directory, text=f"{expression}.\n")
                break
            except ServerFailed as error:
                # It calls itself by a random name, which one in some hundred times is that of one
                # that the node has not let go yet; nothing was evaluated then.
                if last or "failed to connect" not in str(error):
                    raise
        value = re.fullmatch(r"\{ok, (.*)\}\s*", printed, re.DOTALL)
        if value is None:
            raise ServerFailed(f"{expression}: {printed[-2000:]}")
        return value[1]

    def _create(self) -> Path:
        self._binaries = find_binaries(newer=self._newer)
        return self._make_directory("rabbit")

    def _settle(self) -> None:
        if self._port_mapper:
            self._port_mapper.kill()
        self.port, self.tls_port = free_port(), free_port()
        self._distribution_port = free_port()
        self._port_mapper_port = self._beside._port_mapper_port if self._beside else free_port()
        self._environment = self._make_environment()
        self._configure()
        if self._beside:
            return
        # Of our own: the machine's port mapper would outlive us, or end with somebody else's.
        where = ["-address", LOOPBACK, "-port", str(self._port_mapper_port)]
        command = ["epmd", *where, "-relaxed_command_check"]
        self._port_mapper = Guarded(command, self._environment, self.directory)
        self._port_mapper.wait_until(lambda: maps_ports(self._port_mapper_port), "start of epmd")

    def _launch(self) -> None:
        log = self.directory / "rabbit.log"
        start = log.stat().st_size if log.exists() else 0

        def ready() -> bool:
            # Its last line of a start, after the listeners are open. `rabbitmqctl await_startup`
            # says the same, but boots a second Erlang VM beside this one: a second more.
            with contextlib.suppress(OSError), log.open("rb") as lines:
                lines.seek(start)
                return b"Server startup complete" in lines.read()
            return False

        command = [f"{self._binaries}/rabbitmq-server"]
        self._guarded = Guarded(command, self._environment, self.directory)
        self._guarded.wait_until(ready, "start of RabbitMQ")

    def _configure(self) -> None:
        directory = self.directory
        cookie = directory / ".erlang.cookie"
        cookie.unlink(missing_ok=True)
        cookie.touch(mode=0o600)
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        lines = [f"listeners.tcp.1 = {LOOPBACK}:{self.port}"]
        if self._tls:
            lines += [
                f"listeners.ssl.1 = {LOOPBACK}:{self.tls_port}",
                f"ssl_options.cacertfile = {directory}/ca.pem",
                f"ssl_options.certfile = {directory}/server.pem",
                f"ssl_options.keyfile = {directory}/server.key",
                "ssl_options.verify = verify_none",
            ]
        if self._beside:
            # https://www.rabbitmq.com/docs/cluster-formation#peer-discovery-classic-config
            lines += ["cluster_formation.peer_discovery_backend = classic_config"]
            lines += [f"cluster_formation.classic_config.nodes.1 = {self._beside.node}"]
            lines += [f"cluster_formation.classic_config.nodes.2 = {self.node}"]
        (directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (directory / "enabled_plugins").write_text("[].\n")

    def _make_environment(self) -> dict[str, str]:
        """Name every file, or the node would read the system's in /etc/rabbitmq."""
        directory = self.directory
        loopback_only = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": path(newer=self._newer),
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._port_mapper_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            # Without any, each file operation of the Erlang VM puts threads to sleep: measured on 2
            # virtual cores, a start of 7.5 s instead of 3.5.
            "RABBITMQ_SCHEDULER_BUSY_WAIT_THRESHOLD": "short" if self._hurried else "none",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback_only,
            "RABBITMQ_CTL_ERL_ARGS": loopback_only,
            "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(directory / "conf.d" / "*.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(ADVANCED_CONFIG),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_PID_FILE": str(directory / "rabbit.pid"),
            "RABBITMQ_LOG_BASE": str(directory),
            "RABBITMQ_LOGS": str(directory / "rabbit.log"),
        }


def path(*, newer: bool) -> str:
    """Return where the programs of Erlang are found."""
    places = map(str, (NEWER / "usr/lib/erlang").glob("erts-*/bin")) if newer else []
    return os.pathsep.join([*places, os.environ.get("PATH", os.defpath)])


def find_binaries(*, newer: bool = False) -> Path:
    """Return the directory of RabbitMQ's own scripts, or raise ServerMissing.

    Not Debian's wrappers of the same names in /usr/sbin: as root those change to the account
    rabbitmq, and drop the environment that makes a node private.
    """
    if newer:
        if (NEWER / "unpacked-into").exists():
            return NEWER / "usr/lib/rabbitmq/bin"
        raise ServerMissing("no RabbitMQ 4 here: run scripts/install-newer-servers")
    candidates = [Path("/usr/lib/rabbitmq/bin")]
    if in_path := shutil.which("rabbitmq-server"):
        candidates.append(Path(in_path).resolve().parent)
    for directory in candidates:
        if (directory / "rabbitmq-env").exists() and shutil.which("epmd"):
            return directory
    raise ServerMissing("no RabbitMQ here: run scripts/install-servers")


def maps_ports(port: int) -> bool:
    """Say whether a port mapper answers at a port, and not somebody else who took it."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1) as client:
        client.sendall(b"\0\1n")  # NAMES_REQ of the Erlang distribution protocol
        return client.recv(4) == port.to_bytes(4, "big")
    return False


def erlang_binary(text: str) -> str:
    """Return an Erlang binary, immune to quotes."""
    return f"<<{','.join(map(str, text.encode()))}>>"
