"""What a run did with its pairs: numbers per epoch, figures and galleries, driven by the records that exist."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rsbench.errors import ResultError
from rsbench.evaluation.detection import detection
from rsbench.experiment.pair_gallery import rematched, suspects
from rsbench.experiment.pair_records import PairRecords, Values, open_records
from rsbench.experiment.rematch import rematch
from rsbench.progress import Progress, silent
from rsbench.report.gallery import Page, Picture, Section, write_page
from rsbench.report.plots import (
    BOUNDARY,
    PARTS,
    boundary,
    curves,
    divisions,
    histograms,
    require_extra,
    save,
    small_curves,
)
from rsbench.results.store import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_TERMS = {"epoch", "phase", "lr", "pairs", "val"}
"""Keys of a line of ``history.jsonl`` that are no loss terms."""

PULL, WEIGHT, ENERGY = "pull_", "weight", "energy_"
"""Beginnings of record names that have a figure of their own; every other record gets a histogram."""

Drawn = tuple[Picture, "Figure"]


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        folder: where it was written; ``index.html`` is the way in.
        facts: (name, value) about the run.
        epochs: numbers of each epoch with records: ``epoch`` (from 0), ``auroc``, ``ap``, ``missing``,
            ``share_*`` and ``purity_*`` of each part, ``noise_pull_*``, ``val_mr``; what is not defined is left out.
        rematch: shares of mismatched pairs whose caption is retrieved; empty where it was not computed.
        notes: what was left out, and why.
    """

    folder: Path
    facts: list[tuple[str, str]]
    epochs: list[dict[str, float]]
    rematch: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def diagnose(
    run: Path, root: Path, out: Path | None = None, images: int = 500, device: str = "auto", progress: Progress = silent
) -> Diagnosis:
    """Draw everything that the records of a run allow.

    Args:
        run: folder of a run made on this machine.
        root: data folder.
        out: where figures, ``summary.json`` and ``index.html`` go; default: ``diagnosis`` inside the run folder.
        images: images for which all training captions are ranked (0 = none).
        device: for that ranking.
        progress: told about longer work.

    Raises:
        DependencyError: the extra ``report`` is not installed.
        UsageError: no run folder.
        ResultError: no pair records, or made from other data.
        DataError: the dataset is not prepared.
    """
    require_extra()
    records = open_records(run, root, progress)
    found = Diagnosis(out or run / "diagnosis", _facts(records), epoch_numbers(records, progress))
    found.folder.mkdir(parents=True, exist_ok=True)
    if records.truth is None:
        found.notes.append("No pair of this run is known to be mismatched: figures show all pairs as one group.")
    pictures = []
    for picture, figure in figures(records, found.epochs):
        save(figure, found.folder, picture.name)
        pictures.append(picture)
    sections = suspects(records, records.epochs[-1]) + _rematching(records, found, images, device, progress)
    _write(found, pictures, sections)
    return found


def _facts(records: PairRecords) -> list[tuple[str, str]]:
    spec, pairs = records.spec, len(records.index.pairs)
    variant = "" if spec.variant == "full" else f":{spec.variant}"
    wrong = (
        "not known" if records.truth is None else f"{records.truth.sum():,} of {pairs:,} ({records.truth.mean():.1%})"
    )
    noise = spec.noise.kind if spec.noise.rate == 0 else f"{spec.noise.kind} {spec.noise.rate:g} per {spec.noise.unit}"
    best = "not known" if records.best is None else str(records.best + 1)
    return [
        ("run", records.folder.path.name),
        ("method", spec.method + variant),
        ("dataset", f"{spec.dataset}, split {spec.split}"),
        ("noise", noise),
        ("backbone", f"{spec.backbone}, tuning {spec.tuning}"),
        ("run seed", str(spec.seed)),
        ("mismatched pairs", wrong),
        ("epochs with records", str(len(records.epochs))),
        ("best epoch", best),
    ]


def epoch_numbers(records: PairRecords, progress: Progress = silent) -> list[dict[str, float]]:
    """Numbers of every epoch (see ``Diagnosis.epochs``)."""
    mr = {line["epoch"]: line["val"]["mr"] for line in records.history if "val" in line}
    rows = []
    for done, epoch in enumerate(records.epochs, 1):
        row: dict[str, float] = {"epoch": epoch} | ({"val_mr": mr[epoch]} if epoch in mr else {})
        row |= _detected(records, epoch) | _divided(records, epoch) | _pulled(records, epoch)
        rows.append({k: v for k, v in row.items() if not math.isnan(v)})
        progress("reading records", done, len(records.epochs))
    return rows


def _detected(records: PairRecords, epoch: int) -> dict[str, float]:
    score = records.read(epoch, "clean_score")
    if score is None or records.truth is None:
        return {}
    found = detection(score, records.truth, None, "", epoch)
    return {k: float(found[k]) for k in ("auroc", "ap", "missing") if k in found}


