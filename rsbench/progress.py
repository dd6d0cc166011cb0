"""How long work reports how far it is; the command line draws it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total); done == total ends the bar."""


def silent(what: str, done: int, total: int) -> None:
    """A ``Progress`` that shows nothing."""
    del what, done, total
