"""Score a finished run again, on its own dataset or another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsbench.data.lifecycle import open_dataset
from rsbench.errors import ResultError, UsageError
from rsbench.experiment.run import build, materials
from rsbench.experiment.spec import SPEC_VERSION, RunSpec
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


def evaluate_run(
    run: Path,
    root: Path,
    dataset: str | None = None,
    split: str | None = None,
    part: str = "test",
    folds: int = 1,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Retrieval of a run's best weights on one part of a dataset.

    The backbone's statistics come from the run's own training part, through the weights file.
    The figures are kept beside the run, in ``eval-<dataset>-<split>-<part>.json``.

    Raises:
        UsageError: no run folder, unknown split or part.
        ResultError: no weights, or of another version.
    """
    folder, spec = RunFolder(run.parent, run.name), read_spec(run)
    if not folder.weights.exists():
        state = folder.state()
        how = "it was run with --no-weights" if state == "done" else f"it is {state}"
        raise ResultError(f"run '{run}' has no weights to score ({how}); run it again without --no-weights")
    shared = materials(spec, root, progress)
    tensors, _ = read_tensors(folder.weights)
    chosen = choose_device(device)
    method = build(spec, shared, len(shared.dataset.pairs(spec.split, "train")))
    method.load_state_dict(tensors)
    method.to(chosen)
    other = dataset is not None and dataset != spec.dataset
    target = open_dataset(dataset, root, progress) if other and dataset else shared.dataset
    scheme = split or (DATASETS.load(target.name).default_split if other else spec.split)
    inputs = shared.inputs
    if other:
        tokens = bool(method.card.needs & {"tokens"})
        inputs = method.backbone.cpu().inputs(target, root / "features", tokens=tokens, progress=progress)
        method.to(chosen)
    scores = score_part(method, inputs, target, scheme, part, chosen, spec.precision)
    row = {
        "run": run.name,
        "method": f"{spec.method}:{spec.variant}",
        "trained_on": spec.dataset,
        "dataset": target.name,
        "fingerprint": target.fingerprint,
        "split": scheme,
        "part": part,
        "folds": folds,
        "zero_shot": other,
        "metrics": retrieval(scores, folds),
    }
    write_json(run / f"eval-{target.name}-{scheme}-{part}.json", row)
    return row
