"""Features computed once: memory-mapped arrays on disk, keyed by what they depend on.

An entry is a folder named by the hash of its key, with one ``.npy`` per array and ``entry.json`` (key, shapes,
sizes, checksums). It is filled in a ``.part`` folder and renamed when complete; a computation that was killed
goes on at its last whole chunk. One process computes, others that want the same entry wait for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from torch import Tensor

from rsbench.errors import DataError
from rsbench.files import write_atomic
from rsbench.progress import Progress, silent

Rows = Callable[[int, int], Mapping[str, Tensor]]
"""Computes rows ``start..stop`` of every array."""
Arrays = dict[str, npt.NDArray[Any]]

_ENTRY, _STATE = "entry.json", "state.json"
_BLOCK = 1 << 22


def digest(key: Mapping[str, Any]) -> str:
    """First 24 hex digits of the sha256 of a key's canonical JSON."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def texts_hash(texts: Sequence[str]) -> str:
    """sha256 of a list of strings; content key of text features."""
    state = hashlib.sha256()
    for text in texts:
        raw = text.encode()
        state.update(len(raw).to_bytes(8, "little") + raw)
    return state.hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def cached_rows(
    folder: Path,
    key: Mapping[str, Any],
    rows: int,
    compute: Rows,
    *,
    names: Sequence[str] | None = None,
    chunk: int = 512,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Load arrays of ``rows`` rows, computing them chunk by chunk where they are not on disk.

    Args:
        folder: of all entries; made if absent.
        key: JSON values on which the arrays depend.
        rows: length of the first axis of every array, at least 1.
        compute: called with (start, stop) in ascending order; its tensors keep their dtype.
        names: arrays to load; all by default.
        chunk: rows per call, and the most work lost by a kill.
        progress: called after each chunk with ``key["what"]``.

    Returns:
        Name -> tensor over a memory map; not to be written to.

    Raises:
        DataError: the entry cannot be written.
    """
    place = folder / digest(key)
    found = _load(place, rows, names)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            found = _load(place, rows, names)  # another process may have finished while this one waited
            if found is None:
                _fill(place, key, rows, compute, chunk, progress)
                found = _load(place, rows, names)
    except OSError as error:
        raise DataError(
            f"cannot write the feature cache {folder}: {error}; free disk space or set another data root"
        ) from error
    assert found is not None
    return found


def cached(folder: Path, key: Mapping[str, Any], compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Load a few tensors, computing them where they are not on disk.

    Raises:
        DataError: the entry cannot be written.
    """
    stored = cached_rows(folder, key, 1, lambda start, stop: {k: v[None] for k, v in compute().items()})
    return {k: v[0] for k, v in stored.items()}


def _fill(place: Path, key: Mapping[str, Any], rows: int, compute: Rows, chunk: int, progress: Progress) -> None:
    part = place.with_name(place.name + ".part")
    arrays, done = _resume(part, rows)
    what = str(key.get("what", "features"))
    while done < rows:
        stop = min(done + chunk, rows)
        tensors = compute(done, stop)
        if not arrays:
            arrays = _allocate(part, tensors, rows)
        for name, tensor in tensors.items():
            arrays[name][done:stop] = tensor.cpu().numpy()
            arrays[name].flush()  # type: ignore[attr-defined]
        done = stop
        _write_json(part / _STATE, {"done": done, "names": sorted(arrays)})
        progress(what, done, rows)
    files = {name: {"size": _file(part, name).stat().st_size, "crc": _crc(_file(part, name))} for name in arrays}
    _write_json(part / _ENTRY, {"key": dict(key), "rows": rows, "files": files})
    (part / _STATE).unlink()
    shutil.rmtree(place, ignore_errors=True)
    os.replace(part, place)


def _file(place: Path, name: str) -> Path:
    return place / f"{name}.npy"


def _allocate(part: Path, tensors: Mapping[str, Tensor], rows: int) -> Arrays:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    arrays: Arrays = {}
    for name, tensor in tensors.items():
        dtype, shape = tensor.cpu().numpy().dtype, (rows, *tensor.shape[1:])
        arrays[name] = np.lib.format.open_memmap(_file(part, name), mode="w+", dtype=dtype, shape=shape)
    return arrays


def _resume(part: Path, rows: int) -> tuple[Arrays, int]:
    """Arrays and number of finished rows of an interrupted computation; nothing where they cannot be trusted."""
    try:
        state = json.loads((part / _STATE).read_text())
        arrays: Arrays = {name: np.lib.format.open_memmap(_file(part, name), mode="r+") for name in state["names"]}
        if arrays and all(a.shape[0] == rows for a in arrays.values()):
            return arrays, int(state["done"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {}, 0


def _load(place: Path, rows: int, names: Sequence[str] | None) -> dict[str, Tensor] | None:
    """Tensors of a complete, undamaged entry, or None."""
    try:
        entry = json.loads((place / _ENTRY).read_text())
        files = entry["files"]
        wanted = list(files) if names is None else list(names)
        if entry["rows"] != rows or not all(_intact(_file(place, n), files[n]) for n in wanted):
            return None
        return {n: _mapped(_file(place, n)) for n in wanted}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _intact(path: Path, record: Mapping[str, int]) -> bool:
    return path.stat().st_size == record["size"] and _crc(path) == record["crc"]


def _mapped(path: Path) -> Tensor:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of read-only memory; nobody writes to it
        return torch.from_numpy(array)


def _crc(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(value).encode())
