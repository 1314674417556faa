"""Whatever happens to the database, and whenever: it is unavailable, and nothing else."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar, get_args
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest

from clinic.database import (
    Database,
    DatabaseUnavailable,
    Dialect,
    OutcomeUnknown,
    SchemaUnfit,
    StatementRefused,
    open_database,
    utc_now,
)
from clinic.database.postgresql import MOST_CONNECTIONS, PostgreSQL
from clinic.database.sqlite import SQLite
from tests.database.interceptor import Fault, Interceptor
from tests.database.test_connection import INSERT, count
from tests.servers import Postgres, ServerFailed
from tests.timing import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

HUNG_SECONDS = 0.4
Result = TypeVar("Result")
INSERT_NOW = """
    insert into message (queue, id, type, subject, body, ready_at)
    values ('main', 'now', 't', 's', '{}', now())
"""

REFUSE = """
    create function refuse() returns trigger language plpgsql as
    $$ begin raise exception 'not %', new.id; end $$;
    create trigger refuse before insert on message for each row execute function refuse()
"""


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("engine.CLOSING", "postgresql.STATEMENT", "postgresql.CANCEL", "sqlite.STATEMENT")
    for name in names:
        monkeypatch.setattr(f"clinic.database.{name}_SECONDS", HUNG_SECONDS)


@pytest.fixture(scope="module")
def server_url(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    """One database for all tests of this module; a test ends when its sessions have ended."""
    yield postgres.create_database("faults", postgres_template)
    postgres.drop_database("faults")


@pytest.fixture
def url(postgres: Postgres, server_url: str) -> str:
    postgres.execute("truncate message", "faults")
    return server_url


@pytest.fixture
async def network(postgres: Postgres) -> AsyncIterator[Interceptor]:
    network = Interceptor(postgres.port)
    async with network.listening():
        yield network


@pytest.fixture
async def database(url: str, network: Interceptor) -> AsyncIterator[Database]:
    async with open_database(through(network, url)) as database:
        yield database


def through(network: Interceptor, url: str) -> str:
    return url.replace(f":{urlsplit(url).port}/", f":{network.port}/")


async def transaction(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.fetch_all(INSERT, {"id": "a", "ready_at": utc_now()})


async def at_once(database: Database) -> None:
    await database.at_once(INSERT, {"id": "a", "ready_at": utc_now()})


async def look(database: Database) -> None:
    await database.look("select count(*) as n from message")


async def snapshot(database: Database) -> None:
    await count(database)


Way = Callable[[Database], Awaitable[None]]
# Each way to use the database, with the SQL of each of its steps.
STEPS: list[tuple[Way, str]] = [
    (transaction, "begin"),
    (transaction, "insert into message"),
    (transaction, "commit"),
    (at_once, "insert into message"),
    (look, "from message"),
    (snapshot, "begin"),
    (snapshot, "from message"),
    (snapshot, "commit"),
]
COMMITTING = [(transaction, "commit"), (at_once, "insert into message")]


@pytest.mark.parametrize("fault", get_args(Fault))
@pytest.mark.parametrize("way_and_step", STEPS, ids=lambda one: f"{one[0].__name__} {one[1]}")
async def test_a_step_that_fails_is_an_outage(
    database: Database, network: Interceptor, url: str, way_and_step: tuple[Way, str], fault: Fault
) -> None:
    way, step = way_and_step
    network.fail(fault, step)
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as failure:
        await way(database)
    assert time.monotonic() - began < 3 * HUNG_SECONDS + SLACK_SECONDS
    assert isinstance(failure.value, OutcomeUnknown) == ((way, step) in COMMITTING)
    await sound_again(database)
    done = "unanswered" in fault and (way, step) in COMMITTING
    assert await at_last(partial(count, database)) == done
    await at_last(partial(way, database))
    async with open_database(url) as other:
        await all_ended_but(other, idle=1)


@pytest.mark.parametrize("committing", [False, True])
async def test_a_rollback_that_hangs_takes_nothing_but_its_session(
    database: Database, network: Interceptor, *, committing: bool
) -> None:
    network.fail("unanswered", "rollback")
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() if committing else database.snapshot():
            raise ZeroDivisionError
    await sound_again(database)
    assert len(engine_of(database)._idle) == 1


@pytest.mark.parametrize("way", [transaction, at_once, look, snapshot])
async def test_a_server_that_nobody_can_reach_is_an_outage(
    network: Interceptor, url: str, way: Way
) -> None:
    async with open_database(through(network, url)) as database:
        network._server_port = 1  # accepts, and hangs up
        with pytest.raises(DatabaseUnavailable) as failure:
            await way(database)
        assert not isinstance(failure.value, OutcomeUnknown)
        assert engine_of(database)._turns.value == MOST_CONNECTIONS


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100, b"N"])
async def test_a_server_that_is_not_postgresql_is_an_outage(answer: bytes) -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with open_database(f"postgresql://clinic@127.0.0.1:{port}/clinic") as database:
        for way in (transaction, at_once, look, snapshot):
            with pytest.raises(DatabaseUnavailable):
                await way(database)
    server.close()


async def test_a_conversation_that_ends_after_any_byte_is_an_outage(
    postgres: Postgres, url: str
) -> None:
    """A server sends some 600 bytes when a client connects, 1,500 in the whole conversation."""
    left = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        there, here = await asyncio.open_connection("127.0.0.1", postgres.port)

        async def ask() -> None:
            while data := await reader.read(65_536):
                here.write(data)

        asking = asyncio.create_task(ask())
        while left > 0 and (data := await there.read(left)):
            left -= len(data)
            writer.write(data)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        writer.close()
        here.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cut = url.replace(f":{postgres.port}/", f":{port}/")
    outcomes: set[type[Exception]] = set()
    for length in range(1, 2_000, 23):
        left = length
        async with open_database(cut) as database:
            try:
                await transaction(database)
            except DatabaseUnavailable as error:
                outcomes.add(type(error))
    server.close()
    assert OutcomeUnknown in outcomes


def engine_of(database: Database) -> PostgreSQL:
    engine = database._engine
    assert isinstance(engine, PostgreSQL)
    return engine


async def at_last(ask: Callable[[], Awaitable[Result]]) -> Result:
    """Ask until the database answers: a busy machine may take ``HUNG_SECONDS`` to connect."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            with suppress(DatabaseUnavailable):
                return await ask()


