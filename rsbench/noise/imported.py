"""Noise lists of others: checked on import, kept under the data root, used as ``file:NAME``."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from rsbench.data.dataset import Dataset, Ints
from rsbench.data.root import data_root
from rsbench.errors import NoiseError, UnknownNameError, UsageError
from rsbench.files import write_atomic
from rsbench.noise.formats import read_pairs
from rsbench.noise.index import REAL, NoiseIndex, NoiseSpec
from rsbench.noise.slots import placed_images, shuffle_fault
from rsbench.registry import NOISE_KINDS

FILE = "file:"
"""Prefix of the source of an imported list."""


def import_index(
    dataset: Dataset, split: str, path: Path, kind: str = "shuffle", name: str | None = None
) -> NoiseIndex:
    """Read and check a file of another project.

    The unit is ``image`` when all captions of every image move together, and the rate is the share of rows that
    moved, rounded to four decimals (published files of rate 0.2 moved 0.19999).

    Raises:
        UnknownNameError: a kind that is not registered.
        UsageError: kind ``none`` or ``real``, an unknown file ending or an unusable name.
        NoiseError: the file does not fit the split, or is no shuffle although ``kind`` says so.
    """
    if NOISE_KINDS.entry(kind).name in ("none", REAL):
        raise UsageError(f"kind '{kind}' is the dataset's own list and is never imported; leave --kind out")
    clean = dataset.pairs(split, "train")
    pairs = read_pairs(dataset, split, path)
    fault = shuffle_fault(clean, pairs) if kind == "shuffle" else None
    if fault:
        raise NoiseError(f"{path} is no shuffle of the training part: {fault}")
    moved = float((pairs != clean).any(axis=1).mean())
    unit = "image" if moved > 0 and _moves_slots(clean, pairs) else "caption"
    spec = NoiseSpec(kind, unit, round(moved, 4), FILE + (check_name(name) if name else path.name))
    pairs.setflags(write=False)
    return NoiseIndex(spec, dataset.name, dataset.fingerprint, split, pairs)


def store_index(root: Path | None, name: str, index: NoiseIndex) -> Path:
    """Keep a list under ``<root>/noise/NAME.safetensors``; an equal one may be stored again.

    Raises:
        UsageError: an unusable name.
        NoiseError: another list has the name, or the file cannot be written.
    """
    from safetensors.numpy import save

    path = _path(root, name)
    if path.exists() and _read(path)[1]["sha256"] != index.sha256:
        raise NoiseError(f"'{name}' is the name of another list ({path}); give another --name, or delete that file")
    facts = {k: str(v) for k, v in asdict(index.spec).items() if k in ("kind", "unit", "rate")}
    facts |= {k: getattr(index, k) for k in ("dataset", "fingerprint", "split", "sha256")}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save({"pairs": np.array(index.pairs, dtype="<i8")}, facts))
    except OSError as error:
        raise NoiseError(f"cannot write {path}: {error.strerror}") from None
    return path


def load_index(dataset: Dataset, split: str, spec: NoiseSpec, root: Path | None = None) -> NoiseIndex:
    """Open a stored list; kind, unit and rate of the spec are replaced by the file's.

    Raises:
        UnknownNameError: no list of that name.
        NoiseError: made for another dataset, another copy of it or another split, or damaged.
    """
    name = spec.source.removeprefix(FILE)
    path = _path(root, name)
    if not path.is_file():
        known = [p.stem for p in path.parent.glob("*.safetensors")]
        hint = f"import it with: rsbench noise {dataset.name} --import FILE --name {name}"
        raise UnknownNameError("imported noise list", name, known, hint)
    pairs, facts = _read(path)
    here = {"dataset": dataset.name, "split": split, "fingerprint": dataset.fingerprint}
    for what, value in here.items():
        if facts[what] != value:
            raise NoiseError(
                f"noise list '{name}' was imported for {what} '{facts[what]}', not '{value}'; import it again"
            )
    spec = replace(spec, kind=facts["kind"], unit=facts["unit"], rate=float(facts["rate"]))
    index = NoiseIndex(spec, dataset.name, dataset.fingerprint, split, pairs)
    if index.sha256 != facts["sha256"]:
        raise NoiseError(f"noise list '{name}' is damaged (sha256 differs); delete {path} and import it again")
    return index


def check_name(name: str) -> str:
    """Return a name that is safe as a file name.

    Raises:
        UsageError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(f"'{name}' is no name for a noise list; use letters, digits, '.', '_' and '-'")
    return name


def _path(root: Path | None, name: str) -> Path:
    return data_root(root) / "noise" / f"{check_name(name)}.safetensors"


def _moves_slots(clean: Ints, pairs: Ints) -> bool:
    several = len(np.unique(clean[:, 0])) < len(clean)
    return several and placed_images(clean, pairs) is not None


def _read(path: Path) -> tuple[Ints, dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            pairs, facts = file.get_tensor("pairs"), dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise NoiseError(f"{path} is damaged ({error}); delete it and import the list again") from None
    absent = {"kind", "unit", "rate", "dataset", "fingerprint", "split", "sha256"} - set(facts)
    if absent or pairs.dtype != np.int64 or pairs.ndim != 2 or pairs.shape[1] != 2:
        raise NoiseError(f"{path} was not written by rsbench noise; delete it and import the list again")
    pairs.setflags(write=False)
    return pairs, facts
