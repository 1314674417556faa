"""What must appear nowhere: what is known of patients, tokens and passwords."""

import asyncio
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiormq
import httpx

from tests.process.clinic import ClinicProcess, running, until
from tests.process.test_kill import QUICK, execute, refused
from tests.process.test_start import plain_line, run
from tests.servers import Postgres

CANARY = "Канарейкин"
SECRET = "s3cret"
LOUD: dict[str, Any] = {"CLINIC_LOG_LEVEL": "debug"}


NUMBERS = itertools.count(1)


def one_more_is_in(table: str, clinic: ClinicProcess, folder: Path) -> bool:
    """Book one more, and tell whether any has come to a table."""
    clinic.book(next(NUMBERS), patient_name=CANARY)
    return bool(execute(folder, f"select 1 from {table}"))


def test_no_name_is_logged_whatever_fails(tmp_path: Path) -> None:
    with running(tmp_path, **QUICK, **LOUD, DEATH_LIMIT=0, ERROR_PROBABILITY=0.5) as clinic:
        assert clinic.book(patient_name=CANARY).status_code == 201
        wrongs: list[dict[str, Any]] = [
            {"patient_name": CANARY * 99},
            {CANARY: 1},
            {"date_time": CANARY},
        ]
        for wrong in wrongs:
            clinic.book(**{"patient_name": CANARY, **wrong})
        clinic.http.get(f"/appointment?patient_name={CANARY}")
        clinic.http.get(f"/{CANARY}")
        for step in ("insert on message", "insert on recorded", "insert on appointment"):
            with refused(tmp_path, step):
                number = hash(step) % 10**6
                clinic.book(number, patient_name=CANARY)
                until(lambda: "refuse" in clinic.log or "failed" in clinic.log)
        # Each event is set aside or recorded by the toss of a coin: three may all be set aside.
        for table in ("recorded", "message where queue = 'not_solved'"):
            until(partial(one_more_is_in, table, clinic, tmp_path))
        assert CANARY not in clinic.log
        # Messages hold no name either; only the book does.
        for table in ("event", "message", "recorded"):
            assert CANARY not in str(execute(tmp_path, f"select * from {table}"))


def test_a_bug_of_ours_is_answered_500_and_logged_without_the_name(tmp_path: Path) -> None:
    with running(tmp_path, **LOUD) as clinic, refused(tmp_path, "insert on appointment"):
        answer = clinic.book(patient_name=CANARY)
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert CANARY not in answer.text
        until(
            lambda: clinic.log.count("POST /appointment failed") == 1 and "Traceback" in clinic.log
        )
        assert clinic.log.count("Traceback") == 1
        assert CANARY not in clinic.log


def test_no_password_is_printed(tmp_path: Path) -> None:
    away = f"clinic:{SECRET}@127.0.0.1:1"
    line = plain_line(run(tmp_path, "migrate", DATABASE_URL=f"postgresql://{away}/clinic", **LOUD))
    assert "PostgreSQL 127.0.0.1:1/clinic cannot be used" in line
    assert SECRET not in line
    assert SECRET not in plain_line(run(tmp_path, AMQP_URL=f"amqp://{away}/?heartbeat=0"))
    clinic = ClinicProcess(tmp_path, DATABASE_URL=f"postgresql://{away}/clinic", **LOUD)
    until(lambda: "PostgreSQL 127.0.0.1:1/clinic cannot be reached" in clinic.log)
    assert clinic.stop() == 0
    assert SECRET not in clinic.log
    clinic.close()
    with running(tmp_path, AMQP_URL=f"amqp://{away}/", **LOUD) as clinic:
        until(lambda: "RabbitMQ cannot be reached" in clinic.log)
        assert clinic.stop() == 0
        assert SECRET not in clinic.log


# What is planted, each in a form that stands nowhere else.
NAME, PHONE, NOTE = "Ёжикова-Секретная Анна", "+7 (999) 771-31-37", "примечание-канарейка"
REASON, KEY, WRONG = "Причина-Канарейка", "key-of-kanareikin", "clinic_" + "W" * 43
PASSWORD = "p4ss/кан"
PATIENT = (NAME, "Секретная", PHONE, "79997713137", NOTE, REASON, KEY)


