"""The kinds of faults: each begins, and returns what puts an end to it.

What a fault breaks is whole again once that has returned, but for the clinic, which heals by
itself. A fault that ends as it begins, such as a purge, returns ``nothing``.
"""

import asyncio
import contextlib
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPError

from tests.faults.worlds import (
    ASIDE,
    DATABASE,
    DEAD,
    MAIN,
    OWNER,
    Call,
    Embedded,
    Place,
    Servers,
    World,
)
from tests.servers import FaultyProxy, Rabbit
from tests.servers.proxy import Direction, Mode

# A quorum queue of RabbitMQ 3.10 that is declared some 3 s before its node is killed never works
# again (docs/libraries.md), and is declared some 3 s after it was deleted.
SETTLE_SECONDS = 10.0
# How long a statement of the test waits for locks that the clinic holds.
LOCK_SECONDS = 5
FILE_BYTES = 64 * 1024
# How often leaders are killed for each time that any other fault comes.
LEADERS = 4
PURGES, PURGE_SECONDS = 20, 0.05

MAIN_EXCHANGE, DEAD_EXCHANGE = "rmx-for-retries", "dlx-for-retries"

End = Callable[[], None]
Begin = Callable[[World, random.Random], End]


@dataclass(frozen=True)
class Kind:
    """A kind of fault, and what of the world it breaks: "process", "database" or "broker"."""

    name: str
    part: str
    begin: Begin


def nothing() -> None:
    """Put an end to what has ended already."""


# The clinic's own processes


def kill(places: list[Place]) -> End:
    for place in places:
        place.kill()

    def end() -> None:
        for place in places:
            place.start()

    return end


def stop(world: World, place: Place) -> End:
    """Stop a process in order: it does so in time, or says what another fault keeps it from."""
    status = place.stop()
    if status and "The stop took longer" not in place.clinic.log:
        words = place.clinic.log[-600:]
        world.ended_badly.append(f"{place.role} stopped with status {status}: {words}")
    return place.start


def freeze(place: Place) -> End:
    place.clinic.signal(signal.SIGSTOP)
    return lambda: place.clinic.signal(signal.SIGCONT)


PROCESSES = [
    Kind("an API is killed", "process", lambda world, rng: kill([rng.choice(world.booking)])),
    Kind("a consumer is killed", "process", lambda world, rng: kill([rng.choice(world.recording)])),
    Kind("all processes are killed", "process", lambda world, _: kill(world.places)),
    Kind(
        "a process is stopped", "process", lambda world, rng: stop(world, rng.choice(world.places))
    ),
    Kind("an API is frozen", "process", lambda world, rng: freeze(rng.choice(world.booking))),
    Kind("a consumer is frozen", "process", lambda world, rng: freeze(rng.choice(world.recording))),
]

# The network


def switch(
    proxy: FaultyProxy, mode: Mode, amount: float | None = None, direction: Direction | None = None
) -> End:
    proxy.mode(mode, amount, direction or "both")
    return lambda: proxy.mode("pass")


NETWORKS: dict[str, Callable[[FaultyProxy, random.Random], End]] = {
    "is cut": lambda proxy, _: switch(proxy, "reset_peer"),
    "is refused": lambda proxy, _: switch(proxy, "down"),
    "is a black hole": lambda proxy, _: switch(proxy, "black_hole"),
    "swallows answers": lambda proxy, _: switch(proxy, "black_hole", direction="to_client"),
    "swallows requests": lambda proxy, _: switch(proxy, "black_hole", direction="to_server"),
    "is slow": lambda proxy, rng: switch(proxy, "latency", rng.uniform(0.05, 0.4)),
    "comes in slices": lambda proxy, rng: switch(proxy, "slicer", rng.randint(1, 100)),
    "ends after some bytes": lambda proxy, rng: switch(
        proxy, "limit_data", int(10 ** rng.uniform(1, 4.5)), rng.choice(("to_server", "to_client"))
    ),
}


def network(part: str, what: str) -> Kind:
    """Return the kind of fault of the network to a part."""

    def begin(world: World, rng: random.Random) -> End:
        assert isinstance(world, Servers)
        way = world.database_proxy if part == "database" else rng.choice(world.broker_proxies)
        return NETWORKS[what](way, rng)

    return Kind(f"the way to the {part} {what}", part, begin)


NETWORK = [network(part, what) for part in ("database", "broker") for what in NETWORKS]

# PostgreSQL


def of_servers(begin: Callable[[Servers, random.Random], End]) -> Begin:
    def checked(world: World, rng: random.Random) -> End:
        assert isinstance(world, Servers)
        return begin(world, rng)

    return checked


