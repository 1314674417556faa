"""What a process under test, or measured, knows of the world."""

import os
from collections.abc import Mapping

# The last is how scripts/coverage reaches processes that tests start.
KEPT = ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_CONFIG")


def clean_environment(environment: Mapping[str, object]) -> dict[str, str]:
    """Return an environment with these settings and no others."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    # Tests look for what people read; what programs read has tests of its own.
    kept["CLINIC_LOG_FORMAT"] = "text"
    return kept | {name: str(value) for name, value in environment.items()}
