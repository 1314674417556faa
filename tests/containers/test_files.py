"""The Dockerfile and the compose file keep their promises; linters and schemas judge them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clinic.access.token import FORM
from clinic.settings import Settings
from tests.containers.files import (
    COMPOSE,
    DOCKERFILE,
    FINAL,
    OURS,
    PROJECT,
    SERVICES,
    STAGES,
    arguments,
    image_environment,
    only,
)
from tests.process.clinic import ROOT
from tests.process.test_start import run as clinic
from tests.servers.rabbit import ADVANCED_CONFIG

FIRST_TOKEN = "first-token"
# Those that run our image, as its own user and without a volume.
PROGRAMS = (FIRST_TOKEN, *OURS)

every_service = pytest.mark.parametrize("name", SERVICES)


def run(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def lint(text: str) -> subprocess.CompletedProcess[str]:
    linter = str(Path(sys.executable).with_name("hadolint"))
    return run(linter, "--no-color", "--failure-threshold", "style", "-", text=text)


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    """Hold a file against the compose specification's schema, which the package brings along."""
    schema = ["--builtin-schema", "vendor.compose-spec"]
    return run(sys.executable, "-m", "check_jsonschema", *schema, str(path))


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    verdict = lint(DOCKERFILE)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert (
        "DL3025" in lint(DOCKERFILE.replace('["python", "clinic.py"]', "python clinic.py")).stdout
    )


def test_the_base_is_slim_and_pinned_to_a_minor_version() -> None:
    names: set[str] = set()
    for stage in STAGES:
        image, *name = only(stage, "FROM").split(" AS ")
        assert image in names or re.fullmatch(r"python:3\.\d+(\.\d+)?-slim-\w+", image)
        names.update(name)


def test_dependencies_come_as_wheels_from_the_locked_file() -> None:
    (install,) = [run for stage in STAGES for run in arguments(stage, "RUN") if " install" in run]
    for option in ("--require-hashes", "--only-binary :all:", "--no-cache-dir"):
        assert option in install
    assert "--requirement requirements.txt" in install


def test_the_final_stage_installs_nothing() -> None:
    assert not re.search(r"\b(pip|apt|apt-get|gcc|make)\b", " ".join(arguments(FINAL, "RUN")))
    assert all(copy.startswith("--from=build ") for copy in arguments(FINAL, "COPY"))


def test_the_program_itself_is_started_by_a_user_who_is_a_number_and_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", only(FINAL, "USER"))
    assert json.loads(only(FINAL, "ENTRYPOINT")) == ["python", "clinic.py"]
    assert not arguments(FINAL, "CMD")
    assert only(FINAL, "STOPSIGNAL") == "SIGTERM"
    assert image_environment()["CLINIC_HOST"] == "0.0.0.0"


def test_the_build_sees_only_what_it_copies() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    copied = {copy.split()[0] for copy in arguments(STAGES[1], "COPY")}
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied


