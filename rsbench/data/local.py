"""Datasets of the user's own pairs: known by their packed store, without an entry in the registry."""

from __future__ import annotations

import re
from pathlib import Path

from rsbench.data.card import DatasetCard
from rsbench.errors import UsageError
from rsbench.registry import DATASETS

STORES, MANIFEST = "datasets", "dataset.json"
SPLIT = "own"
"""The one split of data without a published one."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def register_local(root: Path) -> None:
    """Make the own datasets packed under a data root known to the registry, instead of those of another root."""
    found = sorted(p.parent.name for p in (root / STORES).glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))
    DATASETS.set_local({name: local_card(name) for name in found}, "your own pairs")


def is_local(name: str) -> bool:
    """Whether a known dataset is the user's own."""
    return DATASETS.entry(name).target == ""


def local_card(name: str) -> DatasetCard:
    """The card of a dataset that is not registered.

    Raises:
        UsageError: a name that cannot be the name of a folder.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' is no name for a dataset; use letters, digits, '.', '_' and '-'")
    return DatasetCard(
        name=name,
        title=f"{name}: your own pairs",
        reader="rsbench.data.sets.own:read",
        image_size=224,
        splits=(SPLIT,),
        backbone="clip-vit-b32",
        tuning="full",
        licence="yours",
        source="the --images and --captions it was prepared from",
    )
