"""Import and export of noise lists, whatever the form of the file."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np

from rsbench.data.dataset import Dataset, Ints
from rsbench.errors import NoiseError, UnknownNameError, UsageError
from rsbench.files import write_atomic
from rsbench.noise.arrays import array_from_pairs, pairs_from_array, read_array
from rsbench.noise.index import NoiseIndex
from rsbench.noise.tables import ROWS, TITLES, read_table, table_bytes

ARRAYS = ("per-caption", "per-image", "pairs")
TABLES = {"csv": TITLES, "rows": ROWS}
FORMS = (*ARRAYS, *TABLES)
_SUFFIXES = ".npy, .csv or .csv.gz"


def read_pairs(dataset: Dataset, split: str, path: Path) -> Ints:
    """Read a noise list in any form; arrays are recognised by their shape, tables by their header.

    Returns:
        ``[P, 2]`` (image, caption).

    Raises:
        UsageError: an unknown file ending.
        NoiseError: what does not fit the training part of the split.
    """
    clean = dataset.pairs(split, "train")
    if path.suffix == ".npy":
        return pairs_from_array(clean, read_array(path))
    if _is_table(path):
        return read_table(dataset, clean, path)
    raise UsageError(f"cannot tell the form of '{path.name}'; a noise file ends in {_SUFFIXES}")


def write_pairs(dataset: Dataset, index: NoiseIndex, path: Path, form: str | None = None) -> str:
    """Write an index for use elsewhere.

    Args:
        dataset: the dataset it belongs to.
        index: the list.
        path: the ending decides between array and table; ``.csv.gz`` is compressed.
        form: one of ``FORMS``; by default ``per-caption`` for ``.npy`` and ``csv`` (RRSITR's) for tables.

    Returns:
        The form written.

    Raises:
        UnknownNameError: an unknown form.
        UsageError: an ending that does not fit the form.
        NoiseError: the list has no such form, or the file cannot be written.
    """
    if form is not None and form not in FORMS:
        raise UnknownNameError("noise file form", form, FORMS)
    if path.suffix != ".npy" and not _is_table(path):
        raise UsageError(f"cannot tell the form of '{path.name}'; a noise file ends in {_SUFFIXES}")
    form = form or ("per-caption" if path.suffix == ".npy" else "csv")
    if (form in ARRAYS) != (path.suffix == ".npy"):
        ending = ".npy" if form in ARRAYS else ".csv or .csv.gz"
        raise UsageError(f"form '{form}' is written to a file that ends in {ending}, not to '{path.name}'")
    content = _content(dataset, index, form)
    try:
        write_atomic(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    except OSError as error:
        raise NoiseError(f"cannot write {path}: {error.strerror}") from None
    return form


def _content(dataset: Dataset, index: NoiseIndex, form: str) -> bytes:
    clean = dataset.pairs(index.split, "train")
    if form in TABLES:
        return table_bytes(dataset, clean, index.pairs, TABLES[form])
    buffer = io.BytesIO()
    np.save(buffer, array_from_pairs(clean, index.pairs, form).astype("<i8"), allow_pickle=False)
    return buffer.getvalue()


def _is_table(path: Path) -> bool:
    return path.name.endswith((".csv", ".csv.gz"))
