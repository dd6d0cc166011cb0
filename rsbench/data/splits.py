"""Splits from caption records: the official one and RRSITR's, reproduced by its seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

from rsbench.data.captions import PARTS, Record
from rsbench.errors import DataError
from rsbench.seeding import derive_seed

T = TypeVar("T")
Split = dict[str, list[int]]

OFFICIAL_LIST = "the published list"
OTHER_LIST = "the published rule on another image order or subset: official noise files do not fit"


def rrsitr_split(trainval: Sequence[T]) -> tuple[list[T], list[T]]:
    """RRSITR's train and val parts (MSFLabX/RRSITR, precomp): seeded shuffle, first 90 % train.

    Args:
        trainval: official train and val images together, **in file order** (that of xiaoyuan1996/AMFMN).

    Returns:
        train, val; the order is part of the result, since official noise files count rows by it.
    """
    order = list(trainval)
    random.Random(42).shuffle(order)
    cut = int(0.9 * len(order))
    return order[:cut], order[cut:]


SEEDED = "drawn by rsbench, 80 % train, 10 % val, 10 % test of the images, seed 0"


def seeded_split(count: int) -> Split:
    """A split for data without one: a tenth of the images for val and test each (at least one), drawn with seed 0.

    Args:
        count: number of images; the draw depends on nothing else.

    Returns:
        Parts in file order.

    Raises:
        DataError: fewer than three images.
    """
    if count < len(PARTS):
        raise DataError(f"{count} images cannot be split into {', '.join(PARTS)}; give at least {len(PARTS)}")
    order = list(range(count))
    random.Random(derive_seed("own-split", 0)).shuffle(order)
    tenth = max(count // 10, 1)
    cuts = {"train": order[2 * tenth :], "val": order[:tenth], "test": order[tenth : 2 * tenth]}
    return {part: sorted(ids) for part, ids in cuts.items()}


def official_split(records: Sequence[Record], *, val: bool = True) -> Split:
    """Parts as the file says, each in file order.

    Args:
        records: all images; those without a part are an error.
        val: False where the dataset itself has no val part: what the file calls val joins train.

    Raises:
        DataError: an image without a split.
    """
    split: Split = {part: [] for part in PARTS if val or part != "val"}
    for i, record in enumerate(records):
        if record.split is None:
            raise DataError(f"image '{record.filename}' has no 'split'; expected {', '.join(PARTS)}")
        split["train" if record.split == "val" and not val else record.split].append(i)
    return {part: ids for part, ids in split.items() if ids}


def rrsitr(records: Sequence[Record], complete: bool = True) -> Split:
    """RRSITR's split: computed from file order, and checked against the file's own ``rrsitr_split``.

    Args:
        records: all images.
        complete: False where captions of part of the dataset are absent: then the rule cannot be
            applied, and the file's ``rrsitr_split`` is used in file order.

    Raises:
        DataError: the file's ``rrsitr_split`` disagrees, or is needed and absent.
    """
    given = {r.rrsitr_split for r in records}
    if not complete and None not in given:
        return {part: [i for i, r in enumerate(records) if r.rrsitr_split == part] for part in PARTS}
    train, val = rrsitr_split([i for i, r in enumerate(records) if r.split != "test"])
    split = {"train": train, "val": val, "test": [i for i, r in enumerate(records) if r.split == "test"]}
    for part, ids in split.items():
        for i in ids:
            if records[i].rrsitr_split not in (part, None):
                raise DataError(
                    f"image '{records[i].filename}': rrsitr_split says {records[i].rrsitr_split}, the seeded rule "
                    f"gives {part}; the order of images is not that of the file the split was made from"
                )
    return split


def order_hash(names: Sequence[str]) -> str:
    """sha256 of names in order, one a line: tells a published image order from another."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def rrsitr_fact(records: Sequence[Record], split: Split, published: str) -> dict[str, str]:
    """What to tell of an ``rrsitr`` split: whether its train list is the published one.

    Args:
        records: all images.
        split: the split made of them.
        published: ``order_hash`` of the published train list.
    """
    same = order_hash([records[i].filename for i in split["train"]]) == published
    return {"rrsitr_split": OFFICIAL_LIST if same else OTHER_LIST}
