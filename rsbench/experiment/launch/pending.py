"""Which job a worker takes next. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rsbench.experiment.plan import Job
from rsbench.experiment.spec import RunSpec


def warmth(spec: RunSpec) -> str:
    """Names what runs share in a warm process: dataset and fitted backbone."""
    shared = (spec.dataset, spec.split, spec.backbone, spec.tuning, spec.weights, dict(spec.backbone_params))
    return json.dumps(shared, sort_keys=True)


class Pending:
    """Jobs that wait, in the order given; a worker prefers what it is warm for.

    Args:
        jobs: longest first, so that no long one is left for the end.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = list(jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def take(self, warm: str | None) -> Job:
        """The next job of a worker.

        Args:
            warm: ``warmth`` of its last job, None before the first.
        """
        own = (j for j in self._jobs if warm is not None and warmth(j.spec) == warm)
        job = next(own, self._jobs[0])
        self._jobs.remove(job)
        return job

    def put_back(self, job: Job) -> None:
        """A job whose worker was lost: it goes first, to be resumed where it is still warm."""
        self._jobs.insert(0, job)
