"""Region packages of SCAN and NCR: ``<split>_ims.npy`` [N, R, W] and ``<split>_caps.txt``, captions in image order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from rsbench.data.archive import Source, open_source
from rsbench.data.captions import Record
from rsbench.data.card import DatasetCard
from rsbench.data.dataset import Regions
from rsbench.data.parts import Parts, Reader, ReadOptions
from rsbench.data.splits import Split, official_split
from rsbench.errors import DataError
from rsbench.progress import Progress

VAL = 1_000
"""Validation images that the published codes use, the first ones (XLearning-SCU/2021-NeurIPS-NCR NCR/data.py)."""

_NAMES: Mapping[str, Sequence[str]] = {"train": ("train",), "val": ("dev", "val"), "test": ("testall", "test")}
_FEATURES, _CAPTIONS = "_ims.npy", ("_caps.txt", "_caps.tsv")


@dataclass(frozen=True)
class Package:
    """What is published of a region package.

    Attributes:
        folder: its folder name, which tells it from the others in one archive.
        per_image: captions of each image.
        sizes: images of train, val and test as the published codes use them.
    """

    folder: str
    per_image: int
    sizes: tuple[int, int, int]


@dataclass(frozen=True)
class _Table:
    """One part of a package: ``images`` region tables, each stored ``copies`` times."""

    member: str
    captions: list[str]
    images: int
    copies: int


def packaged(package: Package, pictures: Reader) -> Reader:
    """The reader of a dataset that comes as region features or as pictures.

    Args:
        package: the region package.
        pictures: reads the pictures where the source holds no ``*_ims.npy``.
    """

    def read(
        source: Path | None, captions: Path | None, card: DatasetCard, options: ReadOptions, progress: Progress
    ) -> Parts:
        if source is None:
            raise DataError(f"dataset '{card.name}' needs its files: --source FOLDER_OR_ARCHIVE")
        with open_source(source) as files:
            if not any(name.endswith(_FEATURES) for name in files.members):
                return pictures(source, captions, card, options, progress)
            tables = {part: _table(files, package, part) for part in _NAMES}
        if captions is not None:
            raise DataError("--captions is for pictures; a region package brings its own captions: leave it out")
        return _parts(source, card, package, tables)

    return read


def published_val(records: Sequence[Record]) -> Split:
    """The file's parts, of val the first 1,000 images."""
    split = official_split(records)
    return {part: ids[:VAL] if part == "val" else ids for part, ids in split.items()}


def _parts(source: Path, card: DatasetCard, package: Package, tables: Mapping[str, _Table]) -> Parts:
    each, captions, starts = package.per_image, list[str](), [0]
    for table in tables.values():
        captions += table.captions[: table.images * each]
        starts.append(starts[-1] + table.images)
    sizes = tuple(table.images for table in tables.values())
    notes = ["images are region features, in the order of the package: official noise files fit"]
    if sizes != package.sizes:
        have, want = (" / ".join(f"{n:,}" for n in s) for s in (sizes, package.sizes))
        notes = [f"{have} images for train / val / test, published are {want}: official noise files do not fit"]
    return Parts(
        name=card.name,
        images=(),
        filenames=[f"{part}_{i:06d}" for part, table in tables.items() for i in range(table.images)],
        captions=captions,
        caption_image=np.repeat(np.arange(starts[-1]), each),
        classes=(),
        image_class=np.full(starts[-1], -1),
        splits={
            card.default_split: {p: np.arange(a, b) for p, a, b in zip(tables, starts[:-1], starts[1:], strict=True)}
        },
        info={"title": card.title, "notes": notes},
        revision=card.revision,
        regions=_rows(source, list(tables.values())),
    )


def _table(files: Source, package: Package, part: str) -> _Table:
    """Find a part and check its counts before any feature is read."""
    member = _first(files, [f"{package.folder}/{name}{_FEATURES}" for name in _NAMES[part]], files.find)
    every = {path for paths in files.members.values() for path in paths}
    beside = [member.removesuffix(_FEATURES) + end for end in _CAPTIONS]
    texts = _first(files, beside, lambda path: path if path in every else None)
    captions = _captions(files.read(texts), texts)
    with files.open(member) as stream:
        shape, _ = _header(stream, member)
    each, rows, lines = package.per_image, shape[0], len(captions)
    if not rows or (rows * each != lines and (rows != lines or lines % each)):
        raise DataError(
            f"{member} holds {rows:,} images and {texts} {lines:,} captions; expected {each} for each image, "
            "or one row of features for each caption"
        )
    images = lines // each
    return _Table(member, captions, min(images, VAL) if part == "val" else images, rows // images)


def _first(files: Source, paths: Sequence[str], find: Callable[[str], str | None]) -> str:
    """The first of some files that is there."""
    for path in paths:
        if found := find(path):
            return found
    raise DataError(
        f"{files.where} has no {' or '.join(p.rpartition('/')[2] for p in paths)}; a region package has "
        f"<split>{_FEATURES} and <split>{_CAPTIONS[0]} for train, dev and test"
    )


def _captions(content: bytes, name: str) -> list[str]:
    """One caption a line; the second column where the file is a ``.tsv``."""
    try:
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{name}: line {line} is not UTF-8; convert the file") from error
    captions = []
    for number, text in enumerate(lines, 1):
        columns = text.split("\t", 1) if name.endswith(".tsv") else ["", text]
        if len(columns) < 2:
            raise DataError(f"{name}: line {number} has one column, expected image id, tab and caption")
        if not columns[1].strip():
            raise DataError(f"{name}: line {number} holds an empty caption")
        captions.append(columns[1].strip())
    return captions


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a ``.npy`` file; the stream stands at its first value afterwards."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, EOFError) as error:
        raise DataError(f"{name} is no whole .npy file ({error}); get it again") from error
    if dtype.kind != "f" or len(shape) != 3 or fortran:
        order = " in Fortran order" if fortran else ""
        raise DataError(
            f"{name} is {dtype} {list(shape)}{order}, expected float [images, regions, width], as [N, 36, 2048]"
        )
    return shape, dtype


def _rows(source: Path, tables: Sequence[_Table]) -> Iterator[Regions]:
    """Features image by image, ``[R, W]``; repeated rows are read once and must be equal."""
    with open_source(source) as files:
        for table in tables:
            with files.open(table.member) as stream:
                shape, dtype = _header(stream, table.member)
                for image in range(table.images):
                    yield _next(stream, table, image, shape[1:], dtype)


def _next(stream: IO[bytes], table: _Table, image: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Regions:
    size = int(np.prod(shape)) * dtype.itemsize * table.copies
    content = stream.read(size)
    if len(content) < size:
        raise DataError(f"{table.member} ends inside image {image}: it is truncated; get it again")
    rows: Regions = np.frombuffer(content, dtype).reshape(table.copies, *shape)
    if table.copies > 1 and (rows != rows[0]).any() and np.isfinite(rows).all():
        raise DataError(f"{table.member}: the {table.copies} rows of image {image} differ; expected the image repeated")
    kind = "float16" if dtype.itemsize == 2 else "float32"
    return np.asarray(rows[0], dtype=kind)
