"""What every launcher takes and gives. No torch.

A launcher is one function (``Launch``)::

    def launch(jobs: Sequence[Job], options: Options, settings: ..., notify: Notify) -> Iterator[Outcome]

It yields exactly one outcome per job, each as soon as its job ends, in any order:

- ``done``: ``result`` is the stored result; it lies in the folder of ``options.out`` before the outcome is yielded.
- ``failed``: ``error`` says why in one line; the other jobs go on.
- ``busy``: another process holds the run; whoever called the launcher waits for it (``drive``).

Jobs come longest first; a launcher may change the order. A worker that dies is the launcher's to replace, and its job
to resume; only what makes every further job pointless (a full disk, no cluster) is raised. Closing the iterator stops
the workers. Whoever launches the same jobs again continues where the killed ones were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsbench.experiment.plan import Job

if TYPE_CHECKING:
    from rsbench.experiment.run import Options


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

Launch = Callable[[Sequence[Job], "Options", Any, Notify], Iterator[Outcome]]
"""Jobs, how runs are carried out, settings of the launcher's own dataclass (``cards``), progress."""
