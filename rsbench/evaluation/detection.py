"""How well clean scores and pair divisions find the mismatched training pairs."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from rsbench.errors import UsageError
from rsbench.evaluation.figures import Detection

NOISY = 2
"""The value of ``Loss.division`` that means noisy (``rsbench.methods.base`` holds the same)."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def _groups(score: Floats, positive: Bools) -> tuple[Floats, Floats]:
    """Counts of positives and of all pairs per distinct score, highest score first."""
    _, inverse = np.unique(-score, return_inverse=True)
    return np.bincount(inverse, weights=positive).astype(np.float64), np.bincount(inverse).astype(np.float64)


def auroc(score: Floats, positive: Bools) -> float:
    """Chance that a positive scores above a negative, ties counting one half; NaN without both classes.

    Args:
        score: ``[P]``, higher = more likely positive.
        positive: ``[P]``.
    """
    hits, sizes = _groups(score, positive)
    n_pos, n_neg = hits.sum(), (sizes - hits).sum()
    if n_pos == 0 or n_neg == 0:
        return float("nan")
    above = np.cumsum(hits) - hits  # positives with a higher score
    return float(((above + hits / 2) * (sizes - hits)).sum() / (n_pos * n_neg))


def average_precision(score: Floats, positive: Bools) -> float:
    """Mean over positives of the precision at their score, equal scores taken together; NaN without positives.

    Args:
        score: ``[P]``, higher = more likely positive.
        positive: ``[P]``.
    """
    hits, sizes = _groups(score, positive)
    if hits.sum() == 0:
        return float("nan")
    return float((hits * np.cumsum(hits) / np.cumsum(sizes)).sum() / hits.sum())


def detection(
    clean_score: Tensor | npt.ArrayLike,
    mismatched: Tensor | npt.ArrayLike,
    division: Tensor | npt.ArrayLike | None,
    detector: str,
    epoch: int,
) -> Detection:
    """Noise detection of one epoch; a mismatched pair is the positive class.

    Args:
        clean_score: ``[P]``, higher = cleaner; NaN = the pair was not visited (counted as ``missing``).
        mismatched: bool ``[P]``, the truth.
        division: int8 ``[P]`` or None; 2 = noisy, -1 = not visited. Gives precision, recall and F1.
        detector: ``native`` or ``similarity``.
        epoch: epoch of the scores.

    Returns:
        Shares in [0, 1]; a share that is not defined (one class only) is left out.

    Raises:
        UsageError: the three do not have the same length.
    """
    clean, truth = np.asarray(clean_score, dtype=np.float64), np.asarray(mismatched, dtype=bool)
    if clean.shape != truth.shape:
        raise UsageError(f"{clean.size} clean scores do not fit {truth.size} training pairs")
    seen = ~np.isnan(clean)
    found: dict[str, Any] = {
        "auroc": auroc(-clean[seen], truth[seen]),
        "ap": average_precision(-clean[seen], truth[seen]),
    }
    if division is not None:
        found |= _division(np.asarray(division), truth)
    defined = {k: v for k, v in found.items() if not np.isnan(v)}
    named = {"detector": detector, "epoch": epoch, "missing": int((~seen).sum())}
    return cast("Detection", named | defined)


def _division(division: npt.NDArray[np.int8], truth: Bools) -> dict[str, float]:
    if division.shape != truth.shape:
        raise UsageError(f"a division of {division.size} pairs does not fit {truth.size} training pairs")
    divided = division >= 0
    noisy, truth = division[divided] == NOISY, truth[divided]
    hits, told, real = float((noisy & truth).sum()), float(noisy.sum()), float(truth.sum())
    nan = float("nan")
    return {
        "precision": hits / told if told else nan,
        "recall": hits / real if real else nan,
        "f1": 2 * hits / (told + real) if told + real else nan,
    }