def _divided(records: PairRecords, epoch: int) -> dict[str, float]:
    """Sizes of the parts as shares of the divided pairs, and the share of truly clean pairs in each."""
    division = records.read(epoch, "division")
    if division is None or not (division >= 0).any():
        return {}
    found: dict[str, float] = {}
    for value, name in enumerate(PARTS):
        part = division == value
        found[f"share_{name}"] = float(part.sum() / (division >= 0).sum())
        if records.truth is not None and part.any():
            found[f"purity_{name}"] = float((~records.truth[part]).mean())
    return found


def _pulled(records: PairRecords, epoch: int) -> dict[str, float]:
    """Noise-gradient ratio of each direction: share of the total pull that mismatched pairs exert (SREM, Fig. 5)."""
    if records.truth is None:
        return {}
    found = {}
    for name in records.names(epoch):
        if name.startswith(PULL):
            found[f"noise_{name}"] = noise_share(records.read(epoch, name), records.truth)
    return found


def noise_share(pull: Values | None, mismatched: Values) -> float:
    """``sum_{mismatched} |pull| / sum |pull|`` over visited pairs; NaN where nothing pulls.

    Args:
        pull: ``[P]``, |dL/dS_ii| up to a factor that all pairs share, NaN = not visited.
        mismatched: bool ``[P]``.
    """
    size = np.nan_to_num(np.abs(np.asarray(pull, dtype=np.float64)))
    total = float(size.sum())
    return float(size[mismatched].sum() / total) if total > 0 else float("nan")


def figures(records: PairRecords, rows: Sequence[dict[str, float]]) -> list[Drawn]:
    """Every figure that the records and the history allow, in reading order."""
    makers: list[Callable[[], list[Drawn]]] = [
        lambda: _spread_over_epochs(records, "clean_score", "clean_score", "Clean score"),
        lambda: _detection_figure(rows, records.best),
        lambda: _division_figure(rows, records.best),
        lambda: _weights(records),
        lambda: _energies(records),
        lambda: _pull_figure(rows, records.best),
        lambda: _boundary_figure(records),
        lambda: _term_figures(records),
        lambda: _other_records(records),
    ]
    return [drawn for make in makers for drawn in make()]


