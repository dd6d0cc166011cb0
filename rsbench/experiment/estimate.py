"""How long runs will take, from those that were done before. No torch."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rsbench.errors import ResultError
from rsbench.experiment.plan import Job
from rsbench.experiment.spec import RunSpec
from rsbench.results.store import read_json

Key = tuple[Any, ...]


class Past:
    """Seconds of finished runs.

    Args:
        results: contents of ``result.json`` files; failed ones are left out.
    """

    def __init__(self, results: Iterable[Mapping[str, Any]]) -> None:
        self._seconds: dict[Key, list[float]] = {}
        for result in results:
            seconds = result.get("time", {}).get("total")
            if result.get("status") == "done" and isinstance(seconds, int | float):
                for key in _keys(result["spec"]):
                    self._seconds.setdefault(key, []).append(float(seconds))

    def seconds(self, spec: RunSpec) -> float | None:
        """Median seconds of the runs most like this one.

        Those of the same dataset, backbone, method, variant and epochs; else of the same dataset, backbone and method;
        None where there is none.
        """
        keys = _keys({**vars(spec), "recipe": vars(spec.recipe)})
        return next((statistics.median(self._seconds[key]) for key in keys if key in self._seconds), None)


def read_past(out: Path) -> Past:
    """What the finished runs of a results folder took; unreadable ones are left out."""
    return Past(result for path in sorted(out.glob("*/result.json")) if (result := _read(path)))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except ResultError:
        return {}
    return found if isinstance(found.get("spec"), dict) else {}


def _keys(spec: Mapping[str, Any]) -> list[Key]:
    """From the most alike to the least."""
    coarse = (spec.get("dataset"), spec.get("backbone"), spec.get("method"))
    recipe = spec.get("recipe")
    return [(*coarse, spec.get("variant"), recipe.get("epochs") if isinstance(recipe, Mapping) else None), coarse]


def wall_seconds(seconds: Sequence[float], slots: int) -> float:
    """Seconds until the last of some runs ends, when each free slot takes the longest that is left.

    Args:
        seconds: of each run.
        slots: runs at the same time, at least 1.
    """
    ends = [0.0] * slots
    for length in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)


def longest_first(jobs: Sequence[Job], past: Past) -> list[Job]:
    """Jobs in the order in which they should start; those of unknown length first, as planned."""
    known = {j.spec.hash: past.seconds(j.spec) for j in jobs}
    return sorted(jobs, key=lambda j: -(known[j.spec.hash] or math.inf))
