"""The settings: each line of .env.example is tried, right and wrong."""

import itertools
import re
from pathlib import Path

import pytest

from clinic import cli, parts
from clinic.addresses import is_misread
from clinic.database import BadDatabaseURL, read_database_url
from clinic.settings import BadSetting, Settings, read_settings
from tests.process.clinic import ROOT, running
from tests.process.test_start import plain_line, run

LINES = re.findall(r"^#([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
NAMES = [name for name, _ in LINES]

NO_HOST = ("db/clinic", "clinic@db", "d b", "a\nb")
NO_TEXT = ("a\nb", "a\tb", "a\x7f")
NO_QUEUE = (*NO_TEXT, "q" * 256, "ё" * 128)
# Values that no numeric setting can have.
NO_NUMBER = ("inf", "-inf", "nan", "1e15", "1e400", "0x10", "-1", "9" * 400, "ten", "1 2", "1,5")
NO_WHOLE_NUMBER = (*NO_NUMBER, "1.5")
WRONG: dict[str, tuple[str, ...]] = {
    "CLINIC_ROLE": ("al", "API,consumer"),
    "CLINIC_HOST": NO_HOST,
    "CLINIC_PORT": (*NO_WHOLE_NUMBER, "0", "65536", "tcp://10.0.0.1:80"),
    "CLINIC_HOSTS": (
        "clinic.example:8000",
        "http://clinic.example",
        "a,,b",
        "a b",
        "10.0.0.5:8000",
        "cafe:8000",
        "[::1]:8000",
        "[::1",
        "::1]",
        "[10.0.0.5]",
        "1:2:3",
        "fe80::1%eth0/64",
        "..",
    ),
    "CLINIC_ROOT_PATH": ("clinic", "/a b", "/a//b", "/..", "/a?b", "/appointment", "/docs/x"),
    "CLINIC_CORS_ORIGINS": (
        "clinic.example",
        "https://clinic.example/",
        "https://clinic.example,",
        "*",
        "null",
        "https://user@clinic.example",
        "HTTPS://Clinic.Example",
    ),
    "API_TOKENS_FILE": ("missing.txt", ".", "/dev/null/tokens", *NO_TEXT),
    "CLINIC_ALLOW_ANONYMOUS": ("2", "maybe", "-1"),
    "CLINIC_REQUESTS_PER_SECOND": (*NO_NUMBER, "0", "1000001"),
    "CLINIC_KEEP_ALIVE_SECONDS": (*NO_NUMBER, "0", "3601"),
    "CLINIC_GRACE_SECONDS": (*NO_NUMBER, "3601"),
    "CLINIC_LOG_LEVEL": ("loud", "10"),
    "CLINIC_LOG_FORMAT": ("yaml", "JSON"),
    "CLINIC_TIMEZONE": ("Europe/Moskow", "../etc/passwd", "/etc/localtime", "+03:00", "a\nb"),
    "APPOINTMENT_MINUTES": (*NO_WHOLE_NUMBER, "0", "1441"),
    "CLINIC_RETENTION_DAYS": (*NO_WHOLE_NUMBER, "0", "36501"),
    "CLINIC_REGISTRY": ("shut", "Closed", "true"),
    "CLINIC_WAITING_ALARM_MINUTES": (*NO_WHOLE_NUMBER, "0", "1441"),
    "CLINIC_HOURS": (
        "08:00",
        "8-20",
        "20:00-08:00",
        "08:00-08:00",
        "08:00-24:01",
        "08:60-20:00",
        "[480,1200]",
        "08:00-20:00\n",
    ),
    "DATABASE_URL": (
        "clinic.db",
        "mysql://db/clinic",
        "sqlite:///a?b",
        "sqlite:///:memory:",
        "postgresql://db",
        "postgresql://db/clinic?sslmode=on",
        "postgresql://db/clinic?sslmode=verify-full&sslrootcert=/missing.pem",
        "postgresql://db/clinic?pool=1",
    ),
    "DB_HOST": NO_HOST,
    "DB_PORT": (*NO_WHOLE_NUMBER, "0", "65536"),
    "DB_NAME": NO_TEXT,
    "DB_USER": NO_TEXT,
    "DB_PASS": NO_TEXT,
    "AMQP_URL": ("rabbit", "http://rabbit", "amqp://", "amqp://rabbit/?heartbeat=0"),
    "RMQ_HOST": NO_HOST,
    "RMQ_PORT": (*NO_WHOLE_NUMBER, "0", "65536"),
    "RMQ_USER": NO_TEXT,
    "RMQ_PASS": NO_TEXT,
    "RMQ_FOR_RETRIES": NO_QUEUE,
    "RMX_FOR_RETRIES": NO_QUEUE,
    "DLQ_FOR_RETRIES": NO_QUEUE,
    "DLX_FOR_RETRIES": NO_QUEUE,
    "RMQ_NOT_SOLVED": NO_QUEUE,
    "CLINIC_QUEUE_TYPE": ("stream", "Quorum"),
    "TTL_FOR_RETRIES": (*NO_WHOLE_NUMBER, "0", str(2**32), "10 seconds"),
    "DEATH_LIMIT": (*NO_WHOLE_NUMBER, "1001"),
    "ERROR_PROBABILITY": (*NO_NUMBER, "1.5"),
    "CLINIC_LEASE_SECONDS": (*NO_NUMBER, "0", "3601"),
    "CLINIC_BEHIND_SECONDS": (*NO_NUMBER, "0"),
    "CLINIC_MESSAGES_KEPT_DAYS": (*NO_WHOLE_NUMBER, "0", "3651"),
    "CLINIC_REPUBLISH_SECONDS": (*NO_NUMBER, "0", "31536001"),
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def read() -> Settings:
    settings = read_settings({})
    parts.check(settings)
    return settings


@pytest.mark.parametrize(("name", "value"), LINES)
def test_each_line_of_the_example_works_and_is_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    default = read()
    monkeypatch.setenv(name, value)
    assert where_it_matters(read()) == where_it_matters(default)
    monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(f"{name}={value}\n")
    assert where_it_matters(read()) == where_it_matters(default)


def where_it_matters(settings: Settings) -> dict[str, object]:
    """Return what the clinic makes of the settings, and not by which of them that was said."""
    given = {name for name in Settings.model_fields if name.startswith("given_")}
    known = settings.model_dump(exclude=given)
    return known | {name: getattr(settings, name) for name in ("port", "database_url", "amqp_url")}


def test_a_process_starts_with_all_lines_of_the_example(tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in LINES]
    (tmp_path / ".env").write_text("\n".join(lines))
    with running(tmp_path, **dict(LINES) | {"CLINIC_PORT": ""}) as clinic:
        assert clinic.book().status_code == 201
        assert clinic.stop() == 0
    assert sorted(WRONG) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_setting_cannot_be_is_refused_in_one_line_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    for value in WRONG[name]:
        monkeypatch.setenv(name, value)
        with pytest.raises((BadSetting, BadDatabaseURL, ValueError)) as refused:
            read()
        text = str(refused.value)
        assert text.startswith(f"{name}: ")
        assert text.isprintable()
        assert len(text) < 300
    assert value not in text or len(value) < 3
    monkeypatch.setenv(name, WRONG[name][0])
    assert cli.main([]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"clinic: {name}: ")


QUEUES = ("RMQ_FOR_RETRIES", "DLQ_FOR_RETRIES", "RMQ_NOT_SOLVED")


@pytest.mark.parametrize(
    ("first", "second"),
    [*itertools.combinations(QUEUES, 2), ("RMX_FOR_RETRIES", "DLX_FOR_RETRIES")],
)
def test_two_queues_or_exchanges_of_the_same_name_are_refused(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    monkeypatch.setenv(first, "same")
    assert read()
    monkeypatch.setenv(second, "same")
    with pytest.raises(BadSetting, match=f"^{second}: .* {first}$"):
        read()


def test_the_hosts_of_the_clinic_are_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINIC_HOSTS", "clinic.example, 10.0.0.5,[::1],2001:DB8::2,Пример.рф")
    hosts = ("clinic.example", "10.0.0.5", "::1", "2001:db8::2", "xn--e1afmkfd.xn--p1ai")
    assert read_settings({}).hosts == hosts


def test_the_hours_of_the_clinic_are_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINIC_HOURS", "09:30-24:00")
    assert read().hours == (570, 1440)


@pytest.mark.parametrize(("ttl", "deaths"), [("1", "0"), ("10_000", "3"), (str(2**32 - 1), "1000")])
def test_the_default_of_the_republishing_has_bounds(
    monkeypatch: pytest.MonkeyPatch, ttl: str, deaths: str
) -> None:
    monkeypatch.setenv("TTL_FOR_RETRIES", ttl)
    monkeypatch.setenv("DEATH_LIMIT", deaths)
    assert 60 <= read().again_after.total_seconds() <= 31_536_000


SECRETS = (
    *("qa%ky", "qa@ky", "qa/ky", "qa?ky", "qa#ky", "91/3@x", "91?3@x", "91#3@x"),
    *("%", "%4", "100%zz@1", "q ky", "q\nky", "q[ky", "q]ky"),
)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("name", ["DATABASE_URL", "AMQP_URL"])
def test_a_password_that_is_not_encoded_is_refused_and_nothing_of_it_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, secret: str
) -> None:
    scheme = "postgresql" if name == "DATABASE_URL" else "amqp"
    monkeypatch.setenv(name, f"{scheme}://user:Xy{secret}Zw@host.example:1234/name")
    with pytest.raises((BadSetting, BadDatabaseURL, ValueError)) as refused:
        read()
    text = str(refused.value)
    assert text.startswith(f"{name}: ")
    assert not re.search(r"Xy|Zw|qa|ky|91|zz", text)
    assert refused.value.__cause__ is None


def test_a_password_that_is_not_encoded_is_refused_by_the_process(tmp_path: Path) -> None:
    for name, scheme in (("DATABASE_URL", "postgresql"), ("AMQP_URL", "amqp")):
        line = plain_line(run(tmp_path, **{name: f"{scheme}://user:12/3@Xy@host/name"}))
        assert "%40" in line
        assert "Xy" not in line


@pytest.mark.parametrize("secret", [*SECRETS[:-3], "p@:/?#[]%25 &=+é"])
def test_a_password_in_parts_may_hold_every_character(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    for part in ("DB", "RMQ"):
        monkeypatch.setenv(f"{part}_HOST", "host.example")
        monkeypatch.setenv(f"{part}_PASS", secret)
        monkeypatch.setenv(f"{part}_USER", secret)
    settings = read()
    assert not is_misread(settings.database_url)
    assert "host.example" in str(read_database_url(settings.database_url))
