"""The figures that evaluation yields, key by key. No torch."""

from __future__ import annotations

from typing import TypedDict


class Metrics(TypedDict):
    """Retrieval on one part of one dataset: recalls and mR in percent, ranks from 1."""

    i2t_r1: float
    i2t_r5: float
    i2t_r10: float
    t2i_r1: float
    t2i_r5: float
    t2i_r10: float
    mr: float
    rsum: float
    i2t_medr: float
    t2i_medr: float


class Detection(TypedDict, total=False):
    """Noise detection over the training pairs from one epoch's clean scores (shares in [0, 1])."""

    detector: str
    epoch: int
    auroc: float
    ap: float
    precision: float
    recall: float
    f1: float
    missing: int
