"""RSICD: the card, its seeded subset ``rsicd-2k``, and the reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsbench.data.captions import Record
from rsbench.data.card import Asset, DatasetCard
from rsbench.data.read import captioned
from rsbench.data.splits import Split, official_split, rrsitr, rrsitr_fact

_REPOSITORY = "https://github.com/201528014227051/RSICD_optimal/raw/HEAD"
_TRAIN_ORDER = "921850248933757de5b6b651a7d8661ab532a2adaffb141a50d6dd018011e455"

CARD = DatasetCard(
    name="rsicd",
    title="RSICD",
    reader="rsbench.data.sets.rsicd:read",
    image_size=224,
    splits=("rrsitr", "official"),
    backbone="clip-vit-b32",
    tuning="full",
    official_rates={"rrsitr": (0.2, 0.4, 0.6, 0.8)},
    assets=(
        Asset(f"{_REPOSITORY}/RSICD_images.zip", "RSICD_images.zip"),
        Asset(f"{_REPOSITORY}/dataset_rsicd.json", "dataset_rsicd.json"),
    ),
    counts=(10_921, 54_605),
    paper="Lu et al., Exploring models and data for remote sensing image caption generation, TGRS 2018",
    source="201528014227051/RSICD_optimal (images, dataset_rsicd.json)",
    notes=(
        "split rrsitr follows the image order of xiaoyuan1996/AMFMN (official train and val, then test)",
        "many images repeat a sentence inside their five captions; the repeats are kept",
    ),
)

CARD_2K = DatasetCard(
    name="rsicd-2k",
    title="RSICD, 2,000 training and 300 validation images, full test set",
    reader=CARD.reader,
    image_size=CARD.image_size,
    splits=("rrsitr",),
    backbone="lite",
    tuning="heads",
    base="rsicd",
    paper=CARD.paper,
    source="a seeded subset of rsicd, split rrsitr",
)


def _splits(records: Sequence[Record]) -> tuple[dict[str, Split], dict[str, Any]]:
    split = rrsitr(records)
    return {"rrsitr": split, "official": official_split(records)}, rrsitr_fact(records, split, _TRAIN_ORDER)


read = captioned(_splits)
