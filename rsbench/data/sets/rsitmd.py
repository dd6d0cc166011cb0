"""RSITMD: the card and the reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsbench.data.captions import Record
from rsbench.data.card import Asset, DatasetCard
from rsbench.data.read import captioned
from rsbench.data.splits import Split, official_split, rrsitr, rrsitr_fact

_TRAIN_ORDER = "36748757aa36180070a01b759367c6ddb88bc9b667b7875de5136a6907c476e7"

CARD = DatasetCard(
    name="rsitmd",
    title="RSITMD",
    reader="rsbench.data.sets.rsitmd:read",
    image_size=256,
    splits=("rrsitr", "official"),
    backbone="clip-vit-b32",
    tuning="full",
    official_rates={"rrsitr": (0.2, 0.4, 0.6, 0.8)},
    assets=(Asset.hub_file("lcrucial1f/MPS-CLIP_Data", "rsitmd.zip"),),
    counts=(4_743, 23_715),
    paper="Yuan et al., Exploring a fine-grained multiscale method for cross-modal remote sensing image retrieval, "
    "TGRS 2021",
    source="xiaoyuan1996/AMFMN, RSITMD/README.md (Google Drive, Baidu: images/, dataset_RSITMD.json)",
    notes=(
        "the download is a third party's copy of the images; captions: --captions dataset_RSITMD.json",
        "split official has no val part: the dataset itself has only train and test",
        "split rrsitr follows the image order of xiaoyuan1996/AMFMN",
    ),
)


def _splits(records: Sequence[Record]) -> tuple[dict[str, Split], dict[str, Any]]:
    split = rrsitr(records)
    schemes = {"rrsitr": split, "official": official_split(records, val=False)}
    return schemes, rrsitr_fact(records, split, _TRAIN_ORDER)


def _scene(record: Record) -> str:
    """``baseballfield_452.tif`` shows a baseballfield."""
    return record.scene or Path(record.filename).stem.rsplit("_", 1)[0]


read = captioned(_splits, _scene)
