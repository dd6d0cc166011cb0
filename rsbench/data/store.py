"""The packed store: one folder with ``images.npy`` (memory-mapped) and ``dataset.json``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from rsbench.data.dataset import Dataset
from rsbench.data.parts import (
    Parts,
    Pixels,
    Reader,
    ReadOptions,
    Unreadable,
    check_parts,
    drop_images,
    missing_message,
)
from rsbench.errors import DataError
from rsbench.files import write_atomic
from rsbench.progress import Progress, silent

__all__ = [
    "Parts",
    "Pixels",
    "ReadOptions",
    "Reader",
    "Unreadable",
    "fingerprint",
    "read_store",
    "write_store",
]

SCHEMA = 1
IMAGES, META = "images.npy", "dataset.json"
_NPY_HEADER = 128  # bytes; numpy pads the header of a uint8 [N, S, S, 3] array to this for any N and S of use here


def write_store(folder: Path, parts: Parts, *, allow_partial: bool = False, progress: Progress = silent) -> None:
    """Write images and tables into an existing empty folder; the caller moves it into place.

    Args:
        folder: where to write.
        parts: the rows.
        allow_partial: drop unreadable images with their captions instead of refusing them.
        progress: called per image.

    Raises:
        DataError: unreadable images without ``allow_partial``, or tables that do not fit together.
    """
    check_parts(parts)
    bad: dict[int, str] = {}
    with (folder / IMAGES).open("wb") as file:
        images_hash, shape = _write_images(file, _readable(parts, bad, progress))
    if bad and not allow_partial:
        raise DataError(missing_message([f"{parts.filenames[i]} ({r})" for i, r in bad.items()], len(parts.filenames)))
    if bad:
        parts = drop_images(parts, set(bad))
    write_atomic(folder / META, json.dumps(_meta(parts, images_hash, shape), ensure_ascii=False).encode())


def read_store(folder: Path, name: str) -> Dataset:
    """Open a packed store; images stay on disk until they are touched.

    Raises:
        DataError: files absent, damaged, of another schema or of lengths that disagree.
    """
    again = f"pack it again: rsbench prepare {name} --overwrite"
    try:
        meta = json.loads((folder / META).read_bytes())
        version = meta["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"packed dataset '{name}' has no readable {META} ({type(error).__name__}); {again}") from error
    if version != SCHEMA:
        raise DataError(f"packed dataset '{name}' has schema {version}, this version reads {SCHEMA}; {again}")
    try:
        images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
        dataset = _dataset(meta, images)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"packed dataset '{name}' is damaged ({type(error).__name__}: {error}); {again}") from error
    wrong = _inconsistency(dataset, int(meta["image_size"]))
    if wrong:
        raise DataError(f"packed dataset '{name}' is damaged ({wrong}); {again}")
    return dataset


def stored_revision(folder: Path) -> int | None:
    """Revision of the card that a store was packed with; None where the store cannot tell."""
    try:
        return int(json.loads((folder / META).read_bytes())["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint(revision: int, tables: Mapping[str, Any], images_hash: str) -> str:
    """sha256 over the card's revision, all tables (as canonical JSON) and the image bytes' hash."""
    text = json.dumps([revision, dict(tables), images_hash], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _readable(parts: Parts, bad: dict[int, str], progress: Progress) -> Iterator[Pixels]:
    """Readable images in order; the others go into ``bad``."""
    total, row = len(parts.filenames), -1
    for row, image in enumerate(parts.images):
        if isinstance(image, Unreadable):
            bad[row] = image.reason
        else:
            yield image
        progress(f"packing {parts.name}", row + 1, total)
    if row + 1 != total:
        raise DataError(f"dataset '{parts.name}': {row + 1} images for {total} file names")


def _write_images(file: IO[bytes], images: Iterable[Pixels]) -> tuple[str, tuple[int, ...]]:
    """Append images behind a header written last: plain writes, since a memory map dies of SIGBUS on a full disk."""
    digest, count, side = hashlib.sha256(), 0, None
    file.write(bytes(_NPY_HEADER))
    for image in images:
        pixels = np.ascontiguousarray(image)
        if pixels.dtype != np.uint8 or pixels.shape != (side or pixels.shape[0], side or pixels.shape[0], 3):
            raise DataError(f"image {count} is {pixels.dtype} {list(pixels.shape)}, expected uint8 [S, S, 3]")
        side = pixels.shape[0]
        digest.update(pixels.data)
        file.write(pixels.data)
        count += 1
    shape = (count, side or 0, side or 0, 3)
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    if file.tell() != _NPY_HEADER:
        raise DataError(f"image table of shape {list(shape)} does not fit the packed format")
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest(), shape


def _tables(parts: Parts) -> dict[str, Any]:
    return {
        "filenames": list(parts.filenames),
        "captions": list(parts.captions),
        "caption_image": [int(i) for i in parts.caption_image],
        "classes": list(parts.classes),
        "image_class": [int(i) for i in parts.image_class],
        "splits": {s: {p: [int(i) for i in ids] for p, ids in of.items()} for s, of in parts.splits.items()},
    }


def _meta(parts: Parts, images_hash: str, shape: tuple[int, ...]) -> dict[str, Any]:
    tables = _tables(parts)
    return {
        "schema": SCHEMA,
        "name": parts.name,
        "revision": parts.revision,
        "image_size": shape[1],
        "images_hash": images_hash,
        "fingerprint": fingerprint(parts.revision, {**tables, "image_size": shape[1]}, images_hash),
        "missing": list(parts.missing),
        "info": dict(parts.info),
        **tables,
    }


def _dataset(meta: Mapping[str, Any], images: Pixels) -> Dataset:
    return Dataset(
        name=meta["name"],
        fingerprint=meta["fingerprint"],
        images=images,
        images_hash=meta["images_hash"],
        filenames=tuple(meta["filenames"]),
        captions=tuple(meta["captions"]),
        caption_image=np.asarray(meta["caption_image"], dtype=np.int64),
        image_class=np.asarray(meta["image_class"], dtype=np.int64),
        classes=tuple(meta["classes"]),
        splits={s: {p: np.asarray(i, dtype=np.int64) for p, i in of.items()} for s, of in meta["splits"].items()},
        missing=tuple(meta["missing"]),
        info=meta["info"],
    )


def _inconsistency(dataset: Dataset, size: int) -> str | None:
    """What does not fit together in a store, or None."""
    n = len(dataset.filenames)
    if dataset.images.dtype != np.uint8 or dataset.images.shape != (n, size, size, 3):
        shape = list(dataset.images.shape)
        return f"{IMAGES} is {dataset.images.dtype} {shape}, expected uint8 [{n}, {size}, {size}, 3]"
    if len(dataset.caption_image) != len(dataset.captions) or len(dataset.image_class) != n:
        return "tables of different lengths"
    ids = [dataset.caption_image, *(i for of in dataset.splits.values() for i in of.values())]
    if any(len(i) and (i.min() < 0 or i.max() >= n) for i in ids):
        return f"a table points outside the {n} images"
    return None
