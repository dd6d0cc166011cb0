"""One run from spec to result."""

from __future__ import annotations

import functools
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsbench.backbones.base import Backbone, Inputs
from rsbench.backbones.build import build_backbone
from rsbench.backbones.resolve import warning_of
from rsbench.data.dataset import Dataset
from rsbench.data.lifecycle import open_dataset
from rsbench.data.report import t2i_bound
from rsbench.errors import BusyError, ProcessesError, ResultError, RsbenchError, UsageError
from rsbench.evaluation.detection import detection
from rsbench.evaluation.figures import Metrics
from rsbench.evaluation.ranks import Ranks
from rsbench.experiment.environment import environment
from rsbench.experiment.spec import RunSpec
from rsbench.methods.base import Method, Setup
from rsbench.methods.build import build_method, load_card
from rsbench.noise.index import NoiseIndex, known_mismatches, realised
from rsbench.noise.make import make_index
from rsbench.noise.pseudo_match_store import list_facts
from rsbench.progress import Progress, silent
from rsbench.registry import DATASETS
from rsbench.results.heartbeat import Heart
from rsbench.results.ranks import RANKS
from rsbench.results.schema import SCHEMA_VERSION, Result
from rsbench.results.store import RunFolder, write_json
from rsbench.seeding import derive_seed
from rsbench.training.checkpoint import write_tensors
from rsbench.training.cost import forget_peak, peak_mb
from rsbench.training.device import choose_device, resident
from rsbench.training.loop import Hooks, Tick, Trainer
from rsbench.training.pairs import TrainingPairs
from rsbench.training.scoring import ranked, retrieval, score_part
from rsbench.training.torchrun import place
from rsbench.training.tune import augmentation_of
from rsbench.training.world import current

TickFn = Callable[[Tick], None]


@dataclass(frozen=True)
class Options:
    """How a run is carried out; nothing here changes its numbers on CPU.

    Attributes:
        root: data folder.
        out: results folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        keep_weights: keep the best weights for ``rsbench eval``.
        restart: forget what is there.
    """

    root: Path
    out: Path
    device: str = "auto"
    keep_weights: bool = True
    restart: bool = False


@dataclass(frozen=True)
class Materials:
    """What runs on the same data and backbone share: kept warm in a worker process."""

    dataset: Dataset
    template: Backbone
    inputs: Inputs


@functools.lru_cache(maxsize=2)
def _materials(key: str, root: Path, progress: Progress) -> Materials:
    what = json.loads(key)
    dataset = open_dataset(what["dataset"], root, progress)
    backbone = build_backbone(what["backbone"], what["tuning"], what["weights"], what["backbone_params"], seed=0)
    cache = root / "features"
    backbone.fit(dataset, what["split"], cache, progress)
    inputs = backbone.inputs(dataset, cache, tokens=what["tokens"], progress=progress)
    return Materials(dataset, backbone, inputs)


def materials(spec: RunSpec, root: Path, progress: Progress = silent) -> Materials:
    """Dataset, fitted buffers and inputs of a spec; computed once per process, features once per machine."""
    what = {
        "dataset": spec.dataset,
        "split": spec.split,
        "backbone": spec.backbone,
        "tuning": spec.tuning,
        "weights": spec.weights,
        "backbone_params": dict(spec.backbone_params),
        "tokens": bool(load_card(spec.method).needs_of(spec.params)),
    }
    return _materials(json.dumps(what, sort_keys=True), root, progress)


def fitted_backbone(spec: RunSpec, template: Backbone, seed: int) -> Backbone:
    """A backbone with the initialisation of a seed and the fitted statistics (buffers) of a template."""
    backbone = build_backbone(spec.backbone, spec.tuning, spec.weights, dict(spec.backbone_params), seed)
    for module, fitted in zip(backbone.modules(), template.modules(), strict=True):
        for name, buffer in fitted._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()
    return backbone


