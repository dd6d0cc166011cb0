"""What torchrun tells a process about itself. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rsbench.errors import UsageError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""Environment variables of torchrun; ``WORLD_SIZE`` alone is set by clusters too."""


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is.

    Attributes:
        rank: from 0, the first.
        size: number of processes on all machines.
        local: position on this machine, which is the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0


def place() -> Place:
    """The place of this process; the only one where torchrun did not start it.

    Raises:
        UsageError: the variables hold no numbers.
    """
    if not all(n in os.environ for n in NAMES):
        return Place()
    try:
        return Place(*(int(os.environ[n]) for n in NAMES))
    except ValueError:
        given = ", ".join(f"{n}={os.environ[n]}" for n in NAMES)
        raise UsageError(f"{given}: these must be numbers; let torchrun set them, or unset them") from None
