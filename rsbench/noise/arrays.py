"""The field's array files: per caption (NCR), per image (RCL, DECL) and plain pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rsbench.data.dataset import Ints
from rsbench.errors import NoiseError
from rsbench.noise.slots import caption_slots, placed_images, row_slots, shuffle_fault, slot_images


def read_array(path: Path) -> Ints:
    """Read whole numbers from a ``.npy`` file; nothing is unpickled.

    Returns:
        int64, any shape.

    Raises:
        NoiseError: missing, damaged, pickled objects, or not of an integer type.
    """
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise NoiseError(f"no such noise file: {path}") from None
    except (OSError, ValueError, EOFError) as error:
        why = "holds Python objects, which are never loaded" if _pickled(path, error) else "is no whole .npy file"
        raise NoiseError(f"{path} {why}; save an integer array with numpy.save") from None
    if not isinstance(found, np.ndarray):
        raise NoiseError(f"{path} is a .npz archive; save the one array with numpy.save")
    if found.dtype.kind not in "iu":
        raise NoiseError(f"{path} holds {found.dtype} values; a noise file holds whole numbers (int64)")
    if found.dtype == np.uint64 and found.size and found.max() > np.iinfo(np.int64).max:
        raise NoiseError(f"{path} holds values beyond int64")
    return np.array(found, dtype=np.int64)


def pairs_from_array(clean: Ints, values: Ints) -> Ints:
    """Recognise an array by its shape and turn it into shown pairs.

    Args:
        clean: the training part's own pairs ``[P, 2]``.
        values: ``[P]`` image slot of each caption; ``[S]`` slot whose image stands in each slot;
            or ``[P, 2]`` (image, caption).

    Returns:
        ``[P, 2]``. For the first two forms row r keeps its caption and the image changes.

    Raises:
        NoiseError: wrong shape, or values out of range.
    """
    images = slot_images(clean)
    sizes = f"{len(clean)} captions (per-caption form) or {len(images)} images (per-image form)"
    if values.ndim == 2 and values.shape[1] == 2:
        return _checked_pairs(clean, values)
    if values.ndim != 1:
        raise NoiseError(
            f"the array has shape {list(values.shape)}; allowed: [P, 2] pairs, or one number for each of {sizes}"
        )
    if len(values) not in (len(clean), len(images)):
        raise NoiseError(f"the array has {len(values)} entries, the training part has {sizes}")
    outside = (values < 0) | (values >= len(images))
    if outside.any():
        at = int(np.argmax(outside))
        raise NoiseError(f"entry {at} names image slot {values[at]}; slots run from 0 to {len(images) - 1}")
    slots = values if len(values) == len(clean) else values[row_slots(clean)]
    return np.stack([images[slots], clean[:, 1]], axis=1)


def array_from_pairs(clean: Ints, pairs: Ints, form: str) -> Ints:
    """The array of a form: ``per-caption`` ``[P]``, ``per-image`` ``[S]`` or ``pairs`` ``[P, 2]``.

    Raises:
        NoiseError: the list is no permutation, or the captions of a slot do not move together.
    """
    if form == "pairs":
        return pairs
    fault = shuffle_fault(clean, pairs)
    if fault:
        raise NoiseError(f"cannot write the {form} form: the list is no permutation ({fault}); use --form csv or pairs")
    values = caption_slots(clean, pairs) if form == "per-caption" else placed_images(clean, pairs)
    if values is None:
        raise NoiseError(
            "cannot write the per-image form: captions of one image are shown with different images; "
            "use --form per-caption"
        )
    return values


def _checked_pairs(clean: Ints, pairs: Ints) -> Ints:
    if len(pairs) != len(clean):
        raise NoiseError(f"the list has {len(pairs)} pairs, the training part has {len(clean)}")
    for column, what in enumerate(("image", "caption")):
        foreign = ~np.isin(pairs[:, column], clean[:, column])
        if foreign.any():
            at = int(np.argmax(foreign))
            raise NoiseError(f"pair {at} names {what} {pairs[at, column]}, which is not in the training part")
    return pairs


def _pickled(path: Path, error: Exception) -> bool:
    """Both a pickle file (protocol byte 0x80) and an object array inside a .npy are refused as pickled."""
    with path.open("rb") as file:
        head = file.read(1)
    return head == b"\x80" or "Python object" in str(error) or "Object array" in str(error)
