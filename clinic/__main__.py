"""``python -m clinic``, the same as ``python clinic.py``."""

import sys

from clinic.cli import main

if __name__ == "__main__":
    sys.exit(main())