def shown_pairs(spec: RunSpec, dataset: Dataset, root: Path) -> NoiseIndex:
    """The pairs that a run is shown.

    Raises:
        ResultError: dataset or list are not those that the run was planned with.
    """
    if dataset.fingerprint != spec.fingerprint:
        raise ResultError(
            f"dataset '{dataset.name}' has fingerprint {dataset.fingerprint[:12]}, the run was planned "
            f"with {spec.fingerprint[:12]}; plan again, or prepare the same files"
        )
    index = make_index(dataset, spec.split, spec.noise, root)
    if index.sha256 != spec.noise_sha256:
        raise ResultError(
            f"the noise list has sha256 {index.sha256[:12]}, the run was planned with "
            f"{spec.noise_sha256[:12]}; plan again"
        )
    return index


def build(spec: RunSpec, template: Backbone, n_pairs: int, n_classes: int) -> Method:
    """The method of a spec over its backbone, initialised from the run seed.

    Args:
        spec: what to build.
        template: a backbone of the spec whose buffers are taken over (fitted, or to be loaded afterwards).
        n_pairs: training pairs P.
        n_classes: scene classes of the training dataset.
    """
    seed = derive_seed("init", spec.seed)
    torch.manual_seed(seed)
    backbone = fitted_backbone(spec, template, seed)
    setup = Setup(
        n_pairs=n_pairs,
        n_classes=n_classes,
        batch_size=spec.recipe.batch_size,
        epochs=spec.recipe.epochs,
        new_backbone=lambda: fitted_backbone(spec, template, derive_seed("second", spec.seed)),
    )
    return build_method(spec.method, spec.variant, spec.params, backbone, setup)


def execute(spec: RunSpec, options: Options, tick: TickFn = lambda _: None, progress: Progress = silent) -> Result:
    """Carry one run out, or pick it up where it was killed; a finished run is returned as it is.

    Under torchrun this is for the first process; the others ``follow``.

    Raises:
        BusyError: another process works on it.
        ProcessesError: under torchrun, for whatever reason.
        RsbenchError: anything the input is to blame for; recorded as a failed result.
    """
    world = current()
    if place().size != world.size:
        raise UsageError("under torchrun only `rsbench run` works; start other commands without it")
    folder = RunFolder(options.out, spec.hash)
    with folder.claimed():
        if options.restart:
            folder.clear()
        if folder.state() == "done":
            return folder.read_result()
        folder.open(spec.as_dict())
        world.share(spec.as_dict())
        with Heart(folder.path, spec.recipe.epochs, options.device) as heart:
            try:
                result = _Run(spec, options, folder, tick, progress, heart).result()
            except Exception as error:
                _record_failure(spec, folder, error)
                if world.size > 1:  # the others wait in the middle of something: there is no going on with them
                    raise ProcessesError(f"run {spec.hash}: {error}; start the same command again to go on") from error
                raise
            write_json(folder.result, result)
        folder.checkpoint.unlink(missing_ok=True)
        return result


def follow(options: Options) -> None:
    """Take part in the runs of the first process of torchrun until it has no more.

    Raises:
        ConnectionError: the first process, or another one, has ended.
        RsbenchError: what keeps this process from taking part.
    """
    while (told := current().share(None)) is not None:
        spec = RunSpec.from_dict(told)
        _Run(spec, options, RunFolder(options.out, spec.hash)).trainer().fit()


def _record_failure(spec: RunSpec, folder: RunFolder, error: Exception) -> None:
    if isinstance(error, BusyError) or (isinstance(error, OSError) and not isinstance(error, RsbenchError)):
        return  # a full disk is no property of the run
    folder.log("".join(traceback.format_exception(error)))
    text = str(error) if isinstance(error, RsbenchError) else f"{type(error).__name__}: {error}"
    write_json(
        folder.result,
        {"schema": SCHEMA_VERSION, "hash": spec.hash, "status": "failed", "error": text, "spec": spec.as_dict()},
    )


