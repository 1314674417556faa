"""Tokens: made, listed, used, expired and revoked; by the command, the file, on all hosts."""

import datetime
import json
import re
import time
from pathlib import Path

import anyio
import pytest

from clinic.access.file import TokensFile, line_of, read_lines
from clinic.access.token import (
    FORM,
    BadToken,
    check_name,
    digest_of,
    new_secret,
    read_permissions,
)
from clinic.access.tokens import FRESH_SECONDS, NoSuchToken, Tokens, new_token
from clinic.acting import RESERVED
from clinic.database import Database, utc_now
from clinic.web.callers import Permission
from tests.process.clinic import running, until
from tests.process.test_start import plain_line, run
from tests.servers import free_port

DESK = frozenset({Permission.DESK})


def test_a_secret_is_long_and_is_known_by_its_prefix() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert FORM.fullmatch(secret)
        assert re.fullmatch("[0-9a-f]{64}", digest_of(secret) or "")
        assert secret not in (digest_of(secret) or "")
    for wrong in (
        "",
        "clinic_",
        "x" * 50,
        f" {new_secret()}",
        f"{new_secret()}\n",
        "clinic_" + "é" * 43,
    ):
        assert digest_of(wrong) is None


@pytest.mark.parametrize("name", ["Anna", "desk 2", "Анна Ёлкина", "a", "a@b.example", "x" * 63])
def test_what_a_token_can_be_called(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", " a", "a ", "x" * 64, "a\nb", "a,b", "-a", "\u202ea", "a\x00", *sorted(RESERVED)],
)
def test_what_a_token_cannot_be_called(name: str) -> None:
    with pytest.raises(BadToken):
        check_name(name)


@pytest.mark.parametrize("words", [[], ["open"], ["desk", "open"], ["Desk"], ["all"], [""]])
def test_what_a_token_cannot_be_allowed(words: list[str]) -> None:
    with pytest.raises(BadToken):
        read_permissions(words)


@pytest.mark.anyio
async def test_a_token_counts_until_it_is_revoked(database: Database) -> None:
    tokens, elsewhere = Tokens(database), Tokens(database)
    assert not (await elsewhere.known()).any_ever
    secret, made = await tokens.make("Anna", DESK)
    found = await tokens.find(secret)
    assert found is not None
    assert (found.name, found.permissions, found.made_by) == ("Anna", DESK, "clinic")
    assert found.caller.name == "Anna"
    assert secret not in repr(await tokens.all())
    with pytest.raises(BadToken, match="Anna"):
        await tokens.make("Anna", DESK)
    await tokens.revoke("Anna")
    assert await tokens.find(secret) is None
    with pytest.raises(NoSuchToken):
        await tokens.revoke("Anna")
    # From the first one on everyone needs one, even if it counts no more.
    assert (await tokens.known()).any_ever
    # The name can be used again, and the old secret stays what it is.
    again, _ = await tokens.make("Anna", DESK)
    assert await tokens.find(secret) is None
    assert await tokens.find(again) is not None
    assert [one.name for one in await tokens.all()] == ["Anna", "Anna"]
    del made


@pytest.mark.anyio
async def test_a_token_expires(database: Database) -> None:
    tokens = Tokens(database)
    soon = utc_now() + datetime.timedelta(seconds=0.5)
    secret, _ = await tokens.make("soon", DESK, expires_at=soon)
    assert await tokens.find(secret) is not None
    while utc_now() < soon:
        await anyio.sleep(0.05)
    assert await tokens.find(secret) is None


@pytest.mark.anyio
async def test_another_process_learns_of_tokens_in_time(database: Database) -> None:
    here, there = Tokens(database), Tokens(database)
    await there.known()
    secret, _ = await here.make("Anna", DESK)
    began = time.monotonic()
    while await there.find(secret) is None:
        assert time.monotonic() - began < FRESH_SECONDS + 1
        await anyio.sleep(0.02)
    await here.revoke("Anna")
    began = time.monotonic()
    while await there.find(secret) is not None:
        assert time.monotonic() - began < FRESH_SECONDS
        await anyio.sleep(0.02)