@pytest.mark.parametrize("filled", [False, True], ids=["as written", "filled in"])
def test_the_compose_file_follows_the_specification(*, filled: bool, tmp_path: Path) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text(yaml.safe_dump(PROJECT) if filled else COMPOSE)
    verdict = validate(path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    path.write_text(COMPOSE.replace("read_only:", "readonly:"))
    assert validate(path).returncode != 0


@every_service
def test_a_service_has_a_health_check_and_publishes_on_loopback_only(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    if name == FIRST_TOKEN:
        assert check == {"disable": True}  # it ends by itself
        return
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    assert "network_mode" not in SERVICES[name]


def test_only_the_api_and_the_management_interface_are_published() -> None:
    published = {
        (name, int(port.rpartition(":")[2]))
        for name, service in SERVICES.items()
        for port in service.get("ports", [])
    }
    assert published == {("api", 8000), ("rabbit", 15672)}


@every_service
def test_a_service_is_confined_and_keeps_its_data_in_named_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "pid", "ipc", "devices"} & set(service)
    assert name in PROGRAMS or service["user"] not in {"root", "0"}
    for volume in service.get("volumes", []):
        assert volume.split(":")[0] in PROJECT["volumes"]
    assert name in PROGRAMS or service["volumes"]


def test_services_start_in_order_and_only_behind_healthy_ones() -> None:
    assert set(SERVICES) == {"db", "rabbit", FIRST_TOKEN, *OURS}
    behind = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert set(behind[FIRST_TOKEN]) == {"db"}
    assert set(behind["api"]) == {"db", "rabbit", FIRST_TOKEN}
    assert set(behind["consumer"]) == {"db", "rabbit", "api"}
    for waits in behind.values():
        for name, wait in waits.items():
            ended = name == FIRST_TOKEN
            awaited = "service_completed_successfully" if ended else "service_healthy"
            assert wait["condition"] == awaited


def test_the_first_token_is_made_by_a_command_that_there_is(tmp_path: Path) -> None:
    service = SERVICES[FIRST_TOKEN]
    assert service["restart"] == "no"
    done = clinic(tmp_path, *service["command"])
    assert FORM.fullmatch(done.stdout.strip())
    again = clinic(tmp_path, *service["command"])
    assert (again.returncode, again.stdout) == (0, "")
    assert "token has been made already" in again.stderr


def test_one_image_is_built_once_and_the_consumer_can_be_scaled() -> None:
    assert len({SERVICES[name]["image"] for name in PROGRAMS}) == 1
    # By the one that the others wait for.
    assert [name for name, service in SERVICES.items() if "build" in service] == [FIRST_TOKEN]
    assert not {"container_name", "hostname", "ports", "volumes"} & set(SERVICES["consumer"])


def test_rabbitmq_is_given_the_file_that_the_servers_under_test_read() -> None:
    (config,) = SERVICES["rabbit"]["configs"]
    assert config["target"] == "/etc/rabbitmq/advanced.config"  # where it looks by itself
    file = ROOT / PROJECT["configs"][config["source"]]["file"]
    assert file.samefile(ADVANCED_CONFIG)
    assert file.stat().st_mode & 0o004  # it runs as a user of its own


@pytest.mark.parametrize("name", OURS)
def test_ours_are_told_where_the_servers_are_in_settings_that_exist(name: str) -> None:
    environment = SERVICES[name]["environment"]
    db, rabbit = (SERVICES[server]["environment"] for server in ("db", "rabbit"))
    assert (environment["DB_HOST"], environment["RMQ_HOST"]) == ("db", "rabbit")
    assert environment["DB_NAME"] == db["POSTGRES_DB"]
    assert environment["DB_USER"] == db["POSTGRES_USER"]
    assert environment["RMQ_USER"] == rabbit["RABBITMQ_DEFAULT_USER"] != "guest"
    assert environment["CLINIC_ROLE"] == name
    known = {
        choice
        for field in Settings.model_fields.values()
        for choice in field.validation_alias.choices  # type: ignore[union-attr]
    }
    assert set(environment) <= known


@pytest.mark.parametrize("name", OURS)
def test_every_setting_of_the_example_is_handed_on(name: str) -> None:
    explained = set(re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    environment: dict[str, str | None] = yaml.safe_load(COMPOSE)["services"][name]["environment"]
    handed_on = {
        setting
        for setting, value in environment.items()
        if value is None or re.match(rf"\$\{{{setting}:[-?]", value)
    }
    # What a service is decides its role; inside its container it listens where it is published.
    published = {"CLINIC_HOST", "CLINIC_PORT"}
    assert explained - handed_on == {"CLINIC_ROLE"} | published
    (port,) = yaml.safe_load(COMPOSE)["services"]["api"]["ports"]
    assert published == set(re.findall(r"\$\{(\w+):-", port))


def test_the_image_runs_with_every_setting_handed_on_and_none_set() -> None:
    """Compose leaves out what .env does not have, and hands on what it has empty."""
    given = {name: str(value or "") for name, value in SERVICES["api"]["environment"].items()}
    code = "from clinic.settings import read_settings; print(read_settings({}).database_url)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**given, "PYTHONPATH": str(ROOT)},
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("postgresql://clinic:")


@pytest.mark.parametrize("name", OURS)
def test_ours_are_given_longer_to_stop_than_they_take(name: str) -> None:
    grace = float(SERVICES[name]["environment"]["CLINIC_GRACE_SECONDS"])
    assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= grace + 10
    # The kernel drops a SIGTERM to a first process that has not installed its handler yet.
    assert SERVICES[name]["init"] is True


def test_the_passwords_alone_are_asked_for() -> None:
    variables = set(re.findall(r"(?<!\$)\$\{(\w+)(:[-?])", COMPOSE))
    assert {name for name, kind in variables if kind == ":?"} == {"DB_PASS", "RMQ_PASS"}