class _Run:
    """The steps of one run, in order; without a heart it only takes part in the training."""

    def __init__(
        self,
        spec: RunSpec,
        options: Options,
        folder: RunFolder,
        tick: TickFn = lambda _: None,
        progress: Progress = silent,
        heart: Heart | None = None,
    ) -> None:
        self.spec, self.options, self.folder, self.tick, self.heart = spec, options, folder, tick, heart
        self.started = time.monotonic()
        self.at = Tick(0, spec.recipe.epochs, 0, 1)
        self.world = current()
        self.device = self.world.device or choose_device(options.device)
        if heart is not None:
            heart.device = str(self.device)
        self.shared = materials(spec, options.root, progress)
        self.dataset, self.inputs = self.shared.dataset, resident(self.shared.inputs, self.device)
        self.index = shown_pairs(spec, self.dataset, options.root)
        truth = known_mismatches(self.dataset, self.index)
        self.mismatched = None if truth is None else torch.from_numpy(truth)
        self.card = load_card(spec.method)
        if self.device.type == "cpu":
            torch.set_num_threads(1)  # equal results need one thread per process

    def _ranked(self, method: Method, part: str, folds: int = 1) -> tuple[Metrics, Ranks, Metrics | None]:
        """Figures of a part, the ranks behind them and, for several folds, the means over these."""

        def ranking(what: str, done: int, total: int) -> None:
            if done < total:
                self._show(replace(self.at, doing=f"{what} {part} {done:,}/{total:,}"))

        args = (method, self.inputs, self.dataset, self.spec.split, part, self.device, self.spec.precision)
        scores = score_part(*args)
        return *ranked(scores, ranking), retrieval(scores, folds) if folds > 1 else None

    def _tick(self, tick: Tick) -> None:
        self.at = tick
        self._show(tick)

    def _show(self, tick: Tick) -> None:
        if self.heart is not None:
            self.heart.beat(**vars(tick))
        self.tick(tick)

    def _judge(self, records: dict[str, Tensor], epoch: int) -> dict[str, Any]:
        """Numbers about the pairs of an epoch; the only place where training meets the truth, and only to log it."""
        found: dict[str, Any] = {}
        division = records.get("division")
        if division is not None:
            names = ("clean", "ambiguous", "noisy")
            found.update({f"share_{n}": float((division == i).float().mean()) for i, n in enumerate(names)})
        if "clean_score" in records and self.mismatched is not None and bool(self.mismatched.any()):
            score = records["clean_score"]
            found["detection"] = detection(score, self.mismatched, division, self.card.detector, epoch)
        return found

    def _keep(self, records: dict[str, Tensor], epoch: int) -> None:
        self.folder.pairs.mkdir(exist_ok=True)
        write_tensors(self.folder.pairs / f"epoch-{epoch:03d}.safetensors", records)

    def _validate(self, method: Method) -> dict[str, float]:
        found = self._ranked(method, "val")[0] if self.world.first else None
        return dict(self.world.share(found))

    def _hooks(self) -> Hooks:
        if not self.world.first:
            return Hooks(self._validate, lambda r, e: {}, lambda r, e: None, lambda line: None, lambda tick: None)
        return Hooks(
            validate=self._validate,
            judge=self._judge,
            keep=self._keep,
            log=self.folder.log,
            tick=self._tick,
        )

    def trainer(self) -> Trainer:
        """Method, pairs and recipe joined; what is known against the weights is among the warnings from the start."""
        spec, recipe = self.spec, self.spec.recipe
        method = build(spec, self.shared.template, len(self.index.pairs), len(self.dataset.classes)).to(self.device)
        shown = self.dataset, self.index.pairs, self.inputs, recipe.batch_size, self.device
        pairs = TrainingPairs(*shown, augmentation_of(recipe), self.world)
        trainer = Trainer(method, pairs, recipe, spec.seed, spec.precision, self.folder.path, self._hooks())
        if warning := warning_of(spec.backbone, spec.weights):
            trainer.warn(warning)
        return trainer

    def result(self) -> Result:
        """Train, evaluate, describe."""
        trainer = self.trainer()
        method = trainer.method
        forget_peak(self.device)
        state = trainer.fit()
        peak = peak_mb(self.device)
        self.folder.write_history(state.history)
        evaluated = time.monotonic()
        tested = self._test(trainer)
        testing = time.monotonic() - evaluated
        if self.options.keep_weights:
            write_tensors(self.folder.weights, method.state_dict())
        last = len(state.history) - 1
        by_epoch = {"best": state.history[state.best_epoch], "last": state.history[last]}
        result: Result = {
            "schema": SCHEMA_VERSION,
            "hash": self.spec.hash,
            "status": "done",
            "spec": self.spec.as_dict(),
            "method": {
                "networks": self.card.networks,
                "uses_prior": self.card.uses_prior,
                "detector": self.card.detector,
                "parameters": sum(p.numel() for p in method.parameters()),
                "trainable": sum(p.numel() for p in method.parameters() if p.requires_grad),
                "backbone": method.backbone.facts(),
            },
            "dataset": self._dataset_facts(),
            "noise": {
                "pairs": len(self.index.pairs),
                "sha256": self.index.sha256,
                **asdict(realised(self.dataset, self.index)),
                **list_facts(self.dataset, self.spec.split, self.spec.noise, self.options.root),
            },
            "best_epoch": state.best_epoch,
            "epochs": len(state.history),
            "val": {k: line["val"] for k, line in by_epoch.items()},
            "detection": {k: v["pairs"]["detection"] for k, v in by_epoch.items() if "detection" in v["pairs"]},
            "warnings": state.warnings,
            "time": {
                "train": round(sum(state.seconds), 3),
                "evaluate": round(time.monotonic() - evaluated, 3),
                "total": round(time.monotonic() - self.started, 3),
                "test": round(testing, 3),
                "epochs": state.laps,
            },
            "environment": {**environment(self.device), "memory_peak_mb": peak, "world_size": self.world.size},
        }
        result.update(tested)
        return result

    def _test(self, trainer: Trainer) -> Result:
        """Read the test part once: the last epoch's weights, then the best epoch's, which stay loaded."""
        method, folds = trainer.method, self._folds(trainer) if self.spec.held_out else 1
        last = self._ranked(method, "test", folds) if self.spec.held_out else None
        trainer.load_best()
        if last is None:
            return {}
        same = trainer.state.best_epoch == len(trainer.state.history) - 1
        best = last if same else self._ranked(method, "test", folds)
        write_tensors(self.folder.path / RANKS, {"i2t": best[1].i2t.int(), "t2i": best[1].t2i.int()})
        found: Result = {"test": {"best": best[0], "last": last[0]}}
        if folds > 1:
            found["folds"] = {"n": folds, "best": best[2], "last": last[2]}
        return found

    def _folds(self, trainer: Trainer) -> int:
        """Folds over which papers average on this dataset; 1 where missing images leave them unequal."""
        folds: int = DATASETS.load(self.spec.dataset).folds
        images = len(self.dataset.splits[self.spec.split]["test"])
        if images % folds:
            trainer.warn(f"no means over {folds} folds: the test part has {images:,} images, which do not divide")
            return 1
        return folds

    def _dataset_facts(self) -> dict[str, Any]:
        split = self.dataset.splits[self.spec.split]
        return {
            "images": len(self.dataset.filenames),
            "captions": len(self.dataset.captions),
            "classes": len(self.dataset.classes),
            "parts": {k: len(v) for k, v in split.items()},
            "missing": len(self.dataset.missing),
            "t2i_bound": t2i_bound(self.dataset, np.asarray(split["test"])) if "test" in split else {},
        }
