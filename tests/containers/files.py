"""The Dockerfile and the compose file, taken apart."""

import json
import re
from typing import Any

import yaml

from tests.process.clinic import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()

Stage = list[tuple[str, str]]


def stages(text: str) -> list[Stage]:
    """Split a Dockerfile into stages of (instruction, argument), without comments."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        if line.strip():
            word, argument = line.split(maxsplit=1)
            if word == "FROM":
                found.append([])
            found[-1].append((word, argument))
    return found


STAGES = stages(DOCKERFILE)
FINAL = STAGES[-1]


def arguments(stage: Stage, word: str) -> list[str]:
    return [argument for instruction, argument in stage if instruction == word]


def only(stage: Stage, word: str) -> str:
    (argument,) = arguments(stage, word)
    return argument


def image_environment() -> dict[str, str]:
    """Return what ENV sets in the base stage and in the final one."""
    settings = " ".join(arguments(STAGES[0], "ENV") + arguments(FINAL, "ENV"))
    return dict(pair.split("=", 1) for pair in settings.split())


# As written, but with the defaults of its variables filled in.
PROJECT: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+:[-?]([^}]*)\}", r"\1", COMPOSE))
SERVICES: dict[str, Any] = PROJECT["services"]
OURS = ("api", "consumer")


def health_checks() -> dict[str, list[str]]:
    """Return the health checks of our services and of the image itself, as commands."""
    checks: dict[str, list[str]] = {
        name: SERVICES[name]["healthcheck"]["test"][1:] for name in OURS
    }
    checks["image"] = json.loads(only(FINAL, "HEALTHCHECK").partition("CMD ")[2])
    return checks
