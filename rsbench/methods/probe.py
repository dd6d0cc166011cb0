"""A stand-in run on tiny random features, to push a method through without data or weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.backbones.base import CONTENT, PAD, Backbone, Features, Fields, Inputs
from rsbench.backbones.card import BackboneCard
from rsbench.data.dataset import Dataset
from rsbench.methods.base import Batch, Loss, Method, Phase, ScoreFn, Setup
from rsbench.methods.build import build_method
from rsbench.progress import Progress, silent

WIDTH, DIM, TOKENS, CLASSES = 12, 16, 5, 3
PAIRS, BATCH, EPOCHS = 24, 8, 8


class ProbeBackbone(Backbone):
    """One linear projection per modality, shared by pooled vectors and tokens, over given features."""

    card = BackboneCard(
        name="probe",
        title="linear projections of random features",
        target="rsbench.methods.probe:ProbeBackbone",
        capabilities={"heads": frozenset({"tokens", "hidden"})},
        weights=("random",),
    )
    dim = DIM
    tuning = "heads"

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(WIDTH, DIM), nn.Linear(WIDTH, DIM)

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        """Not used: the probe makes its own batches."""
        raise TypeError("the probe backbone reads no dataset")

    def encode_image(self, x: Fields) -> Features:
        """Projected grid of tokens and its mean."""
        return self.project_image(*self.image_states(x))

    def encode_text(self, x: Fields) -> Features:
        """Projected words and their mean."""
        return self.project_text(*self.text_states(x))

    def image_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """The given features."""
        return x["hidden"], x["kind"]

    def text_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """The given features."""
        return x["hidden"], x["kind"]

    def project_image(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Projected tokens and their mean."""
        return _projected(self.image, hidden, kind)

    def project_text(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Projected tokens and their mean, padding left out."""
        return _projected(self.text, hidden, kind)

    def width(self, modality: str) -> int:
        """Of the given features."""
        return WIDTH


def _projected(head: nn.Linear, hidden: Tensor, kind: Tensor) -> Features:
    real = (kind == CONTENT)[..., None]
    pooled = (hidden * real).sum(1) / real.sum(1)
    return Features(head(pooled), head(hidden), kind, hidden)


@dataclass
class Probe:
    """A run in miniature: it is the ``Stepper`` and the ``Context`` of its method.

    Attributes:
        method: under test, in training mode.
        reached: names of parameters that got a gradient other than zero.
    """

    method: Method
    epoch: int = 0
    epochs: int = EPOCHS
    records: dict[str, Tensor] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, variant: str, params: Mapping[str, Any], seed: int = 0) -> Probe:
        """A freshly initialised method on the probe backbone."""
        torch.manual_seed(seed)
        setup = Setup(PAIRS, CLASSES, BATCH, EPOCHS, new_backbone=ProbeBackbone)
        probe = cls(build_method(name, variant, params, ProbeBackbone(), setup))
        groups = [{k: g[k] for k in ("params",)} for g in probe.method.param_groups() if list(g["params"])]
        probe._optimizer = torch.optim.AdamW(groups, lr=1e-3)
        return probe

    def __post_init__(self) -> None:
        """Start without an optimizer."""
        self._optimizer: torch.optim.Optimizer | None = None

    def start(self) -> tuple[Phase, ...]:
        """Phases of the coming epoch; calibrates where their first name changes, as the engine does."""
        phases = tuple(self.method.epoch_phases(self))
        if phases[0].name != getattr(self, "_phase", None):
            self._phase = phases[0].name
            self.method.calibrate(self)
        self.method.train()
        return phases

    def train_epoch(self) -> list[Loss]:
        """One epoch over the pairs, step by step."""
        torch.manual_seed(self.epoch)
        losses: list[Loss] = []
        records: dict[str, Tensor] = {}
        for phase in self.start():
            for batch in batches(phase, self.epoch):
                loss = self.method.train_step(batch, self)
                losses.append(loss)
                values = {"pair_loss": loss.pair_loss, **loss.records}
                if loss.clean_score is not None:
                    values["clean_score"] = loss.clean_score
                for name, value in values.items():
                    records.setdefault(name, torch.full((PAIRS,), float("nan")))[batch.pair] = value.detach().float()
        self.records, self.epoch = records, self.epoch + 1
        return losses

    def step(self, loss: Loss) -> None:
        """One optimizer step; notes which parameters the gradient reached."""
        assert self._optimizer is not None
        self._optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        for name, parameter in self.method.named_parameters():
            if parameter.grad is not None and bool(parameter.grad.any()):
                self.reached.add(name)
        self._optimizer.step()

    @torch.no_grad()
    def score(self, fn: ScoreFn, max_batches: int | None = None) -> Tensor:
        """Eval-mode pass in the order of the pairs."""
        found = torch.empty(0)
        self.method.eval()
        for n, batch in enumerate(batches(Phase(), self.epoch)):
            if n == max_batches:
                break
            value = fn(self.method.encode(batch), batch).float()
            if n == 0:
                found = torch.full((PAIRS, *value.shape[1:]), float("nan"))
            found[batch.pair] = value
        self.method.train()
        return found

    def log(self, message: str) -> None:
        """Keep a log line."""
        self.messages.append(message)

    def warn(self, message: str) -> None:
        """Keep a warning."""
        self.messages.append(f"warning: {message}")


def batches(phase: Phase, epoch: int) -> Iterator[Batch]:
    """Full batches of a phase's pairs, in their order."""
    pairs = torch.arange(PAIRS) if phase.pairs is None else phase.pairs.cpu()
    for start in range(0, len(pairs) - BATCH + 1, BATCH):
        yield make_batch(pairs[start : start + BATCH], phase.name, epoch)


def make_batch(pairs: Tensor, phase: str, epoch: int = 0, images: Tensor | None = None) -> Batch:
    """Pairs of the stand-in set: image and text features share a signal, a quarter of the texts is swapped.

    Args:
        pairs: pair ids in 0..PAIRS-1.
        phase: told to the loss.
        epoch: told to the loss.
        images: given images of the pairs, the pairs' own numbers if None.
    """
    generator = torch.Generator().manual_seed(7)
    signal = torch.randn(PAIRS, 1, WIDTH, generator=generator)
    spread = torch.randn(2, PAIRS, TOKENS, WIDTH, generator=generator)
    given = pairs if images is None else images
    shown = torch.where(pairs % 4 == 0, (pairs + 4) % PAIRS, pairs)
    kind = torch.full((len(pairs), TOKENS), CONTENT, dtype=torch.int8)
    padded = kind.clone()
    padded[::2, -1] = PAD
    return Batch(
        pair=pairs,
        image=given,
        images={"hidden": signal[given] + 0.3 * spread[0, given], "kind": kind},
        texts={"hidden": signal[shown] + 0.3 * spread[1, shown], "kind": padded},
        label=given % CLASSES,
        phase=phase,
        epoch=epoch,
    )
