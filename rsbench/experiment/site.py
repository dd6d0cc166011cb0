"""What a site shows beyond stored results: histories, method cards, figures of pairs, galleries."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rsbench.errors import RsbenchError, UsageError
from rsbench.methods.build import load_card
from rsbench.methods.card import MethodCard
from rsbench.progress import Progress, silent
from rsbench.registry import METHODS
from rsbench.report.groups import method_label
from rsbench.report.pages import Facts, History, file_name
from rsbench.report.plots import require_extra
from rsbench.report.select import select
from rsbench.report.site import Diagnostics, Gallery, Material, MethodFacts
from rsbench.results.frame import load_results, read_result, result_files
from rsbench.results.schema import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUERIES, HITS = 8, 5
"""Queries of each direction in a gallery, and hits of each query."""

FREE = "toy"
"""The dataset whose pictures are ours and may be shown anywhere."""

TYPICAL_RATE = 0.4
"""Noise rate of the run whose pairs are shown, or the nearest one."""

PRIVATE = (
    "This report holds pictures and captions of datasets whose licence does not allow copies: keep it on this disk, do "
    "not publish it."
)


Pictures = Literal["none", "toy", "all"]
"""Whose pictures go into a report."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where a report finds what is not in ``result.json``.

    Attributes:
        root: data folder.
        galleries: whose pictures are shown.
        device: that encodes the queries of galleries.
        against: base method of differences and ratios.
    """

    root: Path
    galleries: Pictures = "none"
    device: str = "auto"
    against: str | None = None


def gather(paths: Sequence[Path], sources: Sources, progress: Progress = silent) -> Material:
    """Everything that the site of some results shows.

    Args:
        paths: folders searched recursively; searches on validation are left out where there are test figures.
        sources: where the rest comes from.
        progress: called while records are read and pictures are made.

    Raises:
        DependencyError: the extra ``report`` is not installed.
        ResultError: no results, or a damaged or newer file.
        UsageError: a base method that no result has.
    """
    require_extra()
    found = load_results(paths)
    results = select(found)
    labels = {method_label(r["spec"]) for r in results}
    if sources.against is not None and sources.against not in labels:
        raise UsageError(f"--against '{sources.against}' is in none of the results; known: {', '.join(sorted(labels))}")
    folders = run_folders(paths)
    histories, damaged = read_histories({name: folders[name] for r in results if (name := str(r["hash"])) in folders})
    methods = {str(r["spec"]["method"]): r for r in results}
    facts: list[MethodFacts] = []
    galleries: list[Gallery] = []
    diagnostics: dict[str, Diagnostics] = {}
    warnings: list[str] = []
    if len(results) < len(found):
        warnings.append(f"Searches on validation that are not shown: {len(found) - len(results)}.")
    for at, name in enumerate(sorted(methods), 1):
        own = sorted((r for r in results if str(r["spec"]["method"]) == name), key=_typical)
        shown, notes = _diagnosed(own, folders, sources.root)
        made, told = _galleries(name, own, folders, sources, progress)
        facts.append(dataclasses.replace(card := method_facts(name), notes=[*card.notes, *notes, *told]))
        diagnostics |= {name: shown} if shown else {}
        galleries += made
        progress("methods", at, len(methods))
    if any(g.dataset != FREE for g in galleries):
        warnings.insert(0, PRIVATE)
    return Material(results, histories, damaged, facts, diagnostics, galleries, warnings, sources.against)


def run_folders(paths: Sequence[Path]) -> dict[str, Path]:
    """Hash of each run below the paths -> its folder; the first finished copy, as ``load_results`` keeps it.

    Raises:
        ResultError: a path that does not exist, or a damaged result.
    """
    found: dict[str, tuple[bool, Path]] = {}
    for file in (f for path in paths for f in result_files(path)):
        result = read_result(file)
        name, done = str(result["hash"]), result.get("status") == "done"
        if name not in found or (done and not found[name][0]):
            found[name] = (done, file.parent)
    return {name: folder for name, (_, folder) in found.items()}


def read_histories(folders: Mapping[str, Path]) -> tuple[dict[str, History], dict[str, str]]:
    """Lines of ``history.jsonl`` by hash, and why the others are not there."""
    found: dict[str, History] = {}
    damaged: dict[str, str] = {}
    for name, folder in folders.items():
        try:
            text = (folder / "history.jsonl").read_text(encoding="utf-8")
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            damaged[name] = f"history.jsonl cannot be read ({error})."
            continue
        if all(isinstance(line, dict) for line in lines):
            found[name] = lines
        else:
            damaged[name] = "history.jsonl holds lines that are no JSON objects."
    return found, damaged


def method_facts(name: str) -> MethodFacts:
    """What the card of a registered method says; a file that a result names is never run."""
    if name not in METHODS.names():
        return MethodFacts(name, name, notes=["This method is not registered here, so that its card is not shown."])
    try:
        card = load_card(name)
    except (RsbenchError, ImportError) as error:
        return MethodFacts(name, name, notes=[f"Its card cannot be read: {error}"])
    fields = dataclasses.fields(card.params)
    return MethodFacts(
        name,
        f"{name}: {card.title}",
        _facts(card),
        card.equations,
        card.decided,
        [_param(f) for f in fields],
        [[variant, ", ".join(f"{k}={v}" for k, v in changes.items())] for variant, changes in card.variants.items()],
    )


def _facts(card: MethodCard) -> Facts:
    named = [
        ("paper", card.paper),
        ("networks at test time", str(card.networks)),
        ("score that finds noise", card.detector),
        ("uses prior", card.uses_prior),
        ("needs of the backbone", ", ".join(sorted(card.needs))),
        ("recipe of the paper", ", ".join(f"{k}={v}" for k, v in card.paper_recipe.items())),
        ("revision", str(card.revision)),
    ]
    return [(name, value) for name, value in named if value]


def _param(field: dataclasses.Field[Any]) -> list[str]:
    meta = field.metadata
    source = str(meta.get("source", "")) + (" (unpublished, ours)" if meta.get("unpublished") else "")
    choices = f" ({' | '.join(map(str, meta['choices']))})" if meta.get("choices") else ""
    return [field.name, str(field.default), source, str(meta.get("help", "")) + choices]


def _typical(run: Result) -> tuple[object, ...]:
    """Full methods first, then the typical noise rate, then by dataset and seed."""
    spec = run["spec"]
    distance = abs(float(spec["noise"]["rate"]) - TYPICAL_RATE)
    return (spec["variant"] not in ("", "full"), distance, str(spec["dataset"]), int(spec["seed"]), str(run["hash"]))


def _having(
    runs: Sequence[Result], folders: Mapping[str, Path], pattern: str, datasets: Sequence[str] | None = None
) -> Iterator[tuple[Result, Path]]:
    """The most typical finished run of each dataset whose folder keeps certain files."""
    seen = set()
    for run in runs:
        dataset, folder = str(run["spec"]["dataset"]), folders.get(str(run["hash"]))
        wanted = dataset not in seen and (datasets is None or dataset in datasets)
        if wanted and folder is not None and run.get("status") == "done" and any(folder.glob(pattern)):
            seen.add(dataset)
            yield run, folder


RECORDS, WEIGHTS = "pairs/epoch-*.safetensors", "weights.safetensors"


def _diagnosed(runs: Sequence[Result], folders: Mapping[str, Path], root: Path) -> tuple[Diagnostics | None, list[str]]:
    """Figures of the first run whose records can be opened, and why others cannot."""
    notes = []
    for run, folder in _having(runs, folders, RECORDS):
        try:
            drawn = _figures(folder, root)
        except (RsbenchError, TypeError) as error:  # TypeError: a spec with fields of another version
            notes.append(f"Figures of pairs on {run['spec']['dataset']} are left out: {error}")
            continue
        spec = run["spec"]
        text = f"{method_label(spec)} on {spec['dataset']}, {spec['noise']['kind']} {float(spec['noise']['rate']):g}"
        return Diagnostics(str(run["hash"]), f"{text}, seed {spec['seed']}.", drawn), notes
    return None, notes


def _figures(folder: Path, root: Path) -> list[tuple[str, str, str, Figure]]:
    """Name, title, caption and figure of everything that the records of a run allow."""
    from rsbench.experiment.diagnose import epoch_numbers, figures  # imports torch: only where there are records
    from rsbench.experiment.pair_records import open_records

    records = open_records(folder, root)
    return [(p.name, p.title, p.text, figure) for p, figure in figures(records, epoch_numbers(records))]


def _galleries(
    method: str, runs: Sequence[Result], folders: Mapping[str, Path], sources: Sources, progress: Progress
) -> tuple[list[Gallery], list[str]]:
    """Pages of pictures of one method, one of each sort per dataset, and why others are left out."""
    if sources.galleries == "none":
        return [], []
    datasets = None if sources.galleries == "all" else [FREE]
    found, notes = [], []
    for pattern, make in ((WEIGHTS, _retrieved), (RECORDS, _mismatched)):
        for run, folder in _having(runs, folders, pattern, datasets):
            try:
                found.append(make(method, run, folder, sources, progress))
            except (RsbenchError, TypeError) as error:
                notes.append(f"A gallery of {run['spec']['dataset']} is left out: {error}")
    return found, notes


def _retrieved(method: str, run: Result, folder: Path, sources: Sources, progress: Progress) -> Gallery:
    """Top hits of drawn test queries, right and wrong ones marked (RDB, Fig. 4-5)."""
    from rsbench.experiment.evaluate import Scoring
    from rsbench.experiment.query import Searcher
    from rsbench.report.retrieved import render_retrieved

    searcher = Searcher(folder, Scoring(sources.root, device=sources.device, progress=progress))
    i2t, t2i = searcher.draw(QUERIES, HITS, 0)
    sections = [("Images to captions", i2t), ("Captions to images", t2i)]
    notes = ["Right: the image belongs to the caption; queries are drawn with seed 0."]
    title = f"{method}: top {HITS} of test queries on {run['spec']['dataset']}"
    html = render_retrieved(title, searcher.facts, sections, notes)
    return Gallery(
        f"{file_name(method)}-{file_name(str(run['spec']['dataset']))}-retrieved",
        method,
        str(run["spec"]["dataset"]),
        title,
        html,
    )


def _mismatched(method: str, run: Result, folder: Path, sources: Sources, progress: Progress) -> Gallery:
    """Pairs that the clean scores of the last epoch believe mismatched, and both kinds of mistake."""
    from rsbench.experiment.pair_gallery import suspects
    from rsbench.experiment.pair_records import open_records
    from rsbench.report.gallery import Page, render_page

    records = open_records(folder, sources.root, progress)
    spec = run["spec"]
    title = f"{method}: detected mismatches on {spec['dataset']}"
    facts = [("run", str(run["hash"])), ("noise", f"{spec['noise']['kind']} {float(spec['noise']['rate']):g}")]
    html = render_page(Page(title, facts, sections=suspects(records, records.epochs[-1])))
    return Gallery(
        f"{file_name(method)}-{file_name(str(spec['dataset']))}-pairs", method, str(spec["dataset"]), title, html
    )