@pytest.mark.anyio
async def test_the_last_use_of_a_token_is_visible(database: Database) -> None:
    tokens = Tokens(database)
    secret, made = await tokens.make("Anna", DESK)
    assert made.last_used_at is None
    found = await tokens.find(secret)
    assert found is not None
    before = utc_now()
    await tokens.used(found)
    (stored,) = await tokens.all()
    assert stored.last_used_at is not None
    assert before <= stored.last_used_at <= utc_now()
    # Once a minute is exact enough: a busy client would write a row for each request.
    await tokens.used(found)
    assert await tokens.all() == [stored]


def test_a_line_of_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    until_then = datetime.datetime(2028, 1, 1, 10, 30, tzinfo=datetime.UTC)
    both = frozenset({Permission.DESK, Permission.OPERATE})
    made = [
        new_token("desk", DESK)[1],
        new_token("Анна", both, expires_at=until_then)[1],
    ]
    path = tmp_path / "tokens.txt"
    path.write_text("# ours\n\n" + "\n".join(map(line_of, made)) + "\n", encoding="utf-8")
    read = TokensFile(path).read()
    assert [(one.name, one.digest, one.permissions, one.expires_at) for one in read] == [
        (one.name, one.digest, one.permissions, one.expires_at) for one in made
    ]
    assert all(one.from_file for one in read)


@pytest.mark.parametrize(
    "line",
    [
        "desk",
        "desk, desk",
        f"desk, desk, {'0' * 63}",
        f"desk, desk, {'g' * 64}",
        f"desk, boss, {'0' * 64}",
        f"desk, open, {'0' * 64}",
        f"cli, desk, {'0' * 64}",
        f"desk, desk, {'0' * 64}, soon",
        f"desk, desk, {'0' * 64}, 2028-01-01, more",
        "desk, desk, clinic_" + "A" * 43,
    ],
)
def test_a_wrong_line_is_named_and_not_shown(line: str) -> None:
    with pytest.raises(BadToken, match="line 2 is no token") as refused:
        list(read_lines(["", line]))
    assert "clinic_" not in str(refused.value)


def test_two_lines_of_one_name_are_refused() -> None:
    line = line_of(new_token("desk", DESK)[1])
    with pytest.raises(BadToken, match="line 2"):
        list(read_lines([line, line]))


