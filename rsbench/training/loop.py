"""The one training loop: phases, steps, records, validation, best epoch, a checkpoint every epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsbench.errors import ResultError
from rsbench.methods.averaging import AveragedCopy
from rsbench.methods.base import Loss, Method, Phase, ScoreFn
from rsbench.seeding import derive_seed
from rsbench.training.checkpoint import (
    load_optimizer,
    optimizer_tensors,
    prefixed,
    read_tensors,
    under,
    write_tensors,
)
from rsbench.training.cost import Laps
from rsbench.training.device import autocast, make_scaler
from rsbench.training.distributed import agreed, encode_shared, make_shared_step
from rsbench.training.optim import OptimizerStepper, build_optimizer
from rsbench.training.pairs import TrainingPairs
from rsbench.training.recipe import Recipe
from rsbench.training.records import EpochRecords
from rsbench.training.tune import learning_groups, tune

Records = dict[str, Tensor]


@dataclass(frozen=True)
class Tick:
    """Where a run is: drawn live. ``doing`` says what keeps it from the next step, such as ranking."""

    epoch: int
    epochs: int
    step: int
    steps: int
    mr: float | None = None
    doing: str = ""


@dataclass
class Hooks:
    """What the experiment around the loop provides.

    Attributes:
        validate: retrieval metrics on the validation part (must hold ``mr``).
        judge: numbers about an epoch's per-pair records, for the history (the loop itself never sees the truth).
        keep: stores an epoch's per-pair records.
        log: writes a line.
        tick: shows progress.
    """

    validate: Callable[[Method], dict[str, float]]
    judge: Callable[[Records, int], dict[str, Any]]
    keep: Callable[[Records, int], None]
    log: Callable[[str], None]
    tick: Callable[[Tick], None]


@dataclass
class State:
    """Everything of a run that is neither a weight nor a record; goes into the checkpoint as JSON."""

    epoch: int = 0
    best_epoch: int = -1
    best_mr: float = float("-inf")
    stale: int = 0
    phase: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    laps: list[dict[str, float]] = field(default_factory=list)
    scaler: dict[str, Any] = field(default_factory=dict)


class Trainer:
    """Trains one method on one list of pairs; stops and resumes at epoch borders with equal results.

    Args:
        method: on its device.
        pairs: what is shown.
        recipe: how.
        seed: run seed; loader order and dropout of an epoch depend on it and the epoch alone.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        folder: where ``checkpoint.safetensors`` lies.
        hooks: validation, records, log and progress; ``validate`` must give all processes the same numbers.

    The processes of the run are those of ``pairs``; the first one writes.
    """

    def __init__(
        self,
        method: Method,
        pairs: TrainingPairs,
        recipe: Recipe,
        seed: int,
        precision: str,
        folder: Path,
        hooks: Hooks,
    ) -> None:
        self.method, self.pairs, self.recipe, self.seed = method, pairs, recipe, seed
        self.device, self.precision, self.hooks, self.world = pairs.device, precision, hooks, pairs.world
        self.path = folder / "checkpoint.safetensors"
        self.state = State()
        self.records: Records = {}
        self.best: dict[str, Tensor] = {}
        self.scaler = make_scaler(self.device, precision)
        self.laps = Laps(self.device)
        tune(method, recipe)
        learns = [p for p in method.parameters() if p.requires_grad]
        self.average = AveragedCopy(learns, recipe.ema) if recipe.ema else None
        self.step = make_shared_step(method, recipe.chunk_size, recipe.batch_size, self.world)
        self._start_optimizer()

    def _start_optimizer(self) -> None:
        self.optimizer = build_optimizer(learning_groups(self.method, self.recipe), self.recipe)
        steps = self.pairs.steps_per_epoch()
        self.stepper = OptimizerStepper(self.optimizer, self.recipe, steps, self.scaler)

    # What a method may ask for between epochs (see methods.base.Context).

    @property
    def epoch(self) -> int:
        """Index of the epoch about to start."""
        return self.state.epoch

    @property
    def epochs(self) -> int:
        """Number of epochs of the recipe."""
        return self.recipe.epochs

    def log(self, message: str) -> None:
        """Write a line to the run's log."""
        self.hooks.log(message)

    def warn(self, message: str) -> None:
        """Write a warning to the log and, once, into the result."""
        self.hooks.log(f"warning: {message}")
        if message not in self.state.warnings:
            self.state.warnings.append(message)

    @torch.no_grad()
    def score(self, fn: ScoreFn, max_batches: int | None = None) -> Tensor:
        """Eval-mode pass over the training pairs in one fixed shuffled order (see ``methods.base.Context``)."""
        found = torch.empty(0)
        self.method.eval()
        for n, batch in enumerate(self.pairs.fixed(self.state.phase, self.epoch)):
            if n == max_batches:
                break
            with autocast(self.device, self.precision):
                encoded = encode_shared(self.method, batch, self.recipe.chunk_size, self.world)
                value = fn(encoded, batch).float().cpu()
            if n == 0:
                found = torch.full((len(self.pairs), *value.shape[1:]), float("nan"))
            found[batch.pair.cpu()] = value
        self.method.train()
        return found

    def fit(self) -> State:
        """Train to the last epoch, from the newest checkpoint if there is one; returns the final state."""
        self._resume()
        self._check_start()
        while self.epoch < self.recipe.epochs and not self._stopped_early():
            started = time.monotonic()
            losses = self._train_epoch()
            self._close_epoch(losses, started)
            self._save()
        if self.average is not None:
            self.average.settle()
        return self.state

    def load_best(self) -> None:
        """Put the weights of the best epoch into the method."""
        self.method.load_state_dict(self.best)

    def _judged(self) -> AbstractContextManager[None]:
        """Inside, the method holds the weights that are validated and kept."""
        return nullcontext() if self.average is None else self.average.in_place()

    def _stopped_early(self) -> bool:
        return 0 < self.recipe.early_stop <= self.state.stale

    def _train_epoch(self) -> EpochRecords:
        # every epoch starts from its own seed: a resumed run draws the same dropout masks
        torch.manual_seed(derive_seed("epoch", self.seed, self.epoch))
        with self.laps.part("filter"):
            phases = agreed(self.method.epoch_phases(self), self.world)
        with self.laps.part("train"):
            return self._steps(phases)

    def _steps(self, phases: Sequence[Phase]) -> EpochRecords:
        if phases[0].name != self.state.phase:
            self.state.phase = phases[0].name
            self.method.calibrate(self)
            self._start_optimizer()  # moments of a loss of another scale would make steps many times too long
        self.world.copy(self.method)
        records = EpochRecords(len(self.pairs), self.device, self.epoch)
        self.stepper.global_step = self.epoch * self.pairs.steps_per_epoch()
        self.method.train()
        loss: Loss | None = None
        for phase in phases:
            for batch in self.pairs.shuffled(phase.pairs, self.seed, phase.name, self.epoch):
                with autocast(self.device, self.precision):
                    loss = self.step(batch, self.stepper)
                if self.average is not None:
                    self.average.update()
                records.add(batch, loss)
                if records.steps % 20 == 0:
                    self._tick(records.steps)
        if loss is not None:
            records.check(loss)
        return records

    def _tick(self, step: int) -> None:
        mr = self.state.best_mr if self.state.best_epoch >= 0 else None
        self.hooks.tick(Tick(self.epoch, self.epochs, step, self.pairs.steps_per_epoch(), mr))

    def _close_epoch(self, epoch_records: EpochRecords, started: float) -> None:
        self.records = epoch_records.tensors()
        self.hooks.keep(self.records, self.epoch)
        line: dict[str, Any] = {
            "epoch": self.epoch,
            "phase": self.state.phase,
            "lr": self.stepper.lr,
            **epoch_records.means(),
        }
        line["pairs"] = self.hooks.judge(self.records, self.epoch)
        last = self.epoch == self.recipe.epochs - 1
        if (self.epoch + 1) % self.recipe.validate_every == 0 or last:
            with self._judged():
                with self.laps.part("validate"):
                    line["val"] = self.hooks.validate(self.method)
                self._select(line["val"]["mr"])
        self.state.history.append(line)
        self.state.seconds.append(round(time.monotonic() - started, 3))
        self.state.laps.append(self.laps.take())
        shown = f", val mR {line['val']['mr']:.2f}" if "val" in line else ""
        self.log(
            f"epoch {self.epoch + 1}/{self.epochs} ({self.state.phase}): loss {line['loss']:.4f}{shown}, "
            f"{self.state.seconds[-1]:.1f} s"
        )
        self.state.epoch += 1
        self._tick(0)

    def _select(self, mr: float) -> None:
        value = round(mr, 2) if self.recipe.selection == "val_mr_round2" else mr
        if value > self.state.best_mr:
            self.state.best_mr, self.state.best_epoch, self.state.stale = value, self.epoch, 0
            self.best = {k: v.detach().cpu().clone() for k, v in self.method.state_dict().items()}
        else:
            self.state.stale += 1

    def _save(self) -> None:
        if not self.world.first:
            return
        self.state.scaler = self.scaler.state_dict() if self.scaler.is_enabled() else {}
        tensors = {
            **prefixed(self.method.state_dict(), "model"),
            **prefixed(optimizer_tensors(self.optimizer), "optimizer"),
            **prefixed(self.best, "best"),
            **prefixed(self.records, "records"),
        }
        if self.average is not None:
            tensors |= prefixed(self.average.state_dict(), "average")
        write_tensors(self.path, tensors, asdict(self.state))

    def _resume(self) -> None:
        if not self.path.exists():
            return
        tensors, state = read_tensors(self.path)
        try:
            self.state = State(**state)
            self.method.load_state_dict(under(tensors, "model"))
            load_optimizer(self.optimizer, under(tensors, "optimizer"))
            if self.average is not None:
                self.average.load_state_dict(under(tensors, "average"))
        except (TypeError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ResultError(
                f"{self.path} does not fit this run ({reason}); run again with --overwrite always"
            ) from None
        if self.state.scaler:
            self.scaler.load_state_dict(self.state.scaler)
        self.best, self.records = under(tensors, "best"), under(tensors, "records")
        self.log(f"resumed after epoch {self.state.epoch}")

    def _check_start(self) -> None:
        epoch = self.world.share(self.epoch)
        if epoch != self.epoch:
            raise ResultError(
                f"the first process starts at epoch {epoch + 1}, process {self.world.rank} at {self.epoch + 1}: it "
                f"does not see {self.path}; use an --out that all machines share"
            )
