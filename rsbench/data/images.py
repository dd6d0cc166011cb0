"""Image bytes to square RGB arrays of one size, in parallel and in order."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from rsbench.data.archive import Source, open_source
from rsbench.data.parts import Pixels, Unreadable, missing_message
from rsbench.errors import ArchiveError, DataError

_WINDOW = 256  # images decoded ahead of the writer; bounds memory


def read_images(
    source: Path, filenames: Sequence[str], size: int, allow_partial: bool
) -> Iterator[Pixels | Unreadable]:
    """Decode named images of a folder or archive.

    Args:
        source: folder, zip, tar or tar.gz; searched by file name, whatever the sub-folder.
        filenames: N names; the order of the result.
        size: side in pixels of the result.
        allow_partial: absent files are yielded as ``Unreadable`` instead of refused at once.

    Yields:
        uint8 ``[size, size, 3]``, or ``Unreadable``.

    Raises:
        DataError: a file is absent and ``allow_partial`` is off, or the source cannot be opened.
    """
    with open_source(source) as files, ThreadPoolExecutor(os.cpu_count()) as pool:
        members = [files.find(name) for name in filenames]
        absent = [name for name, member in zip(filenames, members, strict=True) if member is None]
        if absent and not allow_partial:
            raise DataError(missing_message([f"{n} (not in {files.where})" for n in absent], len(filenames)))
        for start in range(0, len(members), _WINDOW):
            yield from pool.map(lambda m: _load(files, m, size), members[start : start + _WINDOW])


def decode(content: bytes, size: int) -> Pixels | Unreadable:
    """Decode one jpg, png or tif and squash it to a square (bicubic) where it is not one of that size.

    Transparent pixels are shown on black; 16-bit values are scaled to 8 bit by their upper byte.

    Args:
        content: the file.
        size: side in pixels.

    Returns:
        uint8 ``[size, size, 3]`` RGB, or ``Unreadable`` with the reason.
    """
    if not content:
        return Unreadable("empty file")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            rgb = _rgb(image)
    except Image.DecompressionBombError:
        return Unreadable("too many pixels")
    except Exception as error:  # PIL raises almost anything on damaged files
        return Unreadable("truncated" if "truncated" in str(error).lower() else "not a readable image")
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(rgb, dtype=np.uint8)


def _load(files: Source, member: str | None, size: int) -> Pixels | Unreadable:
    if member is None:
        return Unreadable(f"not in {files.where}")
    try:
        return decode(files.read(member), size)
    except (OSError, ArchiveError) as error:
        return Unreadable(f"cannot be read: {error}")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        eight_bit = values / 257 if values.max(initial=0) > 255 else values
        return Image.fromarray(np.clip(np.rint(eight_bit), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")
