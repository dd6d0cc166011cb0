"""Rank the pairs of a dataset by how likely they are mismatched, from several seeds of one method."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rsbench.errors import ResultError, UsageError
from rsbench.evaluation.detection import auroc
from rsbench.experiment.pair_gallery import pair_card
from rsbench.experiment.pair_records import PairRecords, open_records
from rsbench.experiment.request import Request, split_list
from rsbench.files import write_atomic
from rsbench.progress import Progress, silent
from rsbench.registry import NOISE_KINDS
from rsbench.report.gallery import Page, Section, write_page
from rsbench.report.plots import PARTS
from rsbench.results.store import write_json

LOWEST = 0.05
"""A seed suspects the pairs in this lowest share of its ranking; ``agreement`` counts such seeds."""

PRECISION_AT = (10, 50, 100)

Floats = npt.NDArray[np.float64]


def audit_request(dataset: str, method: str, seeds: tuple[int, ...], rate: float = 0.0, **flags: Any) -> Request:
    """Runs that an audit needs: the dataset's own training pairs, validation only, one run per seed.

    Args:
        dataset: registered name.
        method: one method, ``NAME`` or ``NAME:VARIANT``.
        seeds: run seeds.
        rate: noise to inject for a self-test; 0 audits the data as they come.
        flags: further fields of ``Request``: split, backbone, tuning, weights, settings.

    Raises:
        UsageError: more than one dataset or method.
    """
    for flag, text in (("dataset", dataset), ("--method", method)):
        if len(split_list(text)) != 1:
            raise UsageError(f"{flag} '{text}': an audit takes exactly one; run it again for the next")
    kind = "shuffle" if rate else "real" if "real" in NOISE_KINDS.names() else "none"
    return Request((method,), (dataset,), (rate,), seeds, kind=kind, held_out=False, **flags)


@dataclass(frozen=True)
class Audit:
    """A ranking of the training pairs, most suspicious first.

    Attributes:
        order: int64 ``[P]``, pair ids; pairs that no seed scored come last.
        percentile: ``[S, P]``, place of each pair in each seed's ranking, 0 = most suspicious, 1 = cleanest.
        mean: ``[P]``, over seeds; NaN where no seed scored the pair.
        std: ``[P]``, sample standard deviation over seeds; NaN with one seed.
        agreement: ``[P]``, share of the seeds that have the pair in their lowest ``LOWEST``.
        votes: int64 ``[P, 3]``, seeds that divided the pair as clean, ambiguous, noisy; None where none divides.
        correlation: mean rank correlation (Spearman) between two seeds; NaN with one seed.
    """

    order: npt.NDArray[np.int64]
    percentile: Floats
    mean: Floats
    std: Floats
    agreement: Floats
    votes: npt.NDArray[np.int64] | None
    correlation: float


def percentiles(score: npt.ArrayLike) -> Floats:
    """Mid-rank of each score among the scored, from 0 (lowest) to 1 (highest); NaN stays NaN.

    Args:
        score: ``[P]``.
    """
    values = np.asarray(score, dtype=np.float64)
    seen = np.isfinite(values)
    _, inverse, counts = np.unique(values[seen], return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2  # equal scores share their mean rank, from 0
    found = np.full(values.shape, np.nan)
    found[seen] = middle[inverse] / max(1, seen.sum() - 1)
    return found


def seed_percentiles(records: PairRecords, epoch: int) -> Floats:
    """Percentiles ``[P]`` of the clean scores of an epoch.

    A pair that the epoch did not visit keeps its place of the latest epoch before that did.

    Raises:
        ResultError: no epoch has clean scores.
    """
    found = np.full(len(records.index.pairs), np.nan)
    for earlier in sorted((e for e in records.epochs if e <= epoch), reverse=True):
        score = records.read(earlier, "clean_score")
        if score is not None:
            found = np.where(np.isnan(found), percentiles(score), found)
        if not np.isnan(found).any():
            break
    if np.isnan(found).all():
        raise ResultError(f"run '{records.folder.path}' has no clean scores to rank pairs by; try another --method")
    return found


def rank_pairs(percentile: Floats, divisions: Sequence[npt.NDArray[np.int8]] = ()) -> Audit:
    """Join the rankings of several seeds.

    Args:
        percentile: ``[S, P]``, NaN where a seed did not score a pair.
        divisions: int8 ``[P]`` of each seed that divides pairs; negative = undecided.
    """
    counted = (~np.isnan(percentile)).sum(0)
    mean = np.nansum(percentile, 0) / np.where(counted, counted, np.nan)
    spread = np.nansum((percentile - mean) ** 2, 0) / np.where(counted > 1, counted - 1, np.nan)
    agreement = (percentile < LOWEST).sum(0) / np.maximum(1, counted)
    order = np.lexsort((np.arange(len(mean)), -agreement, np.where(np.isnan(mean), np.inf, mean)))
    votes = np.stack([sum((d == v).astype(np.int64) for d in divisions) for v in range(3)], 1) if divisions else None
    return Audit(order, percentile, mean, np.sqrt(spread), agreement, votes, _correlation(percentile))


def _correlation(percentile: Floats) -> float:
    """Mean over pairs of seeds of the correlation of their ranks, on pairs that both scored."""
    found = []
    for a in range(len(percentile)):
        for b in range(a):
            both = ~np.isnan(percentile[a]) & ~np.isnan(percentile[b])
            x, y = percentile[a][both], percentile[b][both]
            if len(x) > 1 and x.std() > 0 and y.std() > 0:
                found.append(float(np.corrcoef(x, y)[0, 1]))
    return float(np.mean(found)) if found else float("nan")


@dataclass(frozen=True)
class Report:
    """An audit with what it is about.

    Attributes:
        records: of the first seed; gives dataset, pairs and truth.
        audit: the ranking.
        facts: (name, value), what a reader needs to judge it.
    """

    records: PairRecords
    audit: Audit
    facts: list[tuple[str, str]]


def audit_runs(runs: Sequence[Path], root: Path, best: bool = False, progress: Progress = silent) -> Report:
    """Rank pairs from finished runs that differ in their seed only.

    Args:
        runs: their folders.
        root: data folder.
        best: take the scores of each run's best epoch instead of its last.
        progress: told about longer work.

    Raises:
        ResultError: a run without clean scores, or runs of other data.
    """
    opened = [open_records(run, root, progress) for run in runs]
    if len({r.index.sha256 for r in opened}) > 1:
        raise ResultError("the runs were shown different pairs; audit them in folders of their own")
    epochs = [r.best if best and r.best is not None else r.epochs[-1] for r in opened]
    found = np.stack([seed_percentiles(r, e) for r, e in zip(opened, epochs, strict=True)])
    divided = [r.read(e, "division") for r, e in zip(opened, epochs, strict=True)]
    audit = rank_pairs(found, [d for d in divided if d is not None])
    return Report(opened[0], audit, _facts(opened, audit, "best" if best else "last"))


def _facts(opened: Sequence[PairRecords], audit: Audit, at: str) -> list[tuple[str, str]]:
    spec, pairs = opened[0].spec, len(audit.order)
    facts = [
        ("dataset", f"{spec.dataset}, split {spec.split}, {pairs:,} training pairs"),
        ("method", spec.method + ("" if spec.variant == "full" else f":{spec.variant}")),
        ("scores", f"clean scores of the {at} epoch, {len(opened)} seeds"),
        ("rank correlation between seeds", "one seed" if np.isnan(audit.correlation) else f"{audit.correlation:.3f}"),
        (f"in the lowest {LOWEST:.0%} of every seed", f"{int((audit.agreement == 1).sum()):,} pairs"),
        ("never scored", f"{int(np.isnan(audit.mean).sum()):,} pairs"),
    ]
    return facts + _checked(opened[0], audit)


def _checked(records: PairRecords, audit: Audit) -> list[tuple[str, str]]:
    """How right the ranking is, where the truth is known."""
    if records.truth is None:
        return []
    seen, truth = ~np.isnan(audit.mean), records.truth
    facts = [("mismatched pairs", f"{int(truth.sum()):,} ({truth.mean():.1%})")]
    facts.append(("AUROC of the mean percentile", f"{auroc(-audit.mean[seen], truth[seen]):.3f}"))
    for k in sorted({*(k for k in PRECISION_AT if k <= len(truth)), int(truth.sum())}):
        facts.append((f"precision@{k}", f"{precision_at(audit.order, truth, k):.3f}"))
    return facts


def precision_at(order: npt.NDArray[np.int64], truth: npt.NDArray[np.bool_], k: int) -> float:
    """Share of truly mismatched pairs among the first k of a ranking."""
    return float(truth[order[:k]].mean())


COLUMNS = ("rank", "pair", "image", "caption", "mean_percentile", "std_percentile", "agreement")


def rows(report: Report, count: int | None = None) -> tuple[list[str], list[list[str]]]:
    """The ranking as text: headers and one row per pair, from rank 1; an undefined number is empty."""
    audit, records, dataset = report.audit, report.records, report.records.dataset
    headers = list(COLUMNS) + ([f"votes_{p}" for p in PARTS] if audit.votes is not None else [])
    headers += ["mismatched"] if records.truth is not None else []
    found = []
    for rank, pair in enumerate(audit.order[:count], 1):
        image, caption = (int(i) for i in records.index.pairs[pair])
        numbers = (audit.mean[pair], audit.std[pair], audit.agreement[pair])
        row = [str(rank), str(pair), dataset.filenames[image], dataset.captions[caption]]
        row += ["" if np.isnan(n) else f"{n:.6f}" for n in numbers]
        row += [str(v) for v in audit.votes[pair]] if audit.votes is not None else []
        row += [str(int(records.truth[pair]))] if records.truth is not None else []
        found.append(row)
    return headers, found


def write_report(report: Report, folder: Path, top: int) -> None:
    """Write ``audit.csv`` (all pairs), ``audit.json`` and the gallery ``index.html`` (the ``top`` first pairs).

    Raises:
        DependencyError: the extra ``report`` is not installed.
        OSError: the folder cannot be written.
    """
    headers, lines = rows(report)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([headers, *lines])
    write_atomic(folder / "audit.csv", text.getvalue().encode("utf-8", "replace"))
    write_json(folder / "audit.json", {"facts": dict(report.facts), "columns": headers, "pairs": len(lines)})
    title = f"Pairs of {report.records.spec.dataset} by suspicion"
    write_page(Page(title, report.facts, sections=[_gallery(report, top)]), folder / "index.html")


def _gallery(report: Report, top: int) -> Section:
    records, audit = report.records, report.audit
    cards = []
    for rank, pair in enumerate(audit.order[:top], 1):
        title = f"{rank}. pair {pair}: mean {audit.mean[pair]:.4f}, agreement {audit.agreement[pair]:.0%}"
        truth = None if records.truth is None else bool(records.truth[pair])
        cards.append(pair_card(records.dataset, records.index.pairs[pair], title, truth))
    text = (
        "Lowest mean percentile of the clean score over the seeds (0 = most suspicious). "
        f"Agreement: share of the seeds that have the pair in their lowest {LOWEST:.0%}."
    )
    return Section(f"The {len(cards)} most suspicious pairs", text, tuple(cards))
