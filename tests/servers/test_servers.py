"""The servers and the network do as told, and nothing of them stays."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from unittest.mock import AsyncMock, Mock, call

import aiormq
import psycopg
import pytest
from pamqp.commands import Basic

from tests.process.clinic import ROOT, until
from tests.servers import FaultyProxy, Postgres, Rabbit, ServerFailed, ServerMissing, free_port
from tests.servers import postgres as postgres_module
from tests.servers.ports import LOOPBACK
from tests.servers.proxy import Direction, Policy, write
from tests.timing import PATIENCE_SECONDS

needs_postgres = pytest.mark.usefixtures("postgres")
needs_rabbit = pytest.mark.usefixtures("rabbit")


def directories(owner: int | None = None) -> set[Path]:
    """The servers' directories of a process; of this one by default."""
    return set(Path(tempfile.gettempdir()).glob(f"clinic-*-{owner or os.getpid()}-*"))


def segments() -> set[str]:
    """The ids of the System V shared memory segments on this machine."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


def segment(server: Postgres) -> str:
    return (server.directory / "data" / "postmaster.pid").read_text().splitlines()[6].split()[1]


def alive(pids: list[int]) -> list[int]:
    def lives(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        return False

    return [pid for pid in pids if lives(pid)]


def listening(port: int) -> list[str]:
    """The addresses, in the kernel's hexadecimal, on which somebody listens at the port."""
    tables = [Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    ends = [row[1].split(":") for row in rows if row[3] == "0A"]
    return [address for address, its_port in ends if int(its_port, 16) == port]


# PostgreSQL


@needs_postgres
def test_postgres_answers_on_the_loopback_only_and_leaves_nothing() -> None:
    with Postgres() as server:
        assert listening(server.port) == ["0100007F"]
        assert server.execute("show fsync") == "on"
        pids, directory, left = server.pids, server.directory, segment(server)
        assert left in segments()
    assert not alive(pids)
    assert not directory.exists()
    assert left not in segments()
    assert not server.running


@needs_postgres
@pytest.mark.parametrize("end", ["stop", "kill", "frozen and stop"])
def test_postgres_keeps_port_and_data(end: str) -> None:
    with Postgres(fsync=False) as server:
        server.execute("create table t as select 1 as x")
        port, pids = server.port, server.pids
        with psycopg.connect(server.url) as connection:
            if "frozen" in end:
                server.freeze()
            server.stop() if "stop" in end else server.kill()
            assert not alive(pids)
            assert not server.running
            assert listening(port) == []
            server.start()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        assert server.port == port
        assert server.execute("select x from t") == "1"


def test_frozen_postgres_is_mute_until_it_thaws(postgres: Postgres) -> None:
    async def scenario() -> None:
        connection = await psycopg.AsyncConnection.connect(postgres.url)
        postgres.freeze()
        try:
            pending = asyncio.create_task(connection.execute("select 1"))
            await asyncio.sleep(0.3)
            assert not pending.done()
        finally:
            postgres.thaw()
        await asyncio.wait_for(pending, PATIENCE_SECONDS)
        await connection.close()

    asyncio.run(scenario())


def test_postgres_databases_come_as_copies_and_go(postgres: Postgres) -> None:
    postgres.create_database("pattern")
    postgres.execute("create table t as select 7 as x", "pattern")
    name = 'we"ird na/me-ü%'
    with psycopg.connect(postgres.create_database(name, "pattern")) as connection:
        assert connection.execute("select x from t").fetchone() == (7,)
        postgres.drop_database(name)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    postgres.drop_database(name)
    postgres.drop_database("pattern")
    with pytest.raises(ServerFailed, match="syntax error"):
        postgres.execute("selekt")


@needs_postgres
def test_postgres_tls() -> None:
    with Postgres(tls=True) as server, psycopg.connect(server.tls_url) as connection:
        query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        assert connection.execute(query).fetchone() == (True,)
    with pytest.raises(RuntimeError, match="tls=True"):
        _ = Postgres().ca_file


def test_a_server_that_is_missing_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    for server in (Postgres(), Rabbit()):
        with pytest.raises(ServerMissing, match="scripts/install-servers"):
            server.start()


@needs_postgres
def test_a_port_that_was_taken_in_the_meantime(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((LOOPBACK, 0)) as rival:
        taken = rival.getsockname()[1]
        ports = iter([taken, free_port()])
        monkeypatch.setattr(postgres_module, "free_port", lambda: next(ports))
        with Postgres() as server:
            assert server.port != taken
            assert server.running


@needs_postgres
def test_a_failed_start_leaves_nothing() -> None:
    before = directories()
    with pytest.raises(ServerFailed, match="no_such_setting"):
        Postgres(settings={"no_such_setting": "1"}).start()
    assert directories() == before


# The guardian

OWNER = """
import os
from tests.servers import Postgres, Rabbit
from tests.servers.test_servers import segment
postgres, rabbit = Postgres(), Rabbit()
postgres.start(), rabbit.start()
print(os.getpid(), segment(postgres), *postgres.pids, *rabbit.pids, rabbit._port_mapper.main)
rabbit.freeze()
os.kill(os.getpid(), 9)
"""


@needs_postgres
@needs_rabbit
def test_nothing_outlives_its_owners_sigkill() -> None:
    command = [sys.executable, "-uc", OWNER]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL
    owner, left, *pids = map(int, done.stdout.split())
    assert len(pids) > 8
    until(lambda: not alive(pids))
    until(lambda: not directories(owner))
    assert str(left) not in segments()


@needs_postgres
def test_a_server_outlives_the_thread_that_started_it_but_not_its_guardian() -> None:
    server = Postgres()
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    time.sleep(0.5)
    assert server.execute("select 1") == "1"
    pids = server.pids
    assert server._guarded is not None
    os.kill(server._guarded.guardian, signal.SIGKILL)
    until(lambda: not alive(pids))
    server.close()


# RabbitMQ


@pytest.fixture
def vhost(rabbit: Rabbit, request: pytest.FixtureRequest) -> Iterator[str]:
    yield rabbit.create_vhost(request.node.name)
    rabbit.delete_vhost(request.node.name)


async def send(url: str, body: bytes = b"x") -> None:
    async with aiormq.Connection(url) as connection:
        channel = await connection.channel()
        await channel.queue_declare("q", durable=True)
        persistent = Basic.Properties(delivery_mode=2)
        confirmed = await channel.basic_publish(body, routing_key="q", properties=persistent)
        assert isinstance(confirmed, Basic.Ack)


async def fetch(url: str) -> bytes:
    async with aiormq.Connection(url) as connection:
        channel = await connection.channel()
        return (await channel.basic_get("q", no_ack=True)).body


@needs_rabbit
def test_rabbit_speaks_tls_on_the_loopback_only_keeps_messages_and_leaves_nothing() -> None:
    with Rabbit(tls=True) as server:
        ports = [server.port, server.tls_port, server._distribution_port]
        assert [listening(port) for port in ports] == [["0100007F"]] * 3
        asyncio.run(send(server.tls_url, b"kept"))
        # That there is a queue is written a moment after it is declared, and lost with the moment.
        server.evaluate("mnesia:sync_log()")
        pids = server.pids
        server.kill()
        assert not alive(pids)
        server.start()
        assert asyncio.run(fetch(server.url)) == b"kept"
        server.freeze()
        server.stop()
        assert not server.running
        assert server._port_mapper is not None
        pids, directory = [*server.pids, server._port_mapper.main], server.directory
    assert not alive(pids)
    assert not directory.exists()


def test_rabbit_reads_nothing_of_the_systems(rabbit: Rabbit) -> None:
    status = rabbit.ctl("status", "--formatter=json")
    assert "/etc/rabbitmq" not in status
    assert "/var/l" not in status
    assert str(rabbit.directory) in status


def test_rabbit_evaluates_and_says_what_is_wrong(rabbit: Rabbit) -> None:
    assert rabbit.evaluate("1 + 1") == "2"
    for wrong in ("1 = 2", "no:such()", "syntax("):
        with pytest.raises(ServerFailed):
            rabbit.evaluate(wrong)


def test_rabbit_vhosts_isolate(rabbit: Rabbit, vhost: str) -> None:
    name = "we\"ird/ü '%"
    asyncio.run(send(vhost, b"here"))
    other = rabbit.create_vhost(name)
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
        asyncio.run(fetch(other))
    rabbit.delete_vhost(name)
    rabbit.delete_vhost(name)
    with pytest.raises(aiormq.exceptions.AMQPError):
        asyncio.run(fetch(other))
    assert asyncio.run(fetch(vhost)) == b"here"


def test_frozen_rabbit_is_mute_until_it_thaws(rabbit: Rabbit, vhost: str) -> None:
    rabbit.freeze()
    try:
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(send(vhost), 0.5))
    finally:
        rabbit.thaw()
    asyncio.run(asyncio.wait_for(send(vhost), PATIENCE_SECONDS))


def test_rabbit_refuses_while_its_application_is_stopped(rabbit: Rabbit, vhost: str) -> None:
    rabbit.stop_app()
    try:
        with pytest.raises(OSError, match="Connect call failed"):
            asyncio.run(send(vhost))
    finally:
        rabbit.start_app()
    asyncio.run(send(vhost))


def test_rabbit_closes_all_connections(rabbit: Rabbit, vhost: str) -> None:
    async def scenario() -> None:
        connection = await aiormq.connect(vhost)
        await asyncio.to_thread(rabbit.close_all_connections, "for a test")
        with pytest.raises(aiormq.exceptions.ConnectionClosed, match="for a test"):
            await asyncio.wait_for(asyncio.shield(connection.closing), PATIENCE_SECONDS)

    asyncio.run(scenario())


def test_rabbits_memory_alarm_blocks_publishers(rabbit: Rabbit, vhost: str) -> None:
    with rabbit.memory_alarm(), pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(send(vhost), 1))
    asyncio.run(asyncio.wait_for(send(vhost), PATIENCE_SECONDS))


