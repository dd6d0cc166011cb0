"""MS-COCO captions: the card and the reader, from the region package or from the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsbench.data.captions import Record
from rsbench.data.card import Asset, DatasetCard
from rsbench.data.read import captioned
from rsbench.data.regions import Package, packaged, published_val
from rsbench.data.sets.flickr30k import KARPATHY
from rsbench.data.splits import Split

_PICTURES = "http://images.cocodataset.org/zips"

CARD = DatasetCard(
    name="coco",
    title="MS-COCO captions, Karpathy splits",
    reader="rsbench.data.sets.coco:read",
    image_size=224,
    splits=("official",),
    backbone="regions",
    tuning="full",
    folds=5,
    assets=(
        Asset(f"{_PICTURES}/train2014.zip", "train2014.zip"),
        Asset(f"{_PICTURES}/val2014.zip", "val2014.zip"),
        KARPATHY,
    ),
    paper="Lin et al., Microsoft COCO: common objects in context, ECCV 2014; splits of Karpathy and Fei-Fei",
    source="region package coco_precomp: the README of kuanghuei/SCAN; pictures: cocodataset.org",
    notes=(
        "113,287 / 1,000 / 5,000 images: of the 5,000 validation images the first 1,000, as the published codes do",
        "runs report the full 5,000 test images (5K) and the mean over five folds (1K): rsbench table --folds 5",
        "images with more than five captions keep the first five, as the region package does",
        "the download has the pictures; for region features: --source coco_precomp",
        "published noise files count rows in the order of the region package, not of the caption JSON",
    ),
)


def _splits(records: Sequence[Record]) -> tuple[dict[str, Split], dict[str, Any]]:
    return {"official": published_val(records)}, {}


read = packaged(Package("coco_precomp", 5, (113_287, 1_000, 5_000)), captioned(_splits, limit=5))