def forms(mark: str) -> Iterator[bytes]:
    """Yield the ways in which a text may stand in a file."""
    digits = "".join(one for one in mark if one.isdecimal())
    variants = {mark, mark.casefold(), mark.casefold().replace("ё", "е"), mark.upper()}
    if len(digits) > 6:
        variants |= {digits, digits[::-1]}
    for one in variants:
        yield one.encode()
        yield one.encode("utf-16-le")
        yield quote(one).encode()
        yield json.dumps(one)[1:-1].encode()


def leaks(folder: Path, marks: Sequence[str], *, but: str = "") -> list[str]:
    """Return which marks stand in which files of a folder, but for those named by a beginning."""
    return [
        f"{mark} in {path.name}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not (but and path.name.startswith(but))
        for content in [path.read_bytes()]
        for mark in marks
        if any(form in content for form in forms(mark))
    ]


def rows_of(folder: Path) -> str:
    """Return all rows of all tables that have no business with patients."""
    tables = execute(folder, "select name from sqlite_master where type = 'table'")
    own = {"appointment", "patient_word", "idempotency_key"}
    return str([execute(folder, f"select * from {one}") for (one,) in tables if one not in own])


def plant(
    clinic: ClinicProcess, numbers: Iterable[int], key: str = KEY, **fields: object
) -> list[httpx.Response]:
    """Book for the patient whose marks are searched for; return the answers."""
    personal = {"patient_name": NAME, "patient_phone": PHONE, "note": NOTE, **fields}
    return [
        clinic.http.post(
            "/appointment",
            json={
                "office_number": f"office {number}",
                "date_time": "2027-12-01T15:30:00",
                "override": True,
                "reason": REASON,
                **personal,
            },
            headers={"Idempotency-Key": f'"{key}-{number}"'},
        )
        for number in numbers
    ]


def misuse(clinic: ClinicProcess, secret: str) -> None:
    """Ask for everything with secrets and marks in places where they do not belong."""
    for path in (f"/{NAME}", f"/appointment/{PHONE}", f"/appointment?from={NAME}"):
        clinic.http.get(path)
        clinic.http.get(path, headers={"Authorization": f"Bearer {WRONG}"})
    for query in (f"token={secret}", f"token={WRONG}", f"office_number=1&token={secret}"):
        clinic.http.get(f"/appointment.ics?{query}", headers={"Authorization": ""})
    clinic.http.get("/appointment", headers={"Cookie": f"session={secret}", "Authorization": ""})
    for body in (f'{{"patient_name": "{NAME}"', f'["{NAME}"]', f'{{"{NAME}": "{PHONE}"}}'):
        clinic.http.post(
            "/appointment", content=body.encode(), headers={"Content-Type": "application/json"}
        )


def test_nothing_of_a_patient_or_a_secret_is_left_anywhere(tmp_path: Path) -> None:
    """Whatever was planted, misused, refused, killed and erased: no file and no row has it."""
    made = run(tmp_path, "token", "make", "desk", "--permission", "desk")
    secret = made.stdout.strip()
    settings = QUICK | LOUD | {"ERROR_PROBABILITY": 0.3, "DEATH_LIMIT": 1}
    with running(tmp_path, **settings) as clinic:
        clinic.http.headers["Authorization"] = f"Bearer {secret}"
        answers = plant(clinic, range(40))
        assert {one.status_code for one in answers} == {201}
        # Another patient's name is none of it.
        others = plant(
            clinic,
            range(40, 60),
            key="other",
            patient_name="Other",
            patient_phone=None,
            note=None,
            reason="other",
        )
        assert {one.status_code for one in others} == {201}
        misuse(clinic, secret)
        for number in range(0, 40, 3):
            path = answers[number].headers["Location"]
            changed = {"note": f"{NOTE} {'x' * number * 7}", "patient_name": NAME.upper()}
            assert clinic.http.patch(path, json=changed).status_code == 200
        for step in ("insert on appointment", "update on appointment", "insert on message"):
            with refused(tmp_path, step):
                plant(clinic, [100])
                clinic.http.patch(answers[1].headers["Location"], json={"note": NOTE})
                until(lambda: "refuse" in clinic.log or "failed" in clinic.log)
        clinic.kill()
    assert leaks(tmp_path, [*PATIENT, WRONG, secret], but="clinic.db") == []
    assert not [mark for mark in PATIENT if mark in rows_of(tmp_path)]
    with running(tmp_path, **settings) as clinic:
        clinic.http.headers["Authorization"] = f"Bearer {secret}"
        assert clinic.http.get("/appointment?limit=1").json()[0]["patient_name"]
        done = run(tmp_path, "patient", "erase", NAME.casefold(), "--yes")
        assert done.returncode == 0, done.stderr
        # In no file, while the clinic has them all open ...
        assert leaks(tmp_path, [*PATIENT, WRONG, secret]) == [], done.stderr
        listed = clinic.http.get("/appointment")
        assert not [mark for mark in PATIENT if mark in listed.text]
        assert len(listed.json()) >= 60
        assert clinic.stop() == 0
    # ... nor afterwards.
    assert leaks(tmp_path, [*PATIENT, WRONG, secret]) == []
    assert "Other" in (tmp_path / "clinic.db").read_bytes().decode(errors="replace")


