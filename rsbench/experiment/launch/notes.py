"""Lines of a launcher that belong to no job."""

from __future__ import annotations

import logging


def note(line: str) -> None:
    """Say one line on stderr, above whatever is drawn there."""
    logging.getLogger("rsbench").warning(line)
