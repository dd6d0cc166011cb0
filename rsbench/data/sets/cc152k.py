"""CC152K: the card and the reader, from the region package or from fetched pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsbench.data.captions import Record
from rsbench.data.card import DatasetCard
from rsbench.data.read import captioned
from rsbench.data.regions import Package, packaged, published_val
from rsbench.data.splits import Split

CARD = DatasetCard(
    name="cc152k",
    title="CC152K: a subset of Conceptual Captions with its natural noise",
    reader="rsbench.data.sets.cc152k:read",
    image_size=224,
    splits=("official",),
    backbone="regions",
    tuning="full",
    natural_noise=True,
    paper="Huang et al., Learning with noisy correspondence for cross-modal matching, NeurIPS 2021",
    source="region package cc152k_precomp in NCR-data.tar: the README of XLearning-SCU/2021-NeurIPS-NCR",
    notes=(
        "150,000 / 1,000 / 1,000 pairs, one caption per image; the noise is its own (kind real), none is injected",
        "validation and test are not verified clean either",
        "from pictures (--source DIR --captions FILE.csv with columns filename, caption, split) it is another "
        "dataset: many addresses of Conceptual Captions are dead",
    ),
)


def _splits(records: Sequence[Record]) -> tuple[dict[str, Split], dict[str, Any]]:
    return {"official": published_val(records)}, {}


read = packaged(Package("cc152k_precomp", 1, (150_000, 1_000, 1_000)), captioned(_splits, limit=1))