def kill_postgres(world: Servers, _: random.Random) -> End:
    world.postgres.kill()
    return world.postgres.start


def restart_postgres(world: Servers, _: random.Random) -> End:
    world.postgres.stop()
    return world.postgres.start


def freeze_postgres(world: Servers, _: random.Random) -> End:
    world.postgres.freeze()
    return world.postgres.thaw


def terminate(world: Servers) -> None:
    world.administer(
        f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{OWNER}'"
    )


def end_sessions(world: Servers, rng: random.Random) -> End:
    for _ in range(rng.randint(1, 4)):
        terminate(world)
        time.sleep(rng.uniform(0, 0.2))
    return nothing


def alter(world: Servers, name: str, value: str) -> End:
    """Change a setting of the server, for the sessions that are open as well."""
    world.administer(f"alter system set {name} = {value}", "select pg_reload_conf()")
    return lambda: world.administer(f"alter system reset {name}", "select pg_reload_conf()")


def read_only(world: Servers, rng: random.Random) -> End:
    """As after a failover: for all sessions, or for those that begin from now on."""
    if rng.random() < 0.5:
        return alter(world, "default_transaction_read_only", "on")
    world.administer(f"alter database {DATABASE} set default_transaction_read_only = on")
    terminate(world)
    return lambda: world.administer(
        f"alter database {DATABASE} reset default_transaction_read_only"
    )


def full_database(world: Servers, _: random.Random) -> End:
    world.refuse_writing(refuse=True)
    return lambda: world.refuse_writing(refuse=False)


def exhaust(world: Servers, _: random.Random) -> End:
    """All connections that the clinic may have are taken."""
    world.administer(f"alter role {OWNER} connection limit 0")
    terminate(world)
    return lambda: world.administer(f"alter role {OWNER} connection limit -1")


def lock_table(world: Servers, rng: random.Random) -> End:
    table = rng.choice(("appointment", "event", "outbox", "recorded"))
    connection = world.connect()
    connection.execute(f"set lock_timeout = '{LOCK_SECONDS}s'".encode())
    connection.execute("begin")
    with contextlib.suppress(psycopg.errors.LockNotAvailable):
        connection.execute(f"lock table {table} in access exclusive mode".encode())
    return connection.close


DATABASES = [
    Kind("PostgreSQL is killed", "database", of_servers(kill_postgres)),
    Kind("PostgreSQL is restarted", "database", of_servers(restart_postgres)),
    Kind("PostgreSQL is frozen", "database", of_servers(freeze_postgres)),
    Kind("PostgreSQL ends all sessions", "database", of_servers(end_sessions)),
    Kind("PostgreSQL can only be read", "database", of_servers(read_only)),
    Kind("PostgreSQL is full", "database", of_servers(full_database)),
    Kind("PostgreSQL has no connection left", "database", of_servers(exhaust)),
    Kind("PostgreSQL has a table locked", "database", of_servers(lock_table)),
    Kind(
        "PostgreSQL lets commits hang",
        "database",
        of_servers(lambda world, _: alter(world, "synchronous_standby_names", "'nobody'")),
    ),
]

# RabbitMQ


def settle(world: Servers) -> None:
    """Wait until no queue is so young that RabbitMQ itself would lose it."""
    time.sleep(max(0.0, world.deleted_at + SETTLE_SECONDS - time.monotonic()))


def kill_rabbit(world: Servers, rng: random.Random) -> End:
    settle(world)
    rabbit = rng.choice(world.rabbits)
    rabbit.kill()
    return rabbit.start


def kill_leader(world: Servers, _: random.Random) -> End:
    settle(world)
    leader = world.rabbits[0].leader(MAIN)
    rabbit = next(rabbit for rabbit in world.rabbits if rabbit.node == leader)
    rabbit.kill()
    return rabbit.start


def restart_rabbit(world: Servers, rng: random.Random) -> End:
    settle(world)
    rabbit = rng.choice(world.rabbits)
    rabbit.stop_app()
    return rabbit.start_app


def freeze_rabbit(world: Servers, rng: random.Random) -> End:
    rabbit = rng.choice(world.rabbits)
    rabbit.freeze()
    return rabbit.thaw


def close_connections(world: Servers, rng: random.Random) -> End:
    rng.choice(world.rabbits).close_all_connections("a fault")
    return nothing


