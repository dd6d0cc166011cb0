"""NWPU-Captions: the card and the reader."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rsbench.data.captions import Record
from rsbench.data.card import Asset, DatasetCard
from rsbench.data.read import captioned
from rsbench.data.splits import Split, official_split, rrsitr, rrsitr_fact
from rsbench.errors import DataError

_REPOSITORY = "https://github.com/HaiyanHuang98/NWPU-Captions/raw/HEAD"
# the seeded rule over the names of 45 alphabetical classes with numbers 001-630; its val part has exactly the
# 2,835 images of MSFLabX/RRSITR precomp/nwpu
_TRAIN_ORDER = "54db838f1633406f1a91d41ced795b177b7cc138d331f29e442df6ee4cd68b28"
_IMAGES = 31_500

CARD = DatasetCard(
    name="nwpu",
    title="NWPU-Captions",
    reader="rsbench.data.sets.nwpu:read",
    image_size=256,
    splits=("rrsitr", "official"),
    backbone="clip-vit-b32",
    tuning="full",
    assets=(
        Asset(f"{_REPOSITORY}/NWPU_images.tar.gz", "NWPU_images.tar.gz"),
        Asset(f"{_REPOSITORY}/dataset_nwpu.json", "dataset_nwpu.json"),
    ),
    counts=(_IMAGES, 157_500),
    paper="Cheng et al., NWPU-Captions dataset and MLCA-Net for remote sensing image captioning, TGRS 2022",
    source="HaiyanHuang98/NWPU-Captions (NWPU_images.tar.gz, dataset_nwpu.json)",
    notes=(
        "public loaders report that airplane_111.jpg is absent from the image archive: --allow-partial accepts that",
        "most captions belong to several images: read t2i recall against its bound",
    ),
)


def _splits(records: Sequence[Record]) -> tuple[dict[str, Split], dict[str, Any]]:
    known = [r if r.split else replace(r, split=part_of(r.filename)) for r in records]
    split = rrsitr(known, complete=len(known) == _IMAGES)
    return {"rrsitr": split, "official": official_split(known)}, rrsitr_fact(known, split, _TRAIN_ORDER)


def part_of(filename: str) -> str:
    """Official part by number inside the class: 001-560 train, 561-630 val, 631-700 test.

    Raises:
        DataError: the name does not end in a number from 1 to 700.
    """
    match = re.search(r"_(\d+)\.\w+$", filename)
    number = int(match.group(1)) if match else 0
    if not 1 <= number <= 700:
        raise DataError(f"image '{filename}' has no 'split', and its name does not end in a number from 001 to 700")
    return "train" if number <= 560 else "val" if number <= 630 else "test"


read = captioned(_splits)
