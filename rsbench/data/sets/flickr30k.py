"""Flickr30K: the card and the reader, from the region package or from the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsbench.data.captions import Record
from rsbench.data.card import Asset, DatasetCard
from rsbench.data.read import captioned
from rsbench.data.regions import Package, packaged, published_val
from rsbench.data.splits import Split

KARPATHY = Asset("https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip", "caption_datasets.zip")

CARD = DatasetCard(
    name="flickr30k",
    title="Flickr30K",
    reader="rsbench.data.sets.flickr30k:read",
    image_size=224,
    splits=("official",),
    backbone="regions",
    tuning="full",
    assets=(Asset.hub_file("nlphuji/flickr30k", "flickr30k-images.zip"), KARPATHY),
    paper="Young et al., From image descriptions to visual denotations, TACL 2014; splits of Karpathy and Fei-Fei",
    source="region package f30k_precomp: the README of kuanghuei/SCAN; pictures: nlphuji/flickr30k on the hub",
    notes=(
        "29,000 / 1,000 / 1,000 images: of the 1,014 validation images the first 1,000, as the published codes do",
        "the download has the pictures; for region features: --source f30k_precomp",
        "published noise files count rows in the order of the region package, not of the caption JSON",
    ),
)


def _splits(records: Sequence[Record]) -> tuple[dict[str, Split], dict[str, Any]]:
    return {"official": published_val(records)}, {}


read = packaged(Package("f30k_precomp", 5, (29_000, 1_000, 1_000)), captioned(_splits, limit=5))
