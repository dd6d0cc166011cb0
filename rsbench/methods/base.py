"""The contract of a method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from rsbench.backbones.base import Backbone, Features, Fields
from rsbench.matchers.cosine import cosine
from rsbench.methods.card import MethodCard

UNDECIDED, CLEAN, AMBIGUOUS, NOISY = -1, 0, 1, 2
"""Values of ``Loss.division``."""

WARMUP, TRAIN = "warmup", "train"
"""Usual phase names."""


@dataclass
class Batch:
    """B training pairs as shown. It never holds the caption's own image: that is the true label.

    Attributes:
        pair: int64 ``[B]``, stable pair ids (rows of the noise index).
        image: int64 ``[B]``, ids of the *given* images; "same image" always means these.
        images: what the image tower reads, first axis B.
        texts: what the text tower reads, first axis B.
        label: int64 ``[B]``, scene class of the given image, -1 where unknown.
        phase: name of the phase this batch belongs to.
        epoch: epoch index from 0.
    """

    pair: Tensor
    image: Tensor
    images: Fields
    texts: Fields
    label: Tensor
    phase: str = TRAIN
    epoch: int = 0

    def __len__(self) -> int:
        return self.pair.shape[0]


@dataclass
class Encoded:
    """What ``encode`` yields: everything the loss reads of the networks.

    Attributes:
        image: features of the B given images.
        text: features of the B captions.
        extra: further tensors by name (teachers, second network).
    """

    image: Features
    text: Features
    extra: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Loss:
    """Per-pair values first, reduction after.

    Attributes:
        total: scalar to minimise.
        terms: named scalars for the log, detached.
        pair_loss: ``[B]``, detached.
        clean_score: ``[B]``, higher = cleaner; None where the method has none of its own.
        division: int8 ``[B]`` of ``CLEAN``, ``AMBIGUOUS``, ``NOISY``; None where pairs are not divided.
        records: further per-pair values by name, kept per epoch by pair id.
    """

    total: Tensor
    terms: dict[str, Tensor]
    pair_loss: Tensor
    clean_score: Tensor | None = None
    division: Tensor | None = None
    records: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """One pass of an epoch.

    Attributes:
        name: told to the loss through ``Batch.phase``.
        pairs: ids of the pairs to visit, or None for all.
    """

    name: str = TRAIN
    pairs: Tensor | None = None


class Stepper(Protocol):
    """One optimizer step: zero, backward, clip, step, schedule."""

    def step(self, loss: Loss) -> None:
        """Minimise ``loss.total``."""
        ...


ScoreFn = Callable[[Encoded, Batch], Tensor]
"""Per-pair values ``[B]`` or ``[B, K]`` of an encoded batch."""


class Context(Protocol):
    """What a method may ask of the engine between epochs.

    Attributes:
        records: per-pair records of the epoch before (``[P]`` by name, NaN where a pair was not visited),
            with ``clean_score`` and ``pair_loss`` among them; empty before the first epoch.
    """

    records: dict[str, Tensor]

    @property
    def epoch(self) -> int:
        """Index of the epoch about to start."""
        ...

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        ...

    def score(self, fn: ScoreFn, max_batches: int | None = None) -> Tensor:
        """Eval-mode pass over the training pairs in one fixed shuffled order.

        Returns:
            float32 ``[P]`` or ``[P, K]`` on the CPU by pair id, NaN if unvisited.
        """
        ...

    def log(self, message: str) -> None:
        """Write a line to the run's log."""
        ...

    def warn(self, message: str) -> None:
        """Write a warning to the log and into the result."""
        ...


@dataclass(frozen=True)
class Setup:
    """What a method is built for.

    Attributes:
        n_pairs: number of training pairs P; sizes per-pair memory.
        n_classes: scene classes of the dataset, 0 if none.
        batch_size: B of the recipe.
        epochs: of the recipe.
        new_backbone: a fresh, fitted twin of the backbone with another initialisation (co-teaching).
    """

    n_pairs: int
    n_classes: int
    batch_size: int
    epochs: int
    new_backbone: Callable[[], Backbone] | None = None


class Method(nn.Module):
    """A way to train a backbone on pairs of which some are mismatched.

    A subclass sets ``card`` and implements ``loss``; the rest has defaults. All memory per pair is
    registered as buffers, so that a checkpoint holds it.

    Args:
        backbone: the fitted backbone.
        params: an instance of ``card.params``.
        setup: sizes of the run.
    """

    card: ClassVar[MethodCard]

    def __init__(self, backbone: Backbone, params: Any, setup: Setup) -> None:
        super().__init__()
        self.backbone, self.params, self.setup = backbone, params, setup

    def encode_images(self, x: Fields) -> Features:
        """Features of images, as the loss and the evaluation see them."""
        return self.backbone.encode_image(x)

    def encode_texts(self, x: Fields) -> Features:
        """Features of texts, as the loss and the evaluation see them."""
        return self.backbone.encode_text(x)

    def encode(self, batch: Batch) -> Encoded:
        """Run the networks on a batch; separate from ``loss`` so that the engine can gather or chunk in between."""
        return Encoded(self.encode_images(batch.images), self.encode_texts(batch.texts))

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        """The method's loss on one batch."""
        raise TypeError(f"{type(self).__name__} must implement loss(encoded, batch)")

    def similarity(self, image: Features, text: Features) -> Tensor:
        """Scores ``[N, M]`` of N images against M texts; called on blocks. Higher = more alike."""
        return cosine(image, text)

    def train_step(self, batch: Batch, stepper: Stepper) -> Loss:
        """One step on one batch."""
        loss = self.loss(self.encode(batch), batch)
        stepper.step(loss)
        self.after_step()
        return loss

    def epoch_phases(self, context: Context) -> Sequence[Phase]:
        """Passes of the coming epoch; one over all pairs by default."""
        del context
        return (Phase(),)

    def calibrate(self, context: Context) -> None:
        """Called before the first epoch and whenever the name of an epoch's first phase changes (end of warm-up)."""
        del context

    def after_step(self) -> None:
        """Called after every optimizer step (clamps, averaged copies)."""

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Named optimizer groups: ``name``, ``params``, optional ``lr_scale`` and ``decay`` (default True).

        Vectors, scalars and biases go without weight decay, as in RRSITR training/optimization.py.
        """
        named = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        yield {"name": "matrices", "params": [p for _, p in named if p.ndim >= 2]}
        yield {"name": "vectors", "params": [p for _, p in named if p.ndim < 2], "decay": False}
