"""Four states of a dataset: packed, raw files given, download allowed, refused with both ways out."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from rsbench.data.acquire import card_of, fetch, local_way, ways_out
from rsbench.data.card import DatasetCard
from rsbench.data.dataset import Dataset
from rsbench.data.local import STORES, register_local
from rsbench.data.parts import Reader, ReadOptions
from rsbench.data.report import Report, make_report
from rsbench.data.store import META, read_store, stored_revision, write_store
from rsbench.data.subset import subset_view
from rsbench.errors import DataError, UsageError
from rsbench.files import write_atomic
from rsbench.progress import Progress, silent
from rsbench.registry import DATASETS, resolve

_LAST = "last_prepared"


def open_dataset(name: str, root: Path, progress: Progress = silent) -> Dataset:
    """Open a packed dataset; generated ones are made on first use, subsets are views on their base.

    Args:
        name: registered name.
        root: data root.
        progress: called while a generated dataset is made.

    Raises:
        UnknownNameError: no such dataset.
        DataError: not packed (the message names both ways out), or damaged.
    """
    register_local(root)
    card: DatasetCard = DATASETS.load(name)
    if card.base:
        return subset_view(open_dataset(card.base, root, progress), card)
    folder = store_folder(root, name)
    packed = is_packed(root, name)
    if not packed and not card.generated:
        raise DataError(f"dataset '{name}' is not prepared under {root}; {ways_out(card)}")
    if card.generated and (not packed or _outdated(folder, card)):
        with _disk_faults(name, root):
            _pack(card, root, None, None, ReadOptions(card.image_size), progress, overwrite=packed)
    if _outdated(folder, card):
        raise DataError(
            f"dataset '{name}' was packed as revision {stored_revision(folder)}, this version makes {card.revision}; "
            f"pack it again: rsbench prepare {name} --overwrite"
        )
    return read_store(folder, name)


def _outdated(folder: Path, card: DatasetCard) -> bool:
    return stored_revision(folder) not in (None, card.revision)


def prepare(
    name: str,
    root: Path,
    *,
    source: Path | str | None = None,
    captions: Path | None = None,
    download: bool = True,
    allow_partial: bool = False,
    image_size: int | None = None,
    samples: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Report:
    """Bring a dataset into its packed form and report on it. Packed already: only the report.

    Args:
        name: registered name, where a subset prepares its base; or a new name for the user's own pairs, which then
            need ``source`` and ``captions``.
        root: data root.
        source: image folder, zip or tar; for datasets read from shards also an http(s) address.
        captions: JSON or CSV file; where None, looked for inside ``source``.
        download: whether the network may be used where no source is given.
        allow_partial: accept absent or unreadable images, which are counted and named.
        image_size: side in pixels, None for the card's.
        samples: images to take from shards, None for the card's number.
        overwrite: pack again.
        progress: called per image and per downloaded block.

    Raises:
        UnknownNameError: no such dataset.
        DataError: every fault of the files, a full disk, or no source at all.
    """
    address = source if isinstance(source, str) and "://" in source else None
    source = None if source is None or address else Path(source)
    card = card_of(name, root, source, captions)
    stored: DatasetCard = DATASETS.load(card.base) if card.base else card
    if image_size is not None and image_size < 1:
        raise DataError(f"--image-size is {image_size}, it must be at least 1")
    if not stored.shards and (address or samples is not None):
        given = f"--source {address}" if address else "--samples"
        raise UsageError(
            f"{given} is for datasets read from shards (rs5m), '{name}' takes local files: {local_way(card)}"
        )
    scratch = root / "downloads" / f"{stored.name}.shards" if stored.shards else None
    options = ReadOptions(image_size or stored.image_size, allow_partial, address, samples, scratch)
    packed_now = overwrite or not is_packed(root, stored.name)
    if packed_now:
        with _disk_faults(stored.name, root):
            if source is None and not (stored.generated or (address and download)):
                source, captions = fetch(stored, root, captions, download, progress)
            _pack(stored, root, source, captions, options, progress, overwrite)
    dataset = open_dataset(name, root, progress)
    _check_size(dataset, image_size)
    _check_samples(dataset, samples)
    report = make_report(dataset, card, store_folder(root, stored.name), packed_now)
    write_atomic(root / _LAST, name.encode())
    return report


def last_prepared(root: Path) -> str | None:
    """Name of the dataset prepared last in this root, if it is still there."""
    register_local(root)
    try:
        name = (root / _LAST).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    if name not in DATASETS.names():
        return None
    return name if is_packed(root, DATASETS.load(name).base or name) else None


def is_packed(root: Path, name: str) -> bool:
    """Whether a store of this name is under the root."""
    return (store_folder(root, name) / META).is_file()


def store_folder(root: Path, name: str) -> Path:
    """Folder of a packed store."""
    return root / STORES / name


def _pack(
    card: DatasetCard,
    root: Path,
    source: Path | None,
    captions: Path | None,
    options: ReadOptions,
    progress: Progress,
    overwrite: bool = False,
) -> None:
    """Read, write beside the final place, then move: a store is complete or absent."""
    target = store_folder(root, card.name)
    reader: Reader = resolve(card.reader)
    tmp, old = (target.with_name(f".{card.name}.{end}") for end in ("tmp", "old"))
    with _lock(target):
        if old.exists() and not target.exists():  # killed between the two moves below
            os.replace(old, target)
        if is_packed(root, card.name) and not overwrite:
            return  # another process was faster
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir()
        try:
            parts = reader(source, captions, card, options, progress)
            write_store(tmp, parts, allow_partial=options.allow_partial, progress=progress)
            if target.exists():
                os.replace(target, old)
            os.replace(tmp, target)
            if options.scratch:
                shutil.rmtree(options.scratch, ignore_errors=True)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        yield


@contextmanager
def _disk_faults(name: str, root: Path) -> Iterator[None]:
    """Say a full disk or a forbidden path in one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"disk full while packing '{name}' under {root}; no half store was left: "
                "free space or give another --root"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            inside = str(error.filename).startswith(str(root))
            what = f"cannot write {error.filename}" if inside else f"cannot read {error.filename}"
            way = "give another --root" if inside else "change its permissions"
            raise DataError(f"{what} ({error.strerror}); {way}") from error
        raise


def _check_size(dataset: Dataset, wanted: int | None) -> None:
    side = dataset.image_size
    if wanted is not None and side is not None and wanted != side:
        raise DataError(
            f"dataset '{dataset.name}' is packed at {side} px, --image-size is {wanted}; "
            "add --overwrite to pack it again"
        )


def _check_samples(dataset: Dataset, wanted: int | None) -> None:
    packed = dataset.info.get("samples")
    if wanted is not None and wanted != packed:
        raise DataError(
            f"dataset '{dataset.name}' is packed with --samples {packed}, not {wanted}; add --overwrite to change it"
        )
