"""The settings: flags, then the environment, then ``.env``, then defaults; read once."""

import contextlib
import datetime
import difflib
import ipaddress
import itertools
import re
import zoneinfo
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_FILE = Path(".env")
# Python has surrogates for bytes of the environment that are no UTF-8.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# In bytes: https://www.rabbitmq.com/docs/queues#names
LONGEST_QUEUE_NAME = 255


class BadSetting(Exception):
    """A setting cannot be used; the message names it and says what it must be, never its value."""


class Role(StrEnum):
    """What a process does."""

    ALL = "all"
    """Everything: a whole clinic in one process."""
    API = "api"
    """Serve HTTP, and relay events to the broker."""
    CONSUMER = "consumer"
    """Record events for analytics; serves only its health over HTTP."""


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def read_zone(value: object) -> object:
    """Return the time zone of a name such as Europe/Moscow."""
    try:
        return zoneinfo.ZoneInfo(value) if isinstance(value, str) else value
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise PydanticCustomError(
            "zone", "must be a time zone such as Europe/Moscow, or UTC"
        ) from None


def read_hours(value: object) -> object:
    """Return the minutes since midnight at which a text such as 08:00-20:00 begins and ends."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch("([0-9]{2}):([0-5][0-9])-([0-9]{2}):([0-5][0-9])", value)
    if found:
        opens, closes = (int(found[i]) * 60 + int(found[i + 1]) for i in (1, 3))
        if opens < closes <= 24 * 60:
            return opens, closes
    raise PydanticCustomError("hours", "must be hours such as 08:00-20:00, within one day")


def read_hosts(value: object) -> object:
    """Return the host names in a text such as clinic.example,10.0.0.5."""
    if not isinstance(value, str):
        return value
    with contextlib.suppress(ValueError):
        return tuple(read_host(name.strip()) for name in value.split(","))
    raise PydanticCustomError(
        "hosts", "must be names or addresses such as clinic.example,10.0.0.5, without ports"
    )


def read_host(name: str) -> str:
    """Return a host's name or address without brackets.

    Raises:
        ValueError: it is neither, or has a port.
    """
    if ":" in name:
        address = name[1:-1] if name.startswith("[") and name.endswith("]") else name
        return str(ipaddress.IPv6Address(address))
    encoded = name.encode("idna").decode()
    if re.fullmatch("[0-9A-Za-z._-]{1,255}", encoded) and encoded.strip("."):
        return encoded
    raise ValueError(name)


def read_origins(value: object) -> object:
    """Return the origins in a text such as https://clinic.example,https://desk.example:8443."""
    if not isinstance(value, str):
        return value
    origins = tuple(origin.strip() for origin in value.split(","))
    if all(re.fullmatch("https?://[0-9a-z.-]{1,255}(:[0-9]{1,5})?", one) for one in origins):
        return origins
    raise PydanticCustomError(
        "origins", "must be origins as browsers send them, such as https://clinic.example"
    )


def read_root_path(value: object) -> object:
    """Return a path such as /clinic, without a slash at its end."""
    if not isinstance(value, str):
        return value
    path = value.rstrip("/")
    if re.fullmatch(r"(/[0-9A-Za-z._~-]*[0-9A-Za-z_~-][0-9A-Za-z._~-]*)*", path):
        return path
    raise PydanticCustomError("root_path", "must be a path such as /clinic")


def check_text(value: str) -> str:
    """Return a text that fits into one line, and into UTF-8."""
    if CONTROL.search(value):
        raise PydanticCustomError(
            "text", "must be UTF-8 without line breaks and other control characters"
        )
    return value


def check_queue_name(value: str) -> str:
    """Return the name of a queue or exchange."""
    if len(value.encode()) > LONGEST_QUEUE_NAME:
        raise PydanticCustomError("queue", "must be no longer than 255 bytes")
    return value


def check_host(value: str) -> str:
    """Return the name or the address of a machine."""
    if re.search(r"[\s/@?#]", value):
        raise PydanticCustomError(
            "host", "must be the name or the address of a machine alone, such as db.example"
        )
    return value


def setting(name: str, default: Any) -> Any:
    """Return a field that is set by the environment variable of this name."""
    return Field(default=default, validation_alias=AliasChoices(name))