@pytest.mark.anyio
async def test_a_file_counts_as_it_is_now(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    secret, token = new_token("desk", DESK)
    path.write_text(line_of(token))
    tokens = Tokens(database, TokensFile(path))
    assert await tokens.find(secret) is not None
    assert (await tokens.known()).any_ever

    async def counts() -> bool:
        tokens._known = None
        return await tokens.find(secret) is not None

    path.write_text("# none\n")
    assert not await counts()
    path.write_text(line_of(token))
    assert await counts()
    path.write_text("nonsense")
    assert not await counts()
    path.unlink()
    assert not await counts()
    path.write_text(line_of(token))
    assert await counts()


def test_the_command_makes_lists_and_revokes(tmp_path: Path) -> None:
    # In the wrong folder nobody should believe that there are none.
    assert "there is no clinic.db here" in run(tmp_path, "token", "list").stderr
    assert run(tmp_path, "migrate").returncode == 0
    assert "No token has been made yet" in run(tmp_path, "token", "list").stderr
    made = run(tmp_path, "token", "make", "Анна", "--permission", "desk", "--expires", "90d")
    secret = made.stdout.strip()
    assert FORM.fullmatch(secret)
    assert secret not in made.stderr
    table = run(tmp_path, "token", "list").stdout.splitlines()
    assert table[0].split()[:3] == ["NAME", "MAY", "STATE"]
    assert re.match("Анна +desk +counts", table[1])
    (listed,) = json.loads(run(tmp_path, "token", "list", "--json").stdout)
    assert (listed["name"], listed["permissions"], listed["counts"]) == ("Анна", ["desk"], True)
    assert (listed["made_by"], listed["last_used_at"]) == ("cli", None)
    assert secret.encode() not in (tmp_path / "clinic.db").read_bytes()
    assert run(tmp_path, "token", "revoke", "Анна").returncode == 0
    again = run(tmp_path, "token", "revoke", "Анна")
    assert again.returncode == 1
    assert "no token called Анна" in again.stderr
    assert "revoked" in run(tmp_path, "token", "list").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("make", "x"),
        ("make", "x", "--permission", "desk", "--office", "1"),
        ("make", "cli", "--permission", "desk"),
        ("make", "a\nb", "--permission", "desk"),
        ("make", "x", "--office", "1", "--for-file"),
        ("make", "x", "--office", ""),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert plain_line(run(tmp_path, "token", *arguments)).isprintable()


@pytest.mark.parametrize("expires", ["90", "0d", "-1d", "1m", "soon", "99999d"])
def test_a_lifetime_that_cannot_be_is_wrong_usage(tmp_path: Path, expires: str) -> None:
    done = run(tmp_path, "token", "make", "x", "--permission", "desk", f"--expires={expires}")
    assert done.returncode == 2
    assert "90d" in done.stderr
    assert not (tmp_path / "clinic.db").exists()


def test_a_file_lets_in_without_a_token_in_the_database(tmp_path: Path) -> None:
    made = run(tmp_path, "token", "make", "desk", "--permission", "desk", "--for-file")
    secret, line = made.stdout.splitlines()
    assert not (tmp_path / "clinic.db").exists()
    (tmp_path / "tokens.txt").write_text(line)
    with running(tmp_path, API_TOKENS_FILE="tokens.txt") as clinic:
        assert clinic.book().status_code == 401
        clinic.http.headers["Authorization"] = f"Bearer {secret}"
        assert clinic.book().status_code == 201


def test_a_clinic_that_others_reach_does_not_start_without_a_token(tmp_path: Path) -> None:
    done = run(tmp_path, "--host", "0.0.0.0", "--port", str(free_port()), CLINIC_LOG_LEVEL="error")
    line = plain_line(done)
    assert "token make" in line
    assert "CLINIC_ALLOW_ANONYMOUS=1" in line
    with running(tmp_path, "--host", "0.0.0.0", CLINIC_ALLOW_ANONYMOUS=1) as clinic:
        assert clinic.book().status_code == 201
        until(lambda: "everyone who reaches 0.0.0.0" in clinic.log)
        # ... from the first one on, everyone needs one.
        made = run(tmp_path, "token", "make", "desk", "--permission", "desk")
        until(lambda: clinic.http.get("/appointment").status_code == 401)
        clinic.http.headers["Authorization"] = f"Bearer {made.stdout.strip()}"
        assert clinic.book(2).status_code == 201
    with running(tmp_path, "--host", "0.0.0.0") as clinic:
        assert clinic.http.get("/appointment").status_code == 401


def test_on_loopback_everyone_is_served_until_the_first_token(tmp_path: Path) -> None:
    with running(tmp_path) as clinic:
        until(lambda: "everyone on this machine may come in" in clinic.log)
        assert clinic.book().status_code == 201
        # Whatever a client sends that the clinic did not ask for.
        sent = {"Authorization": "Basic YTpi"}
        assert clinic.http.get("/appointment", headers=sent).status_code == 200
        made = run(tmp_path, "token", "make", "desk", "--permission", "desk")
        assert made.returncode == 0
        until(lambda: clinic.http.get("/appointment").status_code == 401)
        assert clinic.http.get("/health/ready").json() == {"status": "ready"}


def test_a_token_is_revoked_on_all_hosts_within_two_seconds(tmp_path: Path) -> None:
    made = run(tmp_path, "token", "make", "desk", "--permission", "desk")
    sent = {"Authorization": f"Bearer {made.stdout.strip()}"}
    with running(tmp_path) as one, running(tmp_path, "--role", "api") as other:
        clinics = (one, other)
        for clinic in clinics:
            assert clinic.http.get("/appointment", headers=sent).status_code == 200
        assert run(tmp_path, "token", "revoke", "desk").returncode == 0
        began = time.monotonic()
        for clinic in clinics:
            while clinic.http.get("/appointment", headers=sent).status_code == 200:
                assert time.monotonic() - began < FRESH_SECONDS + 0.5
                time.sleep(0.02)
