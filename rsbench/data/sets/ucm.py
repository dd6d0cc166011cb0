"""UCM-Captions: the card and the reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsbench.data.captions import Record
from rsbench.data.card import DatasetCard
from rsbench.data.read import captioned
from rsbench.data.splits import Split, official_split

# fmt: off
_CLASSES = (
    "agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral", "denseresidential",
    "forest", "freeway", "golfcourse", "harbor", "intersection", "mediumresidential", "mobilehomepark",
    "overpass", "parkinglot", "river", "runway", "sparseresidential", "storagetanks", "tenniscourt",
)
# fmt: on

CARD = DatasetCard(
    name="ucm",
    title="UCM-Captions",
    reader="rsbench.data.sets.ucm:read",
    image_size=256,
    splits=("official",),
    backbone="clip-vit-b32",
    tuning="full",
    counts=(2_100, 10_500),
    paper="Qu et al., Deep semantic understanding of high resolution remote sensing image, CITS 2016",
    source="links in the README of 201528014227051/RSICD_optimal (Baidu, MEGA: dataset.json, and imgs.rar to unpack)",
    notes=("few distinct captions: read t2i recall against its bound", "images of odd size are squashed to the square"),
)


def _splits(records: Sequence[Record]) -> tuple[dict[str, Split], dict[str, Any]]:
    return {"official": official_split(records)}, {}


def scene(record: Record) -> str | None:
    """Files 1 to 2100 show the 21 UC Merced classes in alphabetical order, 100 each."""
    stem = Path(record.filename).stem
    if record.scene or not stem.isdecimal() or not 1 <= int(stem) <= 100 * len(_CLASSES):
        return record.scene
    return _CLASSES[(int(stem) - 1) // 100]


read = captioned(_splits, scene)
