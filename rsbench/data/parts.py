"""What a reader hands over, before it is packed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rsbench.data.card import DatasetCard
from rsbench.data.dataset import Regions
from rsbench.errors import DataError
from rsbench.progress import Progress

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Unreadable:
    """Stands for an image that is absent or cannot be decoded."""

    reason: str


@dataclass(frozen=True)
class Parts:
    """What a reader hands to ``write_store``: the source's rows, in the source's order.

    Attributes:
        name: registered name.
        images: N items in the order of ``filenames``: uint8 ``[S, S, 3]`` (RGB, all of one size) or
            ``Unreadable``. An array ``[N, S, S, 3]`` will do; a generator is consumed once.
        filenames: N distinct names.
        captions: M non-empty strings.
        caption_image: M image indices.
        classes: scene class names, empty where unknown.
        image_class: N indices into ``classes``, -1 where unknown.
        splits: scheme -> part -> image indices in order.
        missing: names already known to be absent and not in ``filenames``.
        info: facts for reports (JSON values only).
        revision: the card's revision, part of the fingerprint.
        regions: N region features float32 or float16 ``[R, W]``, consumed once; then ``images`` is empty.
    """

    name: str
    images: Iterable[Pixels | Unreadable]
    filenames: Sequence[str]
    captions: Sequence[str]
    caption_image: Sequence[int] | npt.NDArray[np.int64]
    classes: Sequence[str]
    image_class: Sequence[int] | npt.NDArray[np.int64]
    splits: Mapping[str, Mapping[str, Sequence[int] | npt.NDArray[np.int64]]]
    missing: Sequence[str] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 1
    regions: Iterable[Regions] | None = None


@dataclass(frozen=True)
class ReadOptions:
    """How a reader shall read.

    Attributes:
        image_size: side in pixels of the images it yields.
        allow_partial: absent or unreadable images are accepted (as ``Unreadable``).
        address: http(s) address of webdataset shards.
        samples: images to take from shards, None for the card's number.
        scratch: where a reader of shards keeps finished ones until all are packed.
    """

    image_size: int
    allow_partial: bool = False
    address: str | None = None
    samples: int | None = None
    scratch: Path | None = None


class Reader(Protocol):
    """Signature of every function named by ``DatasetCard.reader``; see ``rsbench.data.sets``."""

    def __call__(
        self, source: Path | None, captions: Path | None, card: DatasetCard, options: ReadOptions, progress: Progress
    ) -> Parts:
        """Read the raw files (or make the dataset, if the card says ``generated``)."""


def check_parts(parts: Parts) -> None:
    """Check that the tables fit together.

    Raises:
        DataError: lengths or indices that disagree, an image without captions, an image twice in a split.
    """
    n, m = len(parts.filenames), len(parts.captions)
    ids = np.asarray(parts.caption_image, dtype=np.int64)
    if len(ids) != m or len(parts.image_class) != n:
        raise DataError(
            f"dataset '{parts.name}': {n} images with {len(parts.image_class)} classes, "
            f"{m} captions with {len(ids)} images"
        )
    if m and (ids.min() < 0 or ids.max() >= n):
        raise DataError(f"dataset '{parts.name}': caption_image points outside its {n} images")
    bare = np.flatnonzero(np.bincount(ids, minlength=n) == 0)
    if len(bare):
        first = parts.filenames[bare[0]]
        raise DataError(f"dataset '{parts.name}': {len(bare)} images without captions, first {first}")
    for scheme, of in parts.splits.items():
        members = [int(i) for part in of.values() for i in part]
        if len(set(members)) != len(members):
            raise DataError(f"dataset '{parts.name}': split '{scheme}' has an image twice")


def missing_message(named: Sequence[str], total: int) -> str:
    """One line that counts and names absent or unreadable images."""
    shown = ", ".join(named[:5]) + (", ..." if len(named) > 5 else "")
    return (
        f"{len(named)} of {total} images are missing or unreadable: {shown}; "
        "give a complete --source, or accept the loss with --allow-partial"
    )


def drop_images(parts: Parts, rows: set[int]) -> Parts:
    """The same dataset without some images, their captions and their places in the splits.

    Args:
        parts: N images; its ``images`` is passed on untouched.
        rows: image indices to drop; their names join ``missing``.

    Raises:
        DataError: no image is left.
    """
    kept = [i for i in range(len(parts.filenames)) if i not in rows]
    if not kept:
        raise DataError(f"dataset '{parts.name}': not one of its {len(rows)} images could be read; check --source")
    new = {old: i for i, old in enumerate(kept)}
    captions = [(c, new[int(i)]) for c, i in zip(parts.captions, parts.caption_image, strict=True) if int(i) in new]
    return replace(
        parts,
        filenames=[parts.filenames[i] for i in kept],
        captions=[c for c, _ in captions],
        caption_image=[i for _, i in captions],
        image_class=[int(parts.image_class[i]) for i in kept],
        splits={
            scheme: {part: [new[int(i)] for i in ids if int(i) in new] for part, ids in of.items()}
            for scheme, of in parts.splits.items()
        },
        missing=[*parts.missing, *(parts.filenames[i] for i in sorted(rows))],
    )