Text = Annotated[str, AfterValidator(check_text)]
Secret = Annotated[
    SecretStr, AfterValidator(lambda secret: SecretStr(check_text(secret.get_secret_value())))
]
Host = Annotated[Text, AfterValidator(check_host)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]
QueueName = Annotated[Text, AfterValidator(check_queue_name)]
# One year: with all doublings (outbox.MOST_DOUBLINGS) the result is still a valid date.
LONGEST_REPUBLISH_SECONDS = 365 * 24 * 3600.0


class Settings(BaseSettings):
    """All settings; ``.env.example`` explains each."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    role: Role = setting("CLINIC_ROLE", Role.ALL)
    host: Host = setting("CLINIC_HOST", "127.0.0.1")
    given_port: Port | None = setting("CLINIC_PORT", None)
    # NoDecode, or pydantic-settings takes the text of a tuple for JSON before any validator.
    hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_hosts)] = setting(
        "CLINIC_HOSTS", ()
    )
    root_path: Annotated[str, BeforeValidator(read_root_path)] = setting("CLINIC_ROOT_PATH", "")
    # NoDecode, as for `hosts`.
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_origins)] = setting(
        "CLINIC_CORS_ORIGINS", ()
    )
    tokens_file: Text | None = setting("API_TOKENS_FILE", None)
    allow_anonymous: bool = setting("CLINIC_ALLOW_ANONYMOUS", False)
    requests_per_second: Annotated[Number, Field(ge=0.1, le=1_000_000)] | None = setting(
        "CLINIC_REQUESTS_PER_SECOND", None
    )
    zone: Annotated[zoneinfo.ZoneInfo, BeforeValidator(read_zone)] = setting(
        "CLINIC_TIMEZONE", zoneinfo.ZoneInfo("UTC")
    )
    grace_seconds: Annotated[Number, Field(ge=0, le=3600)] = setting("CLINIC_GRACE_SECONDS", 10.0)
    lease_seconds: Annotated[Number, Field(ge=1, le=3600)] = setting("CLINIC_LEASE_SECONDS", 30.0)
    keep_alive_seconds: Annotated[Number, Field(ge=1, le=3600)] = setting(
        "CLINIC_KEEP_ALIVE_SECONDS", 75.0
    )
    log_level: LogLevel = setting("CLINIC_LOG_LEVEL", LogLevel.INFO)
    log_format: Literal["auto", "text", "json"] = setting("CLINIC_LOG_FORMAT", "auto")
    # NoDecode, as for `hosts`.
    hours: Annotated[tuple[int, int], NoDecode, BeforeValidator(read_hours)] = setting(
        "CLINIC_HOURS", (8 * 60, 20 * 60)
    )
    appointment_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = setting(
        "APPOINTMENT_MINUTES", 15
    )
    registry: Literal["open", "closed"] = setting("CLINIC_REGISTRY", "open")
    waiting_alarm_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = setting(
        "CLINIC_WAITING_ALARM_MINUTES", 20
    )

    retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = setting(
        "CLINIC_RETENTION_DAYS", None
    )

    given_database_url: Secret | None = setting("DATABASE_URL", None)
    db_host: Host | None = setting("DB_HOST", None)
    db_port: Port = setting("DB_PORT", 5432)
    db_name: Text = setting("DB_NAME", "clinic")
    db_user: Text = setting("DB_USER", "clinic")
    db_pass: Secret | None = setting("DB_PASS", None)

    given_amqp_url: Secret | None = setting("AMQP_URL", None)
    rmq_host: Host | None = setting("RMQ_HOST", None)
    rmq_port: Port = setting("RMQ_PORT", 5672)
    rmq_user: Text = setting("RMQ_USER", "guest")
    rmq_pass: Secret = setting("RMQ_PASS", SecretStr("guest"))

    queue_type: Literal["quorum", "classic"] = setting("CLINIC_QUEUE_TYPE", "quorum")
    main_queue: QueueName = setting("RMQ_FOR_RETRIES", "rmq-for-retries")
    main_exchange: QueueName = setting("RMX_FOR_RETRIES", "rmx-for-retries")
    dead_letter_queue: QueueName = setting("DLQ_FOR_RETRIES", "dlq-for-retries")
    dead_letter_exchange: QueueName = setting("DLX_FOR_RETRIES", "dlx-for-retries")
    not_solved_queue: QueueName = setting("RMQ_NOT_SOLVED", "rmq-not-solved")
    # RabbitMQ keeps a TTL in 32 bits: https://www.rabbitmq.com/docs/ttl
    ttl_ms: Annotated[int, Field(ge=1, le=2**32 - 1)] = setting("TTL_FOR_RETRIES", 10_000)
    death_limit: Annotated[int, Field(ge=0, le=1000)] = setting("DEATH_LIMIT", 3)
    behind_seconds: Annotated[Number, Field(gt=0, le=LONGEST_REPUBLISH_SECONDS)] = setting(
        "CLINIC_BEHIND_SECONDS", 300.0
    )
    republish_seconds: Annotated[Number, Field(ge=1, le=LONGEST_REPUBLISH_SECONDS)] | None = (
        setting("CLINIC_REPUBLISH_SECONDS", None)
    )
    error_probability: Annotated[Number, Field(ge=0, le=1)] = setting("ERROR_PROBABILITY", 0.0)
    messages_kept_days: Annotated[int, Field(ge=1, le=3650)] = setting(
        "CLINIC_MESSAGES_KEPT_DAYS", 30
    )

    @property
    def port(self) -> int:
        """The port that was set, or the role's own."""
        return self.given_port or (8001 if self.role is Role.CONSUMER else 8000)

    @property
    def again_after(self) -> datetime.timedelta:
        """After how long an event that was published and is not settled is published again.

        Unless set: ten times what all its retries may take, a minute at least, a year at most.
        """
        retries = (self.death_limit + 1) * self.ttl_ms / 1000
        seconds = self.republish_seconds or max(60, 10 * retries)
        return datetime.timedelta(seconds=min(seconds, LONGEST_REPUBLISH_SECONDS))

    @property
    def database_url(self) -> str:
        """Where the database is: PostgreSQL, if it is named, or a file here."""
        if self.given_database_url:
            return self.given_database_url.get_secret_value()
        if not self.db_host:
            return "sqlite:///clinic.db"
        login = _login(self.db_user, self.db_pass)
        return f"postgresql://{login}{_host(self.db_host)}:{self.db_port}/{_quoted(self.db_name)}"

    @property
    def amqp_url(self) -> str | None:
        """Where RabbitMQ is, or None if messages are kept in the database."""
        if self.given_amqp_url:
            return self.given_amqp_url.get_secret_value()
        if not self.rmq_host:
            return None
        login = _login(self.rmq_user, self.rmq_pass)
        return f"amqp://{login}{_host(self.rmq_host)}:{self.rmq_port}/"


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _login(user: str, password: SecretStr | None) -> str:
    secret = f":{_quoted(password.get_secret_value())}" if password else ""
    return f"{_quoted(user)}{secret}@"


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def read_settings(flags: Mapping[str, Any]) -> Settings:
    """Return the settings; ``flags`` are those given on the command line, by setting's name.

    Raises:
        BadSetting: one is misspelt or impossible.
    """
    known = [
        str(name)
        for field in Settings.model_fields.values()
        if isinstance(field.validation_alias, AliasChoices)
        for name in field.validation_alias.choices
    ]
    try:
        names_in_file = dotenv_values(ENV_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{ENV_FILE} cannot be read: {error}") from error
    for name in names_in_file:
        # Other programs may keep settings in the same file, but a name close to ours is misspelt.
        close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.85)
        if close and name.upper() != close[0]:
            raise BadSetting(f"{name} in {ENV_FILE} is not a setting; did you mean {close[0]}?")
    try:
        settings = Settings(**flags)
    except ValidationError as error:
        sentences = [
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise BadSetting("; ".join(sentences)) from None
    check_names_differ(settings)
    return settings


def check_names_differ(settings: Settings) -> None:
    """Check that no queue or exchange is two things at once.

    A message that is set aside into the queue it came from would come back for ever.

    Raises:
        BadSetting: two have the same name.
    """
    for kind, names in {
        "queue": ("main_queue", "dead_letter_queue", "not_solved_queue"),
        "exchange": ("main_exchange", "dead_letter_exchange"),
    }.items():
        for first, second in itertools.combinations(names, 2):
            if getattr(settings, first) == getattr(settings, second):
                raise BadSetting(
                    f"{variable_of(second)}: must not be the same {kind} as {variable_of(first)}"
                )


def variable_of(field: str) -> str:
    """Return the environment variable that sets a field."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else field
