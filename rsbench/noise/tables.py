"""Noise lists as CSV: RRSITR's ``filename,title`` and the compact ``filename,row,source_row``."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from rsbench.data.dataset import Dataset, Ints
from rsbench.errors import NoiseError
from rsbench.noise.slots import positions

TITLES = ("filename", "title")
"""Columns of MSFLabX/RRSITR's files: one row per training pair, captions as text."""
ROWS = ("filename", "row", "source_row")
"""One row per training pair: the shown image, the pair's id, and the clean row whose caption is shown."""


def read_table(dataset: Dataset, clean: Ints, path: Path) -> Ints:
    """Read either CSV form (plain or ``.gz``), recognised by its header.

    Returns:
        ``[P, 2]`` in clean row order.

    Raises:
        NoiseError: missing, damaged or non-UTF-8 file, missing column, wrong number of rows, unknown file name,
            unknown caption, or rows that are no row numbers.
    """
    form, columns = _columns(path)
    if len(columns[0]) != len(clean):
        raise NoiseError(f"{path} has {len(columns[0])} rows, the training part has {len(clean)} pairs")
    images = _images(dataset, clean, columns[0], path)
    if form == ROWS:
        rows, source = (_row_numbers(cells, name, path) for cells, name in zip(columns[1:], ROWS[1:], strict=True))
        return _pairs_of_rows(clean, images, rows, source, path)
    own_rows = _rows_of_images(dataset, clean, images, path)
    titles = [""] * len(clean)
    for row, title in zip(own_rows, columns[1], strict=True):
        titles[row] = title.strip()
    return np.stack([clean[:, 0], match_captions(dataset, clean, titles, path)], axis=1)


def match_captions(dataset: Dataset, clean: Ints, titles: Sequence[str], path: Path) -> Ints:
    """The caption index behind each text, ``[P]``, in clean row order.

    Equal sentences cannot be told apart: a row that shows its own text keeps its own caption, the others take the
    unused captions of that text in clean row order, then the first again. The list of texts is kept exactly.

    Raises:
        NoiseError: a text that no training caption has.
    """
    own = [dataset.captions[c].strip() for c in clean[:, 1]]
    rows_of: dict[str, list[int]] = defaultdict(list)
    free: dict[str, list[int]] = defaultdict(list)
    for row in reversed(range(len(clean))):
        rows_of[own[row]].append(row)
        if own[row] != titles[row]:
            free[own[row]].append(row)
    source = np.arange(len(clean))
    for row, title in enumerate(titles):
        if title not in rows_of:
            raise NoiseError(f"{path}: '{title[:60]}' (pair {row}) is no caption of the training part")
        if title != own[row]:
            source[row] = free[title].pop() if free[title] else rows_of[title][-1]
    captions: Ints = clean[source, 1]
    return captions


def table_bytes(dataset: Dataset, clean: Ints, pairs: Ints, form: tuple[str, ...]) -> bytes:
    """The CSV as UTF-8 with CRLF line ends, as RRSITR's files are."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(form)
    names = [dataset.filenames[i] for i in pairs[:, 0]]
    if form == ROWS:
        source = positions(clean[:, 1], pairs[:, 1]).tolist()
        writer.writerows(zip(names, range(len(pairs)), source, strict=True))
    else:
        writer.writerows(zip(names, (dataset.captions[c] for c in pairs[:, 1]), strict=True))
    return text.getvalue().encode()


def _columns(path: Path) -> tuple[tuple[str, ...], list[list[str]]]:
    """The form that the header names, and the cells of its columns."""
    header, *lines = _cells(path)
    form = ROWS if set(ROWS) <= set(header) else TITLES
    absent = [c for c in form if c not in header]
    if absent:
        allowed = f"{','.join(TITLES)} or {','.join(ROWS)}"
        raise NoiseError(f"{path} lacks column '{absent[0]}'; its header must name {allowed}")
    for number, line in enumerate(lines, 2):
        if len(line) != len(header):
            raise NoiseError(f"{path} line {number} has {len(line)} cells instead of {len(header)}")
    return form, [[line[header.index(c)] for line in lines] for c in form]


def _cells(path: Path) -> list[list[str]]:
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        lines = [line for line in csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True) if line]
    except FileNotFoundError:
        raise NoiseError(f"no such noise file: {path}") from None
    except UnicodeDecodeError as error:
        raise NoiseError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise NoiseError(f"{path} is no valid CSV: {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise NoiseError(f"{path} is no whole gzip file; copy it again") from None
    except OSError as error:
        raise NoiseError(f"cannot read {path}: {error.strerror}") from None
    if not lines:
        raise NoiseError(f"{path} is empty; its header must name {','.join(TITLES)} or {','.join(ROWS)}")
    return lines


def _images(dataset: Dataset, clean: Ints, names: Iterable[str], path: Path) -> Ints:
    """Folders in front of a name are dropped: published files carry those of their authors' machines."""
    known = {_base(dataset.filenames[i]): int(i) for i in np.unique(clean[:, 0])}
    bases = [_base(n) for n in names]
    unknown = next((n for n, b in enumerate(bases) if b not in known), None)
    if unknown is not None:
        raise NoiseError(f"{path} line {unknown + 2}: '{bases[unknown]}' is no image of the training part")
    return np.array([known[b] for b in bases], dtype=np.int64)


def _base(name: str) -> str:
    return re.split(r"[\\/]", name)[-1]


def _rows_of_images(dataset: Dataset, clean: Ints, images: Ints, path: Path) -> Ints:
    """The k-th line of an image is its k-th own pair."""
    lines, own = np.argsort(images, kind="stable"), np.argsort(clean[:, 0], kind="stable")
    differs = images[lines] != clean[own, 0]
    if differs.any():
        at = int(np.argmax(differs))
        image = min(int(images[lines][at]), int(clean[own, 0][at]))
        got, want = int((images == image).sum()), int((clean[:, 0] == image).sum())
        raise NoiseError(f"{path} has {got} rows for image '{dataset.filenames[image]}' instead of {want}")
    rows = np.empty(len(clean), dtype=np.int64)
    rows[lines] = own
    return rows


def _row_numbers(cells: Sequence[str], column: str, path: Path) -> Ints:
    for line, cell in enumerate(cells, 2):
        if not (cell.isascii() and cell.isdecimal() and int(cell) < len(cells)):
            raise NoiseError(f"{path} line {line}: {column} '{cell[:20]}' is no row number from 0 to {len(cells) - 1}")
    return np.array([int(c) for c in cells], dtype=np.int64)


def _pairs_of_rows(clean: Ints, images: Ints, rows: Ints, source: Ints, path: Path) -> Ints:
    if len(np.unique(rows)) != len(clean):
        twice = int(np.argmax(np.bincount(rows)))
        raise NoiseError(f"{path} has row {twice} more than once")
    pairs = np.empty_like(clean)
    pairs[rows] = np.stack([images, clean[source, 1]], axis=1)
    return pairs
