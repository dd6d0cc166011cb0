"""Published rows in our own names: dataset, split, noise, method and backbone. No torch."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from rsbench.results.published import PublishedRow


@dataclass(frozen=True)
class Counterpart:
    """What a run of ours must be to stand for a published row; its names need not exist yet.

    Attributes:
        dataset: our name.
        split: name of the split.
        kind: noise kind.
        rate: nominal noise rate; 0 for ``real``.
        method: ``name`` or ``name:variant``.
        backbone: our name, as printed where we have none; empty where the paper states none for the row.
        seeds: run seeds, as far as they are known.
        folds: of the test part, over which the figures are averaged.
    """

    dataset: str
    split: str
    kind: str
    rate: float
    method: str
    backbone: str
    seeds: tuple[int, ...]
    folds: int = 1


@functools.cache
def names() -> dict[str, Any]:
    """``published/names.toml``: papers, datasets, backbones, methods, variants."""
    text = files("rsbench.results").joinpath("published", "names.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def own_dataset(name: str) -> str:
    """Our name of a dataset as papers call it."""
    own: str = names()["datasets"].get(name, name)
    return own


def decided(paper: str) -> tuple[str, ...]:
    """Readings of what a paper leaves open.

    Args:
        paper: key of ``published.papers()``.
    """
    return tuple(names()["papers"][paper]["decided"])


def counterpart(row: PublishedRow) -> Counterpart:
    """The run of ours that a published row stands for."""
    paper, known = names()["papers"][row.paper], names()["methods"].get(row.method, {})
    printed = names()["backbones"].get(row.backbone, row.backbone)
    return Counterpart(
        dataset=own_dataset(row.dataset),
        split=paper["split"],
        kind=row.noise_kind,
        rate=row.noise_rate or 0.0,
        method=_method(row, known),
        backbone=printed or known.get("backbone", paper.get("backbone", "")),
        seeds=tuple(paper["seeds"]),
        folds=names()["folds"].get(row.dataset, 1),
    )


def _method(row: PublishedRow, known: Mapping[str, Any]) -> str:
    """``name:variant`` of ours; a variant of ours that is not known keeps its printed words."""
    name: str = known.get("method", row.method)
    if not row.variant or ":" in name:
        return name
    return f"{name}:{names()['variants'].get(row.paper, {}).get(row.variant, row.variant)}"