def test_erasing_killed_in_the_middle_is_taken_up_again(tmp_path: Path) -> None:
    with running(tmp_path) as clinic:
        assert {one.status_code for one in plant(clinic, range(30))} == {201}
        # The last ones cannot be erased, and the command ends; what is done is done.
        execute(
            tmp_path,
            "create trigger refuse before update on appointment when new.id > 20 "
            "begin select raise(abort, 'refused'); end",
        )
        ended = run(tmp_path, "patient", "erase", PHONE, "--yes")
        assert ended.returncode != 0
        assert not [mark for mark in PATIENT if mark in ended.stderr.split("Traceback")[-1]]
        execute(tmp_path, "drop trigger refuse")
        done = run(tmp_path, "patient", "erase", PHONE, "--yes")
        assert done.returncode == 0
        assert leaks(tmp_path, PATIENT) == []
        assert clinic.stop() == 0


def test_what_goes_over_rabbitmq_has_no_patient(
    tmp_path: Path, postgres: Postgres, vhost: str
) -> None:
    url = postgres.create_database("secrets")
    settings = {"DATABASE_URL": url, "AMQP_URL": vhost, **LOUD}
    with running(tmp_path, "--role", "api", **settings) as clinic:
        answers = plant(clinic, range(20))
        for one in answers:
            clinic.http.patch(one.headers["Location"], json={"note": NOTE, "patient_name": NAME})
            clinic.http.patch(one.headers["Location"], json={"note": f"{NOTE}!"})
        assert run(tmp_path, "patient", "export", NAME, "--json", **settings).returncode == 0
        done = run(tmp_path, "patient", "erase", PHONE, "--yes", **settings)
        assert (done.returncode, done.stdout) == (0, "Erased from 20 appointments.\n")
        published: list[bytes] = []
        until(lambda: len(taken(vhost, published)) >= 60)
        assert clinic.stop() == 0
    assert len(published) == 60
    (tmp_path / "published").write_bytes(b"\n".join(published))
    tables = postgres.execute(
        "select table_name from information_schema.tables where table_schema = 'public'", "secrets"
    ).split()
    assert "appointment" in tables
    for table in tables:
        (tmp_path / table).write_text(postgres.execute(f"select * from {table}", "secrets"))
    assert leaks(tmp_path, PATIENT) == []
    postgres.drop_database("secrets")


def taken(url: str, found: list[bytes]) -> list[bytes]:
    """Take what is in the main queue: each message with its properties."""

    async def take() -> None:
        connection = await aiormq.connect(url)
        channel = await connection.channel()
        while (message := await channel.basic_get("rmq-for-retries", no_ack=True)).body:
            found.append(f"{message.header.properties!r} {message.body.decode()}".encode())
        await connection.close()

    asyncio.run(take())
    return found


def test_no_password_of_a_url_is_written_anywhere(tmp_path: Path) -> None:
    encoded = quote(PASSWORD, safe="")
    away: dict[str, Any] = {
        "DATABASE_URL": f"postgresql://clinic:{encoded}@127.0.0.1:1/clinic",
        "AMQP_URL": f"amqp://clinic:{encoded}@127.0.0.1:1/",
    }
    said = ""
    for arguments in (
        ("migrate",),
        ("token", "list"),
        ("backup", "file"),
        ("patient", "export", "Анна Ли"),
    ):
        done = run(tmp_path, *arguments, **away, **LOUD)
        assert done.returncode in (1, 2)
        said += done.stdout + done.stderr
    with closing(ClinicProcess(tmp_path, **away, **LOUD)) as clinic:
        until(lambda: "cannot be reached" in clinic.log)
        assert clinic.stop() == 0
    (tmp_path / "said").write_text(said)
    assert leaks(tmp_path, [PASSWORD, encoded, "p4ss"]) == []
