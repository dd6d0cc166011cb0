"""The packed store: a folder with ``images.npy`` or ``regions.npy`` (memory-mapped) and ``dataset.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from rsbench.data.dataset import Dataset, NoPixels, Regions
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
from rsbench.data.rows import finite_regions, square_images, write_rows
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

T = TypeVar("T")

SCHEMA = 1
IMAGES, REGIONS, META = "images.npy", "regions.npy", "dataset.json"


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
    if parts.regions is not None:
        regions = _counted(finite_regions(parts.regions), parts, progress)
        with (folder / REGIONS).open("wb") as file:
            found, shape, dtype = write_rows(file, regions)
        meta = _meta(parts, found, 0, {"regions": [*shape[1:], str(dtype)]})
    else:
        meta = _pack_images(folder, parts, allow_partial, progress)
    write_atomic(folder / META, json.dumps(meta, ensure_ascii=False).encode())


def _pack_images(folder: Path, parts: Parts, allow_partial: bool, progress: Progress) -> dict[str, Any]:
    """Write the images; the manifest of those that could be read."""
    bad: dict[int, str] = {}
    with (folder / IMAGES).open("wb") as file:
        images_hash, shape, _ = write_rows(file, square_images(_readable(parts, bad, progress)))
    if bad and not allow_partial:
        raise DataError(missing_message([f"{parts.filenames[i]} ({r})" for i, r in bad.items()], len(parts.filenames)))
    if bad:
        parts = drop_images(parts, set(bad))
    return _meta(parts, images_hash, shape[1], {"image_size": shape[1]})


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
        file = REGIONS if "regions" in meta else IMAGES
        dataset = _dataset(meta, np.load(folder / file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"packed dataset '{name}' is damaged ({type(error).__name__}: {error}); {again}") from error
    wrong = _inconsistency(dataset, meta)
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
    for row, image in enumerate(_counted(parts.images, parts, progress)):
        if isinstance(image, Unreadable):
            bad[row] = image.reason
        else:
            yield image


def _counted(rows: Iterable[T], parts: Parts, progress: Progress) -> Iterator[T]:
    """The rows, reported one by one; one for each file name."""
    total, done = len(parts.filenames), 0
    for done, row in enumerate(rows, 1):
        yield row
        progress(f"packing {parts.name}", done, total)
    if done != total:
        raise DataError(f"dataset '{parts.name}': {done} images for {total} file names")


def _tables(parts: Parts) -> dict[str, Any]:
    return {
        "filenames": list(parts.filenames),
        "captions": list(parts.captions),
        "caption_image": [int(i) for i in parts.caption_image],
        "classes": list(parts.classes),
        "image_class": [int(i) for i in parts.image_class],
        "splits": {s: {p: [int(i) for i in ids] for p, ids in of.items()} for s, of in parts.splits.items()},
    }


def _meta(parts: Parts, images_hash: str, size: int, form: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest; ``form`` (size of the pixels, or shape and type of the regions) is part of the fingerprint."""
    tables = _tables(parts)
    return {
        "schema": SCHEMA,
        "name": parts.name,
        "revision": parts.revision,
        "image_size": size,
        "images_hash": images_hash,
        "fingerprint": fingerprint(parts.revision, {**tables, **form}, images_hash),
        "missing": list(parts.missing),
        "info": dict(parts.info),
        **form,
        **tables,
    }


def _dataset(meta: Mapping[str, Any], rows: Pixels | Regions) -> Dataset:
    pixels = "regions" not in meta
    return Dataset(
        name=meta["name"],
        fingerprint=meta["fingerprint"],
        images=cast(Pixels, rows if pixels else NoPixels(meta["name"])),
        images_hash=meta["images_hash"],
        filenames=tuple(meta["filenames"]),
        captions=tuple(meta["captions"]),
        caption_image=np.asarray(meta["caption_image"], dtype=np.int64),
        image_class=np.asarray(meta["image_class"], dtype=np.int64),
        classes=tuple(meta["classes"]),
        splits={s: {p: np.asarray(i, dtype=np.int64) for p, i in of.items()} for s, of in meta["splits"].items()},
        missing=tuple(meta["missing"]),
        info=meta["info"],
        regions=None if pixels else cast(Regions, rows),
    )


def _inconsistency(dataset: Dataset, meta: Mapping[str, Any]) -> str | None:
    """What does not fit together in a store, or None."""
    n = len(dataset.filenames)
    if wrong := _wrong_rows(dataset, n, meta):
        return wrong
    if len(dataset.caption_image) != len(dataset.captions) or len(dataset.image_class) != n:
        return "tables of different lengths"
    ids = [dataset.caption_image, *(i for of in dataset.splits.values() for i in of.values())]
    if any(len(i) and (i.min() < 0 or i.max() >= n) for i in ids):
        return f"a table points outside the {n} images"
    return None


def _wrong_rows(dataset: Dataset, n: int, meta: Mapping[str, Any]) -> str | None:
    """How the array differs from what the manifest says, or None."""
    rows: npt.NDArray[Any]
    if dataset.regions is not None:
        file, rows, (*shape, kind) = REGIONS, dataset.regions, meta["regions"]
    else:
        size = int(meta["image_size"])
        file, rows, shape, kind = IMAGES, dataset.images, [size, size, 3], "uint8"
    if rows.dtype == kind and list(rows.shape) == [n, *shape]:
        return None
    return f"{file} is {rows.dtype} {list(rows.shape)}, expected {kind} {[n, *shape]}"
