"""Ask a person before what cannot be undone."""

import sys

from clinic.cli.output import tell


def agreed(question: str, *, yes: bool) -> bool:
    """Tell whether a person agrees; ``yes`` says so in advance, as a script has to."""
    if yes:
        return True
    if not sys.stdin.isatty():
        tell(f"{question} Say --yes to do it; nothing was done.")
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - for a person
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    tell("Nothing was done.")
    return False