async def sound_again(database: Database) -> None:
    """Check that no session is lent out any more, and that the next one serves."""
    await at_last(database.ping)
    assert engine_of(database)._turns.value == MOST_CONNECTIONS


async def all_ended_but(database: Database, idle: int) -> None:
    """Check that the server has no sessions left but this one's own and those that are kept."""
    sql = """
        select count(*) as n from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
    """
    with anyio.fail_after(PATIENCE_SECONDS):
        while (await database.look(sql))[0]["n"] > idle:
            await anyio.sleep(0.02)


@pytest.mark.parametrize(
    "damage_and_mending",
    [
        ("alter table message rename to lost", "alter table lost rename to message"),
        ("alter table message rename body to lost", "alter table message rename lost to body"),
        ("alter table message set schema lost", "alter table lost.message set schema public"),
        ("revoke insert on message from clerk", "grant insert on message to clerk"),
        ("revoke usage on schema public from public", "grant usage on schema public to public"),
        (REFUSE, "drop trigger refuse on message; drop function refuse"),
    ],
)
@pytest.mark.parametrize("way", [transaction, at_once])
async def test_a_schema_that_is_altered_under_us_is_an_outage_until_it_is_mended(
    postgres: Postgres,
    url: str,
    way: Way,
    damage_and_mending: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage, mending = damage_and_mending
    with suppress(ServerFailed):
        postgres.execute("create role clerk login; create schema lost", "faults")
    postgres.execute("grant all on message to clerk", "faults")
    async with open_database(url.replace("postgres@", "clerk@")) as database:
        await way(database)
        postgres.execute(f"truncate message; {damage}", "faults")
        try:
            for _ in range(3):
                with pytest.raises(SchemaUnfit) as failure:
                    await way(database)
                assert not isinstance(failure.value, OutcomeUnknown)
        finally:
            postgres.execute(mending, "faults")
        await way(database)
        assert await count(database) == 1
    (line,) = [record.getMessage() for record in caplog.records if "refuses" in record.message]
    assert re.search("message|body|schema|trigger", line.split("refuses")[1])
    assert "not a" not in line
    assert "get 503 until somebody puts it right" in line


async def test_a_statement_that_is_no_sql_is_our_fault(database: Database) -> None:
    with pytest.raises(StatementRefused, match="42601"):
        await database.look("selec 1")


async def test_a_commit_that_waits_for_a_standby_may_have_been_done(
    postgres: Postgres, url: str
) -> None:
    """A synchronous standby that is lost has every commit wait for it."""
    async with open_database(url) as database:
        await look(database)
        await standby(postgres, url, "nobody")
        before = await count(database)  # reading goes on
        try:
            for way in (transaction, at_once):
                with pytest.raises(OutcomeUnknown):
                    await way(database)
            assert await count(database) == before + 2
        finally:
            await standby(postgres, url, "")
        await transaction(database)


async def standby(postgres: Postgres, url: str, name: str) -> None:
    """Name a standby that commits wait for, and return when they do; or none, when they do not."""
    # Before anything is altered, or this commit would wait as well.
    postgres.execute(f"alter system set synchronous_standby_names = '{name}'")
    postgres.execute("select pg_reload_conf()")
    # The reload is asked for, not done: commits begin to wait when the checkpointer has taken it.
    connection = await asyncpg.connect(url)
    with anyio.fail_after(PATIENCE_SECONDS):
        while await waits(connection) != bool(name):
            await anyio.sleep(0.02)
    await connection.close()


async def waits(connection: asyncpg.Connection) -> bool:
    """Say whether a commit waits."""
    try:
        await connection.execute(INSERT_NOW, timeout=HUNG_SECONDS)
    except TimeoutError:
        return True
    return False


class TestSQLite:
    """The same on a file, where the disk or another program can hang."""

    @pytest.fixture
    def url(self, make_database: Callable[[Dialect], str]) -> str:
        return make_database(Dialect.SQLITE)

    @pytest.fixture
    async def database(self, url: str) -> AsyncIterator[Database]:
        async with open_database(url) as database:
            yield database

    @pytest.mark.parametrize("way", [transaction, at_once])
    async def test_a_lock_of_another_program(
        self, url: str, way: Way, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("clinic.database.sqlite.BUSY_SECONDS", 0.1)
        monkeypatch.setattr("clinic.database.sqlite.PROOF_SECONDS", 0.1)
        async with open_database(url) as database, open_database(url) as other:
            async with other.transaction():
                with pytest.raises(DatabaseUnavailable) as failure:
                    await way(database)
                assert not isinstance(failure.value, OutcomeUnknown)
                with pytest.raises(DatabaseUnavailable):
                    await database.ping()
                assert await count(database) == 0
            await database.ping()
            await way(database)

    @pytest.mark.parametrize(("way", "step"), STEPS)
    async def test_a_disk_that_hangs(self, database: Database, way: Way, step: str) -> None:
        """The event loop sees only that the connection's thread does nothing for a while."""
        await look(database)
        engine = database._engine
        assert isinstance(engine, SQLite)
        (session,) = engine._idle
        threads = threading.active_count()

        def hang(sql: str) -> None:
            if step in sql:
                time.sleep(3 * HUNG_SECONDS)

        await engine._do(session, lambda connection: connection.set_trace_callback(hang))
        with pytest.raises(DatabaseUnavailable) as failure:
            await way(database)
        assert isinstance(failure.value, OutcomeUnknown) == ((way, step) in COMMITTING)
        with anyio.fail_after(PATIENCE_SECONDS):
            while not engine._idle:  # the lock is held for as long as the disk hangs
                with suppress(DatabaseUnavailable):
                    await database.ping()
            while threading.active_count() > threads:
                await anyio.sleep(0.02)
        await transaction(database)

    async def test_a_statement_without_end_ends(self, database: Database) -> None:
        endless = (
            "with recursive n (i) as (select 1 union all select i from n) select max(i) from n"
        )
        with pytest.raises(DatabaseUnavailable):
            await database.look(endless)
        with anyio.move_on_after(HUNG_SECONDS / 2):
            await database.look(endless)
        await transaction(database)

    @pytest.mark.parametrize(
        ("damage", "mending"),
        [
            ("alter table message rename to lost", "alter table lost rename to message"),
            ("alter table message rename body to lost", "alter table message rename lost to body"),
        ],
    )
    @pytest.mark.parametrize("way", [transaction, at_once])
    async def test_a_schema_that_is_altered_under_us_is_an_outage_until_it_is_mended(
        self, url: str, database: Database, way: Way, damage: str, mending: str
    ) -> None:
        async with open_database(url) as other:
            await other.at_once(damage)
            for _ in range(3):
                with pytest.raises(SchemaUnfit):
                    await way(database)
            await other.at_once(mending)
        await way(database)
        assert await count(database) == 1

    async def test_a_statement_that_is_no_sql_is_our_fault(self, database: Database) -> None:
        with pytest.raises(StatementRefused, match="SQLITE_ERROR"):
            await database.look("selec 1")

    async def test_a_file_that_may_not_grow(self, database: Database) -> None:
        with pytest.raises(DatabaseUnavailable, match="full"):
            async with database.transaction() as connection:
                (pages,) = await connection.fetch_all("pragma page_count")
                await connection.fetch_all(f"pragma max_page_count = {pages['page_count']}")
                for number in range(1000):
                    values = {"id": f"{number}" + "a" * 4000, "ready_at": utc_now()}
                    await connection.fetch_all(INSERT, values)
        await transaction(database)
        assert await count(database) == 1
