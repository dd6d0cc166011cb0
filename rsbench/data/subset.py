"""Seeded subsets of a packed dataset: views with their own splits and fingerprint, no second copy."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from rsbench.data.card import DatasetCard
from rsbench.data.dataset import Dataset, Ints
from rsbench.data.store import fingerprint
from rsbench.errors import DataError
from rsbench.seeding import derive_seed

SIZES = {"train": 2_000, "val": 300}


def subset_view(base: Dataset, card: DatasetCard) -> Dataset:
    """The dataset of a card with ``base``: a seeded draw of training and validation images, the full test part.

    Args:
        base: the packed base dataset.
        card: names the subset and its one split.

    Returns:
        A dataset over the same images and captions; the drawn images keep the order of the base split.

    Raises:
        DataError: the base has too few images (it was packed with ``--allow-partial``).
    """
    scheme = card.default_split
    split = {part: _draw(base, card.name, scheme, part) for part in base.splits[scheme]}
    tables = {"base": base.fingerprint, "splits": {p: i.tolist() for p, i in split.items()}}
    return replace(
        base,
        name=card.name,
        fingerprint=fingerprint(card.revision, tables, base.images_hash),
        splits={scheme: split},
        info={**base.info, "title": card.title, "base": base.name},
    )


def _draw(base: Dataset, name: str, scheme: str, part: str) -> Ints:
    ids = base.part(scheme, part)
    size = SIZES.get(part, len(ids))
    if len(ids) < size:
        raise DataError(
            f"dataset '{name}' needs {size:,} {part} images, the packed '{base.name}' has {len(ids):,}; "
            f"pack the whole of it: rsbench prepare {base.name} --overwrite"
        )
    if size == len(ids):
        return ids
    rows = random.Random(derive_seed(name, part)).sample(range(len(ids)), size)
    return ids[np.sort(np.asarray(rows, dtype=np.int64))]
