"""What ``result.json`` holds, key by key."""

from __future__ import annotations

from typing import Any, TypedDict

from rsbench.evaluation.figures import Detection, Metrics

SCHEMA_VERSION = 1
"""Raised when keys change; readers accept older versions and refuse newer ones."""


class Result(TypedDict, total=False):
    """``result.json`` of one run."""

    schema: int
    hash: str
    status: str
    """``done`` or ``failed``; a failed run has ``error`` and never counts."""
    error: str
    spec: dict[str, Any]
    """The full spec again, so that one file is enough for a table."""
    method: dict[str, Any]
    """``networks`` at test time, ``uses_prior``, ``detector``."""
    dataset: dict[str, Any]
    """``images``, ``captions``, counts per part, ``missing`` images accepted, ``t2i_bound``."""
    noise: dict[str, Any]
    """``pairs``, ``sha256``, realised ``moved``, ``foreign``, ``mismatched`` (null where no truth is known); kind
    ``pmp`` also ``threshold``, ``threshold_from``, ``share_below``, ``share_fallback``, ``scorer``, ``warnings``."""
    best_epoch: int
    epochs: int
    val: dict[str, Metrics]
    """``best`` and ``last`` epoch."""
    test: dict[str, Metrics]
    """``best`` and ``last`` epoch; read once at the end; absent for searches on validation."""
    folds: dict[str, Any]
    """``n`` and the means of ``best`` and ``last`` over n folds of the test part; only where papers report them."""
    detection: dict[str, Detection]
    """``best`` and ``last`` epoch; absent where no pair is mismatched, or no truth is known."""
    warnings: list[str]
    time: dict[str, Any]
    """Seconds: ``train`` (all epochs, validation included), ``evaluate``, ``total``; of each epoch in ``epochs`` its
    ``filter``, ``train`` and, where it was validated, ``validate``; ``test``, ranking the test part, once or twice."""
    environment: dict[str, Any]
    """Device, threads, versions, ``memory_peak_mb`` while training; not part of the hash."""
