"""The door: ``python clinic.py --help``."""

import sys

if __name__ == "__main__":
    try:
        from clinic.cli import main
    except ModuleNotFoundError as missing:
        sys.exit(
            f"clinic: the Python package {missing.name} is missing here. scripts/run installs what "
            "is needed into .venv and starts the clinic from there."
        )
    sys.exit(main())
