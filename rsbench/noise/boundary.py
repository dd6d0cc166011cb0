"""Boundary between the scores of matched and mismatched pairs, each taken as normal. Plain floats."""

from __future__ import annotations

import math

SMALLEST_SPREAD = 1e-6
"""Floor of a standard deviation: a normal of no width has no density."""


def boundary(
    mean_pos: float, std_pos: float, mean_neg: float, std_neg: float, alpha: float, low: float = 0.0, high: float = 1.0
) -> float:
    """The score t in [low, high] with the least weighted error ``mistakes``; the root first, then low, among equals.

    Its stationary points solve f+(t) = alpha f-(t), a quadratic equation of which one root is the minimum; where
    there is none inside the range, the better end is taken.

    Args:
        mean_pos: mean score of matched pairs.
        std_pos: their standard deviation.
        mean_neg: mean score of mismatched pairs.
        std_neg: their standard deviation.
        alpha: cost of a mismatched pair above t over that of a matched pair below it, > 0.
        low: smallest t allowed.
        high: largest t allowed (1 for cosines).

    Source: PMPGuard (AAAI 2026) Eq. 7-9; the comparison with the ends is decided.
    """
    normals = (mean_pos, max(std_pos, SMALLEST_SPREAD), mean_neg, max(std_neg, SMALLEST_SPREAD))
    root = _least(*normals, alpha)
    candidates = [low, high] if root is None or not low <= root <= high else [root, low, high]
    return min(candidates, key=lambda t: mistakes(t, *normals, alpha))


def mistakes(t: float, mean_pos: float, std_pos: float, mean_neg: float, std_neg: float, alpha: float) -> float:
    """Alpha times the share of mismatched scores above t, plus the share of matched scores below t (Eq. 9)."""
    above = 0.5 * math.erfc((t - mean_neg) / (std_neg * math.sqrt(2)))
    below = 0.5 * math.erfc((mean_pos - t) / (std_pos * math.sqrt(2)))
    return alpha * above + below


def _least(mean_pos: float, std_pos: float, mean_neg: float, std_neg: float, alpha: float) -> float | None:
    """Where the mistakes have their local minimum on the whole line, or None."""
    p, n = std_pos**2, std_neg**2
    a = p - n
    b = 2 * (mean_pos * n - mean_neg * p)
    c = mean_neg**2 * p - mean_pos**2 * n + 2 * p * n * math.log(std_neg / (alpha * std_pos))
    discriminant = b * b - 4 * a * c
    if discriminant <= 0:
        return None
    root = math.sqrt(discriminant)
    if b > 0:  # without cancellation, and right for equal spreads (a = 0)
        return -2 * c / (b + root)
    return (root - b) / (2 * a) if a else None
