"""The one in-memory form of a dataset."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from rsbench.errors import DataError, UsageError

Ints = npt.NDArray[np.int64]
Regions = npt.NDArray[np.floating[Any]]


class NoPixels:
    """Stands for the images of a dataset that holds region features alone: whoever reads pixels is told so.

    Args:
        name: registered name of the dataset.

    Raises:
        DataError: on every use, with what to type instead.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise DataError(
            f"dataset '{self._name}' is packed as region features and has no pixels; use --backbone regions, or pack "
            f"its images: rsbench prepare {self._name} --source IMAGES --captions FILE.json --overwrite"
        )

    __array__ = __getitem__ = __len__ = __iter__ = _refuse

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # copying and pickling ask for these
            raise AttributeError(attribute)
        self._refuse()


@dataclass(frozen=True)
class Dataset:
    """Images, captions and the table that joins them.

    Attributes:
        name: registered name.
        fingerprint: sha256 over captions, tables, splits and image bytes.
        images: uint8 ``[N, H, W, 3]``, usually a memory map; ``NoPixels`` where there are region features instead.
        images_hash: sha256 of the bytes of images or regions; key of image feature caches.
        filenames: N names, in the order of the source.
        captions: M strings.
        caption_image: ``[M]``, the image of each caption.
        image_class: ``[N]``, index into ``classes``, -1 where unknown.
        classes: scene class names, empty where the dataset has none.
        splits: scheme -> part (train, val, test) -> image indices **in order**: the row order of
            official noise files is the order of the split.
        missing: names of images that were absent or unreadable and accepted with ``--allow-partial``.
        regions: float32 or float16 ``[N, R, W]``, features of R detected regions per image, a memory map; None where
            the dataset has pixels.
    """

    name: str
    fingerprint: str
    images: npt.NDArray[np.uint8]
    images_hash: str
    filenames: tuple[str, ...]
    captions: tuple[str, ...]
    caption_image: Ints
    image_class: Ints
    classes: tuple[str, ...]
    splits: Mapping[str, Mapping[str, Ints]]
    missing: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    regions: Regions | None = None

    @property
    def image_size(self) -> int | None:
        """Side of the packed images in pixels, None where there are region features instead."""
        return None if self.regions is not None else int(self.images.shape[1])

    def part(self, split: str, part: str) -> Ints:
        """Image indices of one part of one split, in split order.

        Raises:
            UsageError: no such split or part.
        """
        if split not in self.splits:
            raise UsageError(f"dataset '{self.name}' has no split '{split}'; it has: {', '.join(self.splits)}")
        parts = self.splits[split]
        if part not in parts or len(parts[part]) == 0:
            raise UsageError(f"split '{split}' of '{self.name}' has no {part} part; it has: {', '.join(parts)}")
        return parts[part]

    def pairs(self, split: str, part: str) -> Ints:
        """The dataset's own pairs ``[P, 2]`` (image, caption): images in split order, each with its captions."""
        images = self.part(split, part)
        captions = [self.captions_of[i] for i in images]
        shown = np.repeat(images, [len(c) for c in captions])
        return np.stack([shown, np.concatenate(captions)], axis=1)

    @cached_property
    def captions_of(self) -> tuple[Ints, ...]:
        """Caption indices of each image."""
        order = np.argsort(self.caption_image, kind="stable")
        bounds = np.searchsorted(self.caption_image[order], np.arange(len(self.filenames) + 1))
        return tuple(order[a:b] for a, b in itertools.pairwise(bounds))

    @cached_property
    def _distinct(self) -> tuple[tuple[str, ...], Ints]:
        index: dict[str, int] = {}
        rows = [index.setdefault(c, len(index)) for c in self.captions]
        return tuple(index), np.asarray(rows, dtype=np.int64)

    @property
    def texts(self) -> tuple[str, ...]:
        """Distinct caption strings, in order of first appearance. Encoded once, so that equal captions tie exactly."""
        return self._distinct[0]

    @property
    def caption_text(self) -> Ints:
        """``[M]``, the row of each caption in ``texts``."""
        return self._distinct[1]
