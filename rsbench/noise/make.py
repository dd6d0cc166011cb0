"""From a ``NoiseSpec`` to a ``NoiseIndex``: generated, published or imported."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from rsbench.data.card import DatasetCard
from rsbench.data.dataset import Dataset, Ints
from rsbench.errors import NoiseError, UnknownNameError, UsageError
from rsbench.noise.imported import FILE, load_index
from rsbench.noise.index import REAL, NoiseIndex, NoiseSpec
from rsbench.noise.official import official, official_fault
from rsbench.noise.pseudo_match import check_pmp
from rsbench.noise.pseudo_match_store import is_drawn, pseudo_match
from rsbench.noise.shuffle import NoiseKind
from rsbench.registry import NOISE_KINDS

UNITS = ("caption", "image")
SOURCES = ("official", "generated")


def make_index(dataset: Dataset, split: str, spec: NoiseSpec, root: Path | None = None) -> NoiseIndex:
    """Build the noise index of a split's training part; validation and test stay clean.

    Args:
        dataset: the packed dataset.
        split: its split scheme.
        spec: what is asked for. For ``file:NAME`` kind, unit and rate come from the file.
        root: data folder, needed for ``file:NAME`` and kind ``pmp``, whose lists are read from there.

    Raises:
        UsageError: a rate outside [0, 1), an unknown unit or source, or an official list that does not exist.
        UnknownNameError: a kind that is not registered.
        NoiseError: an imported or published list that does not fit this copy of the dataset, or a list of kind
            ``pmp`` that was not made yet.
    """
    if spec.source.startswith(FILE):
        return load_index(dataset, split, spec, root)
    check_spec(spec)
    make: NoiseKind = official if spec.source == "official" else NOISE_KINDS.load(spec.kind)
    if is_drawn(spec):
        make = functools.partial(pseudo_match, root=root)
    pairs = _checked(dataset, split, spec, make(dataset, split, spec))
    return NoiseIndex(spec, dataset.name, dataset.fingerprint, split, pairs)


def check_spec(spec: NoiseSpec) -> None:
    """Refuse a spec that no kind can serve.

    Raises:
        UsageError: which field, what is allowed.
    """
    if not 0 <= spec.rate < 1:
        raise UsageError(f"noise rate {spec.rate:g} is outside [0, 1); give for example 0.4")
    if spec.unit not in UNITS:
        raise UnknownNameError("noise unit", spec.unit, UNITS)
    if spec.source not in SOURCES:
        raise UnknownNameError("noise source", spec.source, (*SOURCES, f"{FILE}NAME"))
    if NOISE_KINDS.entry(spec.kind).name == "none" and spec.rate > 0:
        raise UsageError(f"noise kind 'none' leaves all pairs in place, but the rate is {spec.rate:g}; give rate 0")
    if spec.kind == REAL and spec.rate > 0:
        raise UsageError(f"noise kind 'real' takes the data as they come, but the rate is {spec.rate:g}; give rate 0")
    check_pmp(spec)


def resolve_source(card: DatasetCard, split: str, kind: str, unit: str, rate: float, source: str | None) -> str:
    """Choose where the list comes from.

    Args:
        card: the dataset's card; its ``official_rates`` decide.
        split: split scheme.
        kind: noise kind.
        unit: noise unit.
        rate: nominal rate; 0 counts as official where the split has lists, so that it shares their table.
        source: what was typed: None chooses ``official`` where a list exists, else ``generated``.

    Raises:
        UsageError: ``official`` where there is no list.
        UnknownNameError: neither ``official``, ``generated`` nor ``file:NAME``.
    """
    fault = official_fault(card.name, card.official_rates, split, kind, unit, rate)
    if source is None:
        return "generated" if fault else "official"
    if source == "official" and fault:
        raise UsageError(fault)
    if source not in SOURCES and not source.startswith(FILE):
        raise UnknownNameError("noise source", source, (*SOURCES, f"{FILE}NAME"))
    return source


def _checked(dataset: Dataset, split: str, spec: NoiseSpec, pairs: Ints) -> Ints:
    """Kinds may come from other packages: their list must have one row per training pair."""
    rows = len(dataset.pairs(split, "train"))
    if pairs.shape != (rows, 2) or pairs.dtype.kind not in "iu":
        raise NoiseError(
            f"noise kind '{spec.kind}' returned {pairs.dtype} {list(pairs.shape)} instead of int64 [{rows}, 2]"
        )
    pairs = np.ascontiguousarray(pairs, dtype=np.int64)
    pairs.setflags(write=False)
    return pairs