# The network


def echo(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65_536):
            connection.sendall(data)


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    """A proxy in front of a server that answers with what it gets."""
    threads = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=echo, args=[listener.accept()[0]]))
                threads[-1].start()

    with socket.create_server((LOOPBACK, free_port())) as listener:
        threads.append(threading.Thread(target=accept))
        threads[0].start()
        with FaultyProxy(listener.getsockname()[1]) as proxy:
            yield proxy
        listener.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def dial(proxy: FaultyProxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=PATIENCE_SECONDS)


def receive(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(65_536)):
        data += more
    return data


def answers(client: socket.socket) -> bool:
    client.sendall(b"x")
    return client.recv(1) == b"x"


def test_proxy_passes_a_lot_and_both_ends(proxy: FaultyProxy) -> None:
    with dial(proxy) as client:
        data = os.urandom(5_000_000)
        sender = threading.Thread(target=client.sendall, args=[data])
        sender.start()
        assert receive(client, len(data)) == data
        sender.join()
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    until(lambda: proxy.connections == 0)


def test_proxy_latency(proxy: FaultyProxy) -> None:
    ways: list[tuple[Direction | Literal["both"], float]]
    ways = [("both", 0.4), ("to_server", 0.2), ("to_client", 0.2)]
    with dial(proxy) as client:
        for way, least in ways:
            proxy.mode("latency", 0.2, way)
            started = time.monotonic()
            assert answers(client)
            assert time.monotonic() - started >= least
        proxy.mode("latency", 60)
        client.sendall(b"y")
        proxy.mode("pass")
        assert client.recv(1) == b"y"


