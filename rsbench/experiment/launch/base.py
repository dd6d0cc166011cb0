"""What every launcher takes and gives. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rsbench.experiment.plan import Job


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Attributes:
        status: ``done``, ``failed`` or ``busy``.
        error: the reason, where it is not done.
        result: the stored result, where it is done.
    """

    job: Job
    status: str
    error: str = ""
    result: dict[str, Any] | None = None


Notify = Callable[[str, int, int, int, int, float | None, str], None]
"""Called with (hash, epoch, epochs, step, steps, best validation mR so far, what else it does) while a job runs."""
