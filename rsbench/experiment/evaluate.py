"""Score a finished run, or a backbone as it comes, on any dataset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rsbench.backbones.build import build_backbone
from rsbench.backbones.resolve import resolve_backbone
from rsbench.data.lifecycle import open_dataset
from rsbench.errors import CapabilityError, ResultError, UsageError
from rsbench.experiment.run import build
from rsbench.experiment.spec import SPEC_VERSION, RunSpec
from rsbench.methods.base import Method, Setup
from rsbench.progress import Progress, silent
from rsbench.registry import DATASETS
from rsbench.results.store import RunFolder, read_json, write_json
from rsbench.training.checkpoint import read_tensors
from rsbench.training.device import choose_device
from rsbench.training.scoring import retrieval, score_part


def read_spec(run: Path) -> RunSpec:
    """The spec of a run folder.

    Raises:
        UsageError: no run folder.
        ResultError: written by a newer version.
    """
    if not (run / "spec.json").is_file():
        raise UsageError(f"'{run}' is no run folder (it has no spec.json); give one, such as results/0123456789abcdef")
    data = read_json(run / "spec.json")
    if data.get("version") != SPEC_VERSION:
        raise ResultError(f"{run / 'spec.json'} has version {data.get('version')}, this program reads {SPEC_VERSION}")
    return RunSpec.from_dict(data)


def trained_method(run: Path) -> tuple[RunSpec, Method]:
    """A finished run's method with its best weights; its training data need not be here.

    Raises:
        UsageError: no run folder.
        ResultError: no weights, or of another version.
    """
    folder, spec = RunFolder(run.parent, run.name), read_spec(run)
    if not folder.weights.exists():
        state = folder.state()
        how = "it was run with --no-weights, or they were not copied" if state == "done" else f"it is {state}"
        raise ResultError(f"run '{run}' has no weights to score ({how}); run it again without --no-weights")
    result = folder.read_result()
    n_classes = int(result["dataset"].get("classes", 0))
    template = build_backbone(spec.backbone, spec.tuning, spec.weights, dict(spec.backbone_params), seed=0)
    method = build(spec, template, int(result["noise"]["pairs"]), n_classes)
    tensors, _ = read_tensors(folder.weights)
    try:
        method.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ResultError(f"{folder.weights} does not fit its spec ({reason}); run it again") from None
    return spec, method


@dataclass(frozen=True)
class Scoring:
    """What is scored, and where.

    Attributes:
        root: data folder.
        split: scheme; None for the run's own, or the dataset's default.
        part: ``test``, ``val`` or ``train``.
        folds: average over this many equal runs of images.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: called while features are computed and images are ranked.
    """

    root: Path
    split: str | None = None
    part: str = "test"
    folds: int = 1
    device: str = "auto"
    progress: Progress = silent


def evaluate_run(run: Path, how: Scoring, dataset: str | None = None) -> dict[str, Any]:
    """Retrieval of a run's best weights on one part of a dataset, its own by default.

    The backbone's statistics come with the weights. The figures are kept beside the run, in
    ``eval-<dataset>-<split>-<part>.json``.

    Raises:
        UsageError: no run folder, unknown split or part.
        ResultError: no weights, or of another version.
    """
    spec, method = trained_method(run)
    name = dataset or spec.dataset
    if name == spec.dataset and how.split is None:
        how = replace(how, split=spec.split)
    row = {
        "run": run.name,
        "method": f"{spec.method}:{spec.variant}",
        "trained_on": spec.dataset,
        "zero_shot": name != spec.dataset,
        **_scored(method, name, how, spec.precision, tokens=bool(method.card.needs_of(spec.params))),
    }
    write_json(run / f"eval-{name}-{row['split']}-{how.part}.json", row)
    return row


def evaluate_backbone(backbone: str, how: Scoring, dataset: str, weights: str = "") -> dict[str, Any]:
    """Zero-shot retrieval of a pretrained backbone, without any training.

    Raises:
        CapabilityError: its towers do not share a space before training.
        WeightsError: weights that are missing or do not fit.
    """
    card, tuning, chosen, params = resolve_backbone(backbone, "", weights)
    if not card.aligned:
        raise CapabilityError(
            f"backbone '{backbone}' has no joint space before training; a zero-shot row needs a pretrained pair of "
            "towers such as clip-vit-b32, or a finished run"
        )
    method = Method(build_backbone(backbone, tuning, chosen, params, seed=0), None, Setup(0, 0, 0, 0))
    return {
        "run": chosen,
        "method": f"{backbone} (no training)",
        "trained_on": "",
        "zero_shot": True,
        **_scored(method, dataset, how, "fp32", tokens=False),
    }


def _scored(method: Method, dataset: str, how: Scoring, precision: str, tokens: bool) -> dict[str, Any]:
    device, target = choose_device(how.device), open_dataset(dataset, how.root, how.progress)
    split = how.split or DATASETS.load(dataset).default_split
    target.part(split, how.part)
    inputs = method.backbone.inputs(target, how.root / "features", tokens=tokens, progress=how.progress)
    scores = score_part(method.to(device), inputs, target, split, how.part, device, precision)
    return {
        "dataset": dataset,
        "fingerprint": target.fingerprint,
        "split": split,
        "part": how.part,
        "folds": how.folds,
        "metrics": retrieval(scores, how.folds, how.progress),
    }
