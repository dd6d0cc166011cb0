"""Rows of images or region features, one after the other into a ``.npy`` file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from rsbench.data.dataset import Regions
from rsbench.errors import DataError

_NPY_HEADER = 128  # bytes; numpy pads the header of an array of any length of use here to this
_EMPTY = (0, 0, 0, 3)


def write_rows(file: IO[bytes], rows: Iterable[npt.NDArray[Any]]) -> tuple[str, tuple[int, ...], np.dtype[Any]]:
    """Append rows behind a header written last: plain writes, since a memory map dies of SIGBUS on a full disk.

    Args:
        file: open for binary writing, at its start.
        rows: arrays of one shape and type.

    Returns:
        sha256 of the rows' bytes, the shape with the number of rows first, and the type.

    Raises:
        DataError: a row unlike the first.
    """
    digest, count, first = hashlib.sha256(), 0, np.empty(_EMPTY[1:], dtype=np.uint8)
    file.write(bytes(_NPY_HEADER))
    for row in rows:
        row = np.ascontiguousarray(row)
        first = first if count else row
        if row.shape != first.shape or row.dtype != first.dtype:
            raise DataError(f"row {count} is {_form(row)}, expected {_form(first)} like the first one")
        digest.update(row.data)
        file.write(row.data)
        count += 1
    shape = (count, *first.shape)
    file.seek(0)
    head = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)
    if file.tell() != _NPY_HEADER:
        raise DataError(f"a table of shape {list(shape)} does not fit the packed format")
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest(), shape, first.dtype


def square_images(images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    """Pass images on that are uint8 ``[S, S, 3]``.

    Raises:
        DataError: the first that is not.
    """
    side: int | None = None
    for i, image in enumerate(images):
        side = side or image.shape[0]
        if image.dtype != np.uint8 or image.shape != (side, side, 3):
            raise DataError(f"image {i} is {_form(image)}, expected uint8 [S, S, 3]")
        yield image


def finite_regions(regions: Iterable[Regions]) -> Iterator[Regions]:
    """Pass region features on that are finite float32 or float16 ``[R, W]``.

    Raises:
        DataError: the first that is not.
    """
    for i, region in enumerate(regions):
        if region.dtype not in (np.float32, np.float16) or region.ndim != 2 or not region.size:
            raise DataError(f"regions of image {i} are {_form(region)}, expected float32 or float16 [R, W]")
        if not np.isfinite(region).all():
            raise DataError(f"regions of image {i} hold values that are not finite; get the file again")
        yield region


def _form(row: npt.NDArray[Any]) -> str:
    return f"{row.dtype} {list(row.shape)}"
