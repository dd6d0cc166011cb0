"""What ``prepare`` tells about a dataset: counts, duplicates, and the recall that duplicates allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsbench.data.card import DatasetCard
from rsbench.data.dataset import Dataset, Ints

KS = (1, 5, 10)


@dataclass(frozen=True)
class PartReport:
    """Counts of one part of one split.

    Attributes:
        images: number of images.
        captions: number of captions.
        distinct: number of distinct caption strings.
        repeating: images that have one sentence several times.
        shared: captions whose string also belongs to another image of the part.
    """

    images: int
    captions: int
    distinct: int
    repeating: int
    shared: int


@dataclass(frozen=True)
class Report:
    """The report of one packed dataset.

    Attributes:
        name: registered name.
        title: full name.
        folder: where its store is.
        fingerprint: see ``Dataset.fingerprint``.
        image_size: side in pixels, None where the dataset holds region features.
        regions: number and width of the region features of an image, None where it has pixels.
        classes: number of scene classes.
        splits: scheme -> part -> counts.
        t2i_bound: scheme -> highest t2i R@1/5/10 of its test part, in percent.
        missing: names of absent or unreadable images.
        notes: facts worth a line each.
        packed_now: False where the store was there already.
    """

    name: str
    title: str
    folder: Path
    fingerprint: str
    image_size: int | None
    regions: tuple[int, ...] | None
    classes: int
    splits: Mapping[str, Mapping[str, PartReport]]
    t2i_bound: Mapping[str, Mapping[str, float]]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    packed_now: bool

    def to_json(self) -> dict[str, Any]:
        """The report in JSON values."""
        return {**asdict(self), "folder": str(self.folder)}


def make_report(dataset: Dataset, card: DatasetCard, folder: Path, packed_now: bool) -> Report:
    """Count what is in a dataset.

    Args:
        dataset: the opened store.
        card: its card.
        folder: its store.
        packed_now: whether this call packed it.
    """
    return Report(
        name=dataset.name,
        title=card.title,
        folder=folder,
        fingerprint=dataset.fingerprint,
        image_size=dataset.image_size,
        regions=None if dataset.regions is None else dataset.regions.shape[1:],
        classes=len(dataset.classes),
        splits={s: {p: count_part(dataset, ids) for p, ids in of.items()} for s, of in dataset.splits.items()},
        t2i_bound={s: t2i_bound(dataset, of["test"]) for s, of in dataset.splits.items() if len(of.get("test", ()))},
        missing=dataset.missing,
        notes=(*_notes(dataset, card), *card.notes),
        packed_now=packed_now,
    )


def count_part(dataset: Dataset, image_ids: Ints) -> PartReport:
    """Counts and duplicate captions among some images ``[n]``."""
    multiplicity = _multiplicity(dataset, image_ids)
    repeating = {i for (_, i), count in multiplicity.items() if count > 1}
    owners = Counter(text for text, _ in multiplicity)
    shared = sum(count for (text, _), count in multiplicity.items() if owners[text] > 1)
    return PartReport(len(image_ids), sum(multiplicity.values()), len(owners), len(repeating), shared)


def t2i_bound(dataset: Dataset, image_ids: Ints) -> dict[str, float]:
    """The highest text-to-image R@1/5/10 that duplicate captions allow.

    A query is a caption and its hit is the caption's own image. Equal strings give equal rankings, so of the
    images that share a string at most K are among the first K: the best ranking puts those first that have it
    most often.

    Args:
        dataset: images and captions.
        image_ids: ``[n]``, the test images.

    Returns:
        ``{"R@1", "R@5", "R@10"}`` in percent.
    """
    counts: dict[int, list[int]] = {}
    for (text, _), count in _multiplicity(dataset, image_ids).items():
        counts.setdefault(text, []).append(count)
    ranked = [sorted(of, reverse=True) for of in counts.values()]
    total = sum(map(sum, ranked))
    return {f"R@{k}": 100 * sum(sum(of[:k]) for of in ranked) / total for k in KS}


def _multiplicity(dataset: Dataset, image_ids: Ints) -> Counter[tuple[int, int]]:
    """How often each (text, image) occurs."""
    text = dataset.caption_text
    return Counter((int(text[c]), int(i)) for i in np.asarray(image_ids) for c in dataset.captions_of[i])


def _notes(dataset: Dataset, card: DatasetCard) -> list[str]:
    """Facts about this very store."""
    side = dataset.image_size
    notes = [f"images are squashed to {side} x {side} (bicubic) where the source has another size or shape"]
    if card.generated or side is None:
        notes = []
    notes += dataset.info.get("notes", [])
    if "rrsitr_split" in dataset.info:
        notes.append(f"split rrsitr: {dataset.info['rrsitr_split']}")
    counts = (len(dataset.filenames), len(dataset.captions))
    if card.counts and counts != card.counts:
        want, have = (f"{i:,} images and {c:,} captions" for i, c in (card.counts, counts))
        notes.append(f"incomplete: the whole dataset has {want}, this store {have}")
    return notes
