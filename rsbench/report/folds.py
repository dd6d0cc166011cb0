"""COCO 1K beside COCO 5K: the same runs, scored on the whole test part or as means over folds of it. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from rsbench.errors import UsageError
from rsbench.results.schema import Result


def over_folds(results: Sequence[Result], folds: int) -> list[Result]:
    """The results with the means over so many folds as their test figures; those without such means as they are.

    Args:
        results: as ``load_results`` gives them.
        folds: number of folds; 1 for the whole test part.
    """
    return [_seen(r, folds) if r.get("folds", {}).get("n") == folds else r for r in results]


def check_folds(results: Sequence[Result], folds: int) -> None:
    """Refuse a number of folds that no run was scored over.

    Raises:
        UsageError: with the numbers that there are.
    """
    known = sorted({1, *(r["folds"]["n"] for r in results if "folds" in r)})
    if folds not in known:
        raise UsageError(
            f"--folds {folds}: no run was scored over {folds} folds; these results have {', '.join(map(str, known))}. "
            "For one run with weights: rsbench eval RUN --folds N"
        )


def _seen(result: Result, folds: int) -> Result:
    figures = {k: v for k, v in result["folds"].items() if k != "n"}
    seen = result.copy()
    seen.update({"spec": {**result["spec"], "folds": folds}, "test": figures})
    return seen
