"""Made lists of kind ``pmp`` under ``<root>/noise/pmp``: the pairs, and a manifest of how they were made.

A list needs a scoring model to be made but not to be read: plans and workers only read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rsbench.data.dataset import Dataset, Ints
from rsbench.data.root import data_root
from rsbench.errors import NoiseError
from rsbench.files import write_atomic
from rsbench.noise.index import NoiseIndex, NoiseSpec
from rsbench.noise.pseudo_match import (
    PMP,
    TRIES,
    Replaced,
    Sample,
    ScorePairs,
    normal,
    replace_captions,
    sample,
    threshold_of,
)

REVISION = 1
"""Raised when the same spec and scores would give another list."""

BINS = 60


def is_drawn(spec: NoiseSpec) -> bool:
    """Whether a scorer draws the list; imported ones are of kind ``pmp`` too."""
    return spec.kind == PMP and spec.source == "generated"


def manifest_path(dataset: Dataset, split: str, spec: NoiseSpec, root: Path | None = None) -> Path:
    """Where the manifest of a list lies; the list beside it ends in ``.safetensors``."""
    what = {"revision": REVISION, "fingerprint": dataset.fingerprint, "split": split, **asdict(spec)}
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    return data_root(root) / "noise" / "pmp" / f"{dataset.name}-{spec.unit}-{spec.rate:g}-{key}.json"


def make_list(
    dataset: Dataset,
    split: str,
    spec: NoiseSpec,
    score: ScorePairs,
    root: Path | None = None,
    scorer: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Draw a list with a scorer and keep it.

    Args:
        dataset: the dataset.
        split: its split scheme.
        spec: a checked spec of kind ``pmp``.
        score: the scorer.
        root: data root.
        scorer: facts about the scorer for the manifest.
        warnings: what a reader of the list should know.

    Returns:
        The manifest.

    Raises:
        NoiseError: the list cannot be made with this scorer and threshold, or cannot be written.
    """
    from safetensors.numpy import save

    found = sample(dataset, split, score)
    threshold = threshold_of(spec, found)
    made = replace_captions(dataset, split, spec, score, threshold, found)
    manifest = _manifest(dataset, split, spec, found, threshold, made)
    manifest |= {"scorer": {"name": spec.scorer, **(scorer or {})}, "warnings": list(warnings)}
    tensors = {"pairs": made.pairs.astype("<i8"), "rows": made.rows.astype("<i8"), "scores": made.scores}
    path = manifest_path(dataset, split, spec, root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path.with_suffix(".safetensors"), save(tensors | {"fell_back": made.fell_back.astype(np.uint8)}))
        # the manifest comes last: where it is, the list is whole
        write_atomic(path, (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise NoiseError(f"cannot write {path}: {error.strerror}") from None
    return manifest


def read_manifest(dataset: Dataset, split: str, spec: NoiseSpec, root: Path | None = None) -> dict[str, Any]:
    """How a list was made.

    Raises:
        NoiseError: it was not made in this data root, or is damaged.
    """
    path = manifest_path(dataset, split, spec, root)
    if not path.is_file():
        raise NoiseError(
            f"this {spec.kind} list is not under {path.parent}; make it there: {_command(dataset, split, spec)}"
        )
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        raise NoiseError(f"{path} is damaged; delete it and make the list again") from None


def pseudo_match(dataset: Dataset, split: str, spec: NoiseSpec, root: Path | None = None) -> Ints:
    """The pairs ``[P, 2]`` of a list made before.

    Raises:
        NoiseError: it was not made in this data root, or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = manifest_path(dataset, split, spec, root).with_suffix(".safetensors")
    manifest = read_manifest(dataset, split, spec, root)
    try:
        with safe_open(path, framework="numpy") as file:
            pairs: Ints = file.get_tensor("pairs")
    except (SafetensorError, OSError):
        raise NoiseError(f"{path} is damaged; delete it and its manifest, and make the list again") from None
    if _digest(dataset, split, spec, pairs) != manifest.get("sha256"):
        raise NoiseError(f"{path} does not fit its manifest; delete both and make the list again")
    return pairs


def list_facts(dataset: Dataset, split: str, spec: NoiseSpec, root: Path | None = None) -> dict[str, Any]:
    """What a result records of how its list was made; empty for kinds that no scorer draws."""
    if not is_drawn(spec):
        return {}
    manifest = read_manifest(dataset, split, spec, root)
    named = ("threshold", "threshold_from", "share_below", "share_fallback", "scorer", "warnings")
    return {name: manifest[name] for name in named}


def _digest(dataset: Dataset, split: str, spec: NoiseSpec, pairs: Ints) -> str:
    return NoiseIndex(spec, dataset.name, dataset.fingerprint, split, pairs).sha256


def _manifest(
    dataset: Dataset, split: str, spec: NoiseSpec, found: Sample, threshold: float, made: Replaced
) -> dict[str, Any]:
    how = "given" if spec.threshold is not None else "quantile" if spec.quantile is not None else "boundary"
    facts: dict[str, Any] = {"dataset": dataset.name, "fingerprint": dataset.fingerprint, "split": split}
    facts |= {"spec": asdict(spec), "sha256": _digest(dataset, split, spec, made.pairs)}
    facts |= {"threshold": threshold, "threshold_from": how, "share_below": found.below(threshold)}
    for name, scores in (("matched", found.matched), ("mismatched", found.mismatched)):
        mean, std = normal(scores)
        facts[name] = {"pairs": len(scores), "mean": mean, "std": std}
    facts |= {"replaced": len(made.rows), "tries": TRIES}
    facts["share_fallback"] = float(made.fell_back.mean()) if len(made.rows) else 0.0
    return facts | {"histogram": _histogram(found, made)}


def _histogram(found: Sample, made: Replaced) -> dict[str, list[float]]:
    parts = {"matched": found.matched, "mismatched": found.mismatched, "replaced": made.scores}
    every = np.concatenate(list(parts.values())).astype(np.float64)
    low, high = float(every.min()), float(every.max())
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    counts = {k: np.histogram(v.astype(np.float64), edges)[0].astype(float).tolist() for k, v in parts.items()}
    return {"edges": edges.tolist(), **counts}


def _command(dataset: Dataset, split: str, spec: NoiseSpec) -> str:
    """What makes a list; for a run or a file the path is the user's to fill in."""
    name, _, content = spec.scorer.partition(":")
    place = {"run": f"run:PATH/{content}", "georsclip": "georsclip:FILE" if content else "georsclip"}
    words = (
        f"rsbench noise {dataset.name} --kind {spec.kind} --rate {spec.rate:g} --scorer {place.get(name, spec.scorer)}"
    )
    flags = {"--split": split, "--unit": spec.unit, "--seed": spec.seed}
    flags |= {"--pmp-threshold": spec.threshold, "--pmp-quantile": spec.quantile}
    return words + "".join(f" {flag} {value}" for flag, value in flags.items() if value is not None)
