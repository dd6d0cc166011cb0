"""Sydney-Captions: the card and the reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsbench.data.captions import Record
from rsbench.data.card import Asset, DatasetCard
from rsbench.data.read import captioned
from rsbench.data.splits import Split, official_split

CARD = DatasetCard(
    name="sydney",
    title="Sydney-Captions",
    reader="rsbench.data.sets.sydney:read",
    image_size=224,
    splits=("official",),
    backbone="clip-vit-b32",
    tuning="full",
    assets=(Asset.hub_file("isaaccorley/Sydney-Captions", "Sydney_captions.zip"),),
    counts=(613, 3_065),
    licence="apache-2.0, says the page of the copy at isaaccorley/Sydney-Captions",
    paper="Qu et al., Deep semantic understanding of high resolution remote sensing image, CITS 2016",
    source="links in the README of 201528014227051/RSICD_optimal (Baidu, MEGA)",
    notes=("the images have 500 px: packed at 224, the input of the backbones, in a fifth of the space",),
)


def _splits(records: Sequence[Record]) -> tuple[dict[str, Split], dict[str, Any]]:
    return {"official": official_split(records)}, {}


read = captioned(_splits)