def alarm(raise_alarm: Callable[[Rabbit], contextlib.AbstractContextManager[None]]) -> Begin:
    def begin(world: Servers, rng: random.Random) -> End:
        stack = contextlib.ExitStack()
        stack.enter_context(raise_alarm(rng.choice(world.rabbits)))
        return stack.close

    return of_servers(begin)


def ask(name: str, call: Call, *, deletes_queue: bool = False) -> Kind:
    """Return the kind of fault for which an administrator asks the broker."""

    def begin(world: Servers, _: random.Random) -> End:
        # A piece that an earlier fault deleted may not be there yet.
        with contextlib.suppress(AMQPError):
            world.ask_broker(call)
        if deletes_queue:
            world.deleted_at = time.monotonic()
        return nothing

    return Kind(name, "broker", of_servers(begin))


def purge(queue: str) -> Call:
    """Purge a queue for a while: at one moment it may be empty."""

    async def call(channel: AbstractChannel) -> None:
        for _ in range(PURGES):
            await channel.queue_purge(queue)
            await asyncio.sleep(PURGE_SECONDS)

    return call


BROKERS = [
    Kind("RabbitMQ is killed", "broker", of_servers(kill_rabbit)),
    Kind("RabbitMQ is restarted", "broker", of_servers(restart_rabbit)),
    Kind("RabbitMQ is frozen", "broker", of_servers(freeze_rabbit)),
    Kind("RabbitMQ closes all connections", "broker", of_servers(close_connections)),
    Kind("RabbitMQ is out of memory", "broker", alarm(Rabbit.memory_alarm)),
    Kind("RabbitMQ is out of disk", "broker", alarm(Rabbit.disk_alarm)),
    ask("the main queue is purged", purge(MAIN)),
    ask("the dead letter queue is purged", purge(DEAD)),
    ask("the main queue is deleted", lambda it: it.queue_delete(MAIN), deletes_queue=True),
    ask("the dead letter queue is deleted", lambda it: it.queue_delete(DEAD), deletes_queue=True),
    ask("the not solved queue is deleted", lambda it: it.queue_delete(ASIDE), deletes_queue=True),
    ask("the main exchange is deleted", lambda it: it.exchange_delete(MAIN_EXCHANGE)),
    ask("the dead letter exchange is deleted", lambda it: it.exchange_delete(DEAD_EXCHANGE)),
    ask("the main queue is unbound", lambda it: it.queue_unbind(MAIN, MAIN_EXCHANGE, MAIN)),
    ask("the dead letter queue is unbound", lambda it: it.queue_unbind(DEAD, DEAD_EXCHANGE, DEAD)),
]

CLUSTER = [Kind("the main queue's leader is killed", "broker", of_servers(kill_leader))]

# The file


def of_file(begin: Callable[[Embedded, random.Random], End]) -> Begin:
    def checked(world: World, rng: random.Random) -> End:
        assert isinstance(world, Embedded)
        return begin(world, rng)

    return checked


def lock_file(world: Embedded, _: random.Random) -> End:
    connection = world.connect()
    with contextlib.suppress(sqlite3.OperationalError):  # a process that is frozen may have it
        connection.execute("begin immediate")
    return connection.close


def read_for_long(world: Embedded, _: random.Random) -> End:
    """Another program reads: the log of what was committed cannot be shortened."""
    connection = world.connect()
    connection.execute("begin")
    connection.execute("select count(*) from appointment").fetchall()
    return connection.close


def full_disk(world: Embedded, rng: random.Random) -> End:
    """A process can write no more: its file system has a quota."""
    process = rng.choice(world.places).clinic.process
    if process.poll() is not None:  # another fault has killed it
        return nothing
    pid = process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_BYTES, before[1]))

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    return end


def purge_file(world: Embedded, _: random.Random) -> End:
    with contextlib.closing(world.connect()) as connection:
        for _again in range(PURGES):
            with contextlib.suppress(sqlite3.OperationalError):  # somebody else may have the lock
                connection.execute("delete from message")
            time.sleep(PURGE_SECONDS)
    return nothing


FILES = [
    Kind("the file is locked", "database", of_file(lock_file)),
    Kind("the file is read for long", "database", of_file(read_for_long)),
    Kind("the disk is full", "database", of_file(full_disk)),
    Kind("the messages are deleted", "broker", of_file(purge_file)),
]


def kinds_of(world: World) -> list[Kind]:
    """Return the kinds of faults that a world can have."""
    if isinstance(world, Embedded):
        return PROCESSES + FILES
    servers = PROCESSES + NETWORK + DATABASES + BROKERS
    return servers + CLUSTER * LEADERS if len(world.rabbits) > 1 else servers
