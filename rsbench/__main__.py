"""``python -m rsbench``."""

from __future__ import annotations

import sys

from rsbench.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
