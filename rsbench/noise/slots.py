"""Image slots: the places of the training images, in split order.

The field's files speak of slots, not of image numbers: slot s is the s-th image of the training part
that has captions. A shuffle is fully described by the slot in which each caption is shown.
"""

from __future__ import annotations

import numpy as np

from rsbench.data.dataset import Ints


def row_slots(clean: Ints) -> Ints:
    """``[P]``, the slot of each row of the dataset's own pairs ``[P, 2]`` (rows of one image are adjacent)."""
    starts = np.diff(clean[:, 0], prepend=clean[:1, 0] - 1) != 0
    return np.cumsum(starts) - 1


def slot_images(clean: Ints) -> Ints:
    """``[S]``, the image of each slot."""
    images: Ints = clean[_starts(row_slots(clean)), 0]
    return images


def positions(values: Ints, of: Ints) -> Ints:
    """Where each of ``of`` stands in ``values`` (distinct), -1 where it is absent."""
    order = np.argsort(values, kind="stable")
    at = np.minimum(np.searchsorted(values, of, sorter=order), len(values) - 1)
    return np.where(values[order[at]] == of, order[at], -1)


def caption_slots(clean: Ints, pairs: Ints) -> Ints | None:
    """The slot in which each caption is shown, ``[P]`` in clean row order; None when captions repeat or vanish."""
    rows = positions(clean[:, 1], pairs[:, 1])
    if len(pairs) != len(clean) or not np.array_equal(np.sort(rows), np.arange(len(clean))):
        return None
    shown = np.empty(len(clean), dtype=np.int64)
    shown[rows] = positions(slot_images(clean), pairs[:, 0])
    return shown


def placed_images(clean: Ints, pairs: Ints) -> Ints | None:
    """The slot whose image stands in each slot, ``[S]``; None unless all captions of a slot move together."""
    shown = caption_slots(clean, pairs)
    if shown is None:
        return None
    slots = row_slots(clean)
    placed: Ints = shown[_starts(slots)]
    return placed if np.array_equal(placed[slots], shown) else None


def shuffle_fault(clean: Ints, pairs: Ints) -> str | None:
    """Why ``pairs`` is no shuffle of ``clean``, in words; None when it is one.

    A shuffle keeps the captions as a multiset and the images too: row by row, or, where whole slots move
    between images with different numbers of captions, slot by slot.
    """
    fault = _count_fault("caption row", positions(clean[:, 1], pairs[:, 1]), np.arange(len(clean)))
    if fault:
        return fault
    placed = placed_images(clean, pairs)
    if placed is not None and np.array_equal(np.sort(placed), np.arange(len(placed))):
        return None
    return _count_fault("image slot", positions(slot_images(clean), pairs[:, 0]), row_slots(clean))


def _starts(slots: Ints) -> Ints:
    return np.flatnonzero(np.diff(slots, prepend=-1))


def _count_fault(what: str, shown: Ints, expected: Ints) -> str | None:
    if (shown < 0).any():
        return f"row {int(np.argmin(shown))} shows a {what.split()[0]} that is not of the training part"
    size = int(expected.max()) + 1
    got, want = np.bincount(shown, minlength=size), np.bincount(expected, minlength=size)
    wrong = np.flatnonzero(got != want)
    if not len(wrong):
        return None
    first = wrong[0]
    return f"{what} {first} is shown {got[first]} times instead of {want[first]}"