def test_proxy_black_hole(proxy: FaultyProxy) -> None:
    with dial(proxy) as old:
        assert answers(old)
        proxy.mode("black_hole")
        with dial(proxy) as new:
            for client in (old, new):
                client.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    answers(client)
            until(lambda: [link.lossy for link in proxy._links] == [True, True])
            proxy.mode("pass")
            for client in (old, new):
                client.settimeout(PATIENCE_SECONDS)
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
    with dial(proxy) as client:
        assert answers(client)


def test_proxy_black_hole_hides_that_the_client_is_gone(proxy: FaultyProxy) -> None:
    with dial(proxy) as client:
        assert answers(client)
        proxy.mode("black_hole", direction="to_server")
    time.sleep(0.2)
    assert proxy.connections == 1
    proxy.mode("pass")
    until(lambda: proxy.connections == 0)


def test_proxy_down_and_up_again_on_the_same_port(proxy: FaultyProxy) -> None:
    port = proxy.port
    with dial(proxy) as client:
        assert answers(client)
        proxy.mode("down")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            dial(proxy)
    proxy.mode("pass")
    assert proxy.port == port
    with dial(proxy) as client:
        assert answers(client)


def test_proxy_resets(proxy: FaultyProxy) -> None:
    with dial(proxy) as client:
        assert answers(client)
        proxy.mode("reset_peer")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionResetError), dial(proxy) as client:
        client.recv(1)


def test_proxy_slices(proxy: FaultyProxy) -> None:
    proxy.mode("slicer", 2, "to_client")
    with dial(proxy) as client:
        client.sendall(bytes(range(256)))
        assert receive(client, 256) == bytes(range(256))


def test_a_slice_is_a_write_of_its_own() -> None:
    """What the client reads says nothing: a slow one finds the slices put together."""
    writer = Mock(drain=AsyncMock())
    asyncio.run(write(b"abcde", writer, Policy("slicer", 2)))
    assert writer.write.mock_calls == [call(b"ab"), call(b"cd"), call(b"e")]


def test_proxy_limits(proxy: FaultyProxy) -> None:
    proxy.mode("limit_data", 10, "to_client")
    with dial(proxy) as client:
        client.sendall(b"0123456")
        assert receive(client, 7) == b"0123456"
        client.sendall(b"789abc")
        assert receive(client, 99) == b"789"
    until(lambda: proxy.connections == 0)


def test_proxy_before_a_server_that_is_gone() -> None:
    with (
        FaultyProxy(free_port()) as proxy,
        pytest.raises(ConnectionResetError),
        dial(proxy) as client,
    ):
        client.recv(1)


def test_proxy_before_rabbit(rabbit: Rabbit, vhost: str) -> None:
    with FaultyProxy(rabbit.port) as proxy:
        url = vhost.replace(str(rabbit.port), str(proxy.port))
        proxy.mode("slicer", 1)
        asyncio.run(send(url, b"x" * 1000))
        proxy.mode("black_hole")
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(send(url), 0.3))
        proxy.mode("pass")
        assert asyncio.run(fetch(url)) == b"x" * 1000