def _telling_epochs(records: PairRecords, name: str) -> list[int]:
    """First, middle, best and last epoch that hold a record."""
    having = [e for e in records.epochs if name in records.names(e)]
    if not having:
        return []
    best = [records.best] if records.best in having else []
    return sorted({having[0], having[len(having) // 2], having[-1], *best})


def _titled(records: PairRecords, name: str, epochs: Sequence[int]) -> dict[str, Values]:
    found = {}
    for epoch in epochs:
        value = records.read(epoch, name)
        assert value is not None
        found[f"epoch {epoch + 1}{' (best)' if epoch == records.best else ''}"] = value
    return found


def _spread_over_epochs(records: PairRecords, name: str, file: str, title: str) -> list[Drawn]:
    epochs = _telling_epochs(records, name)
    if not epochs:
        return []
    text = f"Density of {name} over the training pairs at the first, middle, best and last epoch that record it."
    return [(Picture(file, title, text), histograms(_titled(records, name, epochs), records.truth, name))]


def _series(rows: Sequence[dict[str, float]], keys: Sequence[str]) -> dict[str, list[float]]:
    return {k: [row.get(k, math.nan) for row in rows] for k in keys if any(k in row for row in rows)}


def _epochs(rows: Sequence[dict[str, float]]) -> list[int]:
    return [int(row["epoch"]) for row in rows]


def _detection_figure(rows: Sequence[dict[str, float]], best: int | None) -> list[Drawn]:
    lines = _series(rows, ("auroc", "ap"))
    if not lines:
        return []
    named = {{"auroc": "AUROC", "ap": "average precision"}[k]: v for k, v in lines.items()}
    text = "How well the clean score finds mismatched pairs (the positive class); a blind score has AUROC 0.5."
    return [(Picture("detection", "Noise detection", text), curves(_epochs(rows), named, "", best, (0, 1.02)))]


def _division_figure(rows: Sequence[dict[str, float]], best: int | None) -> list[Drawn]:
    rows = [row for row in rows if "share_clean" in row]
    if not rows:
        return []
    shares = {p: [row[f"share_{p}"] for row in rows] for p in PARTS}
    purity = {p: v for p in PARTS for v in _series(rows, (f"purity_{p}",)).values()} or None
    text = "Sizes of the parts that the method divides its pairs into, and how many of each part are truly clean."
    return [(Picture("division", "Division of the pairs", text), divisions(_epochs(rows), shares, purity, best))]


def _weights(records: PairRecords) -> list[Drawn]:
    """Pair weights at the first epoch that weighs pairs apart and at the last one (RRSITR, Fig. 3)."""
    panels: dict[str, Values] = {}
    for name in records.names(records.epochs[-1]):
        if name.startswith(WEIGHT):
            having = [e for e in records.epochs if _varies(records.read(e, name))] or [records.epochs[-1]]
            shown = _titled(records, name, sorted({having[0], records.epochs[-1]}))
            panels |= {f"{name}, {title}": values for title, values in shown.items()}
    text = "Density of the pair weights at the first epoch that weighs pairs differently, and at the last."
    return [(Picture("weights", "Pair weights", text), histograms(panels, records.truth, "weight"))] if panels else []


def _varies(values: Values | None) -> bool:
    return values is not None and bool(np.isfinite(values).any()) and bool(np.nanmax(values) > np.nanmin(values))


def _energies(records: PairRecords) -> list[Drawn]:
    found = []
    for name in records.names(records.epochs[-1]):
        if name.startswith(ENERGY):
            found += _spread_over_epochs(records, name, name, f"Energy {name.removeprefix(ENERGY)}")
    return found


def _pull_figure(rows: Sequence[dict[str, float]], best: int | None) -> list[Drawn]:
    keys = sorted({k for row in rows for k in row if k.startswith(f"noise_{PULL}")})
    if not keys:
        return []
    lines = {k.removeprefix(f"noise_{PULL}"): v for k, v in _series(rows, keys).items()}
    text = "Share of the total pull |dL/dS_ii| on own-pair scores that comes from mismatched pairs; lower is better."
    return [
        (Picture("noise_pull", "Noise-gradient ratio", text), curves(_epochs(rows), lines, "share", best, (0, None)))
    ]


def _terms(records: PairRecords) -> dict[str, list[float]]:
    """Loss terms of the history: name -> value per epoch, NaN where an epoch has none."""
    names = dict.fromkeys(
        k for line in records.history for k, v in line.items() if k not in NO_TERMS and isinstance(v, int | float)
    )
    return {n: [float(line.get(n, math.nan)) for line in records.history] for n in names}


def _boundary_figure(records: PairRecords) -> list[Drawn]:
    terms = _terms(records)
    if not all(name in terms for name in BOUNDARY):
        return []
    text = "The boundary t_k between matched and unmatched words, with both fitted normals (mean, one deviation)."
    return [(Picture("boundary", "Boundary t_k", text), boundary(_epochs(records.history), terms, records.best))]


def _term_figures(records: PairRecords) -> list[Drawn]:
    """Loss terms in a panel each, learned loss weights together (RDB)."""
    terms, epochs, found = _terms(records), _epochs(records.history), []
    weights = {k: v for k, v in terms.items() if k.startswith("weight_")}
    plain = {k: v for k, v in terms.items() if k not in weights and not (k in BOUNDARY and "t_k" in terms)}
    if plain:
        text = "Mean of each logged term over the steps of an epoch."
        found.append((Picture("terms", "Loss terms", text), small_curves(epochs, plain, records.best)))
    if weights:
        named = {k.removeprefix("weight_"): v for k, v in weights.items()}
        text = "Factors of the parts of the loss, as the run learned them."
        found.append((Picture("loss_weights", "Loss weights", text), curves(epochs, named, "weight", records.best)))
    return found


def _other_records(records: PairRecords) -> list[Drawn]:
    last = records.epochs[-1]
    drawn = (PULL, WEIGHT, ENERGY, "clean_score", "division")
    panels = {n: v for n in records.names(last) if not n.startswith(drawn) and (v := records.read(last, n)) is not None}
    panels = {n: v for n, v in panels.items() if np.isfinite(v).any()}
    text = f"Every other value that the method keeps for each pair, in epoch {last + 1}."
    return [(Picture("records", "Other records", text), histograms(panels, records.truth))] if panels else []


def _rematching(records: PairRecords, found: Diagnosis, images: int, device: str, progress: Progress) -> list[Section]:
    """Rank training captions for mismatched pairs, or note why not."""
    if records.truth is None or images == 0:
        return []
    try:
        ranked = rematch(records, images, device, progress)
    except ResultError as error:
        found.notes.append(f"Rematched captions are left out: {error}")
        return []
    found.rematch = ranked.shares
    if ranked.images < ranked.all_images:
        found.notes.append(
            f"Captions were ranked for a draw of {ranked.images:,} of {ranked.all_images:,} images; --images sets it."
        )
    return [rematched(records, ranked, records.best)]


def _write(found: Diagnosis, pictures: list[Picture], sections: list[Section]) -> None:
    headers, rows = table(found)
    facts = found.facts + [(f"rematched: {k}", f"{v:.1%}") for k, v in found.rematch.items()]
    title = f"Pairs of run {dict(found.facts)['run']}"
    write_page(Page(title, facts, headers, rows, pictures, sections, found.notes), found.folder / "index.html")
    summary: dict[str, Any] = {
        "facts": dict(found.facts),
        "epochs": found.epochs,
        "rematch": found.rematch,
        "figures": [p.name for p in pictures],
        "notes": found.notes,
    }
    write_json(found.folder / "summary.json", summary)


def table(found: Diagnosis) -> tuple[list[str], list[list[str]]]:
    """The numbers of the epochs as text: headers and rows, epochs counted from 1."""
    keys = list(dict.fromkeys(k for row in found.epochs for k in row if k != "epoch"))
    rows = [[str(int(row["epoch"]) + 1), *(_shown(k, row.get(k)) for k in keys)] for row in found.epochs]
    return ["epoch", *(k.replace("_", " ") for k in keys)], rows


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return str(int(value)) if key == "missing" else f"{value:.2f}" if key == "val_mr" else f"{value:.3f}"
