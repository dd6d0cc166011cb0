"""Stored results as a pandas frame, one row per run. pandas is imported on use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsbench.errors import DependencyError
from rsbench.results.frame import load_results as read
from rsbench.results.schema import Result

if TYPE_CHECKING:
    from pandas import DataFrame

SPEC = ("dataset", "split", "method", "variant", "backbone", "weights", "tuning", "seed", "held_out", "precision")
NOISE = ("kind", "unit", "rate", "source", "seed")
METRICS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10", "mr", "rsum", "i2t_medr", "t2i_medr")
FACTS = ("networks", "uses_prior", "detector")


def load_results(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "results") -> DataFrame:
    """Every run below the paths as one row; failed runs have status ``failed`` and no figures.

    Columns: ``hash``, ``status``, ``error``; the spec (``dataset`` .. ``precision``, ``noise_*``, ``recipe``,
    ``recipe_*``, ``param_*``); facts of the method; ``best_epoch``, ``epochs``; test metrics of the best epoch under
    their own names and of the last as ``last_*``, those on validation as ``val_*``, means over folds of the test part
    as ``folds_*`` (COCO 1K), all in percent; ``auroc``,
    ``mismatched`` (share of training pairs); ``*_seconds``; ``version``. What a run does not have is missing (NaN),
    never 0.

    Args:
        paths: a folder of results (searched recursively), a ``result.json``, or several.

    Raises:
        DependencyError: pandas is not installed.
        ResultError: a path without results, a damaged or foreign file, or one of a newer version.
    """
    try:
        import pandas
    except ImportError as error:
        raise DependencyError("frames need pandas; install it with: pip install 'rsbench[report]'") from error
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    return pandas.DataFrame.from_records([record(r) for r in read([Path(p) for p in several])])


def record(result: Result) -> dict[str, Any]:
    """One run as a flat mapping, in the columns of ``load_results``."""
    spec, noise = result["spec"], result.get("noise", {})
    done = result.get("status") == "done"
    test = result.get("test", {}) if done else {}
    detection = result.get("detection", {}) if done else {}
    return {
        "hash": result["hash"],
        "status": result.get("status"),
        "error": result.get("error"),
        **{k: spec.get(k) for k in SPEC},
        **{f"noise_{k}": spec["noise"].get(k) for k in NOISE},
        "noise_sha256": spec.get("noise_sha256") or noise.get("sha256"),
        **{f"recipe{f'_{k}' * (k != 'name')}": _plain(v) for k, v in spec["recipe"].items()},
        **{f"param_{k}": _plain(v) for k, v in spec.get("params", {}).items()},
        **{k: result.get("method", {}).get(k) for k in FACTS},
        "best_epoch": result.get("best_epoch") if done else None,
        "epochs": result.get("epochs"),
        **_metrics("", test.get("best", {})),
        **_metrics("last_", test.get("last", {})),
        **_metrics("val_", result.get("val", {}).get("best", {}) if done else {}),
        **_metrics("folds_", result.get("folds", {}).get("best", {}) if done else {}),
        "auroc": _number(detection.get("best", {}).get("auroc")),
        "mismatched": _number(noise.get("mismatched")),
        **{f"{k}_seconds": _number(v) for k, v in result.get("time", {}).items()},
        "version": result.get("environment", {}).get("rsbench"),
    }


def _metrics(prefix: str, found: Mapping[str, Any]) -> dict[str, float]:
    return {f"{prefix}{k}": _number(found.get(k)) for k in METRICS}


def _number(value: Any) -> float:
    """A number as it is; NaN where there is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _plain(value: Any) -> Any:
    """A value that a column can hold; nested ones become their words."""
    return repr(value) if isinstance(value, list | dict) else value
