"""A step on several processes: each encodes its share of a batch, the loss sees all pairs.

Features are gathered, every process takes the whole loss and so the gradient at every feature, and carries the part
of its own rows back into its networks; the sum over the processes is the gradient of one process on the whole batch.
Nothing has to be sent on the way back, unlike with a gather that is differentiated itself (ShardedLoss of
mlfoundations/open_clip src/open_clip/loss.py, ``gather_with_grad``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from rsbench.errors import UsageError
from rsbench.methods.base import Batch, Encoded, Loss, Method, Phase
from rsbench.seeding import derive_seed
from rsbench.training.chunks import (
    ChunkedPass,
    Step,
    WholePass,
    check_separable,
    encode_in_chunks,
    leaves_of,
    make_step,
    mapped,
    tensors_of,
)
from rsbench.training.optim import OptimizerStepper
from rsbench.training.world import World


def make_shared_step(method: Method, chunk_size: int, batch_size: int, world: World) -> Step:
    """The step of a method on all processes; that of ``make_step`` where there is one.

    Raises:
        UsageError: the method's step cannot be shared, or a batch has fewer pairs than there are processes.
    """
    if world.size == 1:
        return make_step(method, chunk_size, batch_size)
    if batch_size < world.size:
        raise UsageError(
            f"recipe.batch_size {batch_size} on {world.size} processes: each needs a pair; start fewer "
            f"(--nproc_per_node {batch_size})"
        )
    check_separable(method, "torchrun", "use one process")
    return SharedStep(method, chunk_size, world)


class SharedStep:
    """``Method.train_step`` of which this process encodes its own rows.

    Gradients are those of one process on the whole batch, but that each process draws dropout masks of its own.

    Args:
        method: whose ``loss`` reads the networks through ``Encoded`` alone.
        chunk: pairs whose activations are in memory at once, 0 = all.
        world: the processes.
    """

    def __init__(self, method: Method, chunk: int, world: World) -> None:
        self.method, self.chunk, self.world = method, chunk, world

    def __call__(self, batch: Batch, stepper: OptimizerStepper) -> Loss:
        """One step on one batch."""
        own = own_part(batch, self.world)
        with self._own_randomness(stepper.global_step, batch.pair.device):
            chunked = 0 < self.chunk < len(own)
            towers = ChunkedPass(self.method, own, self.chunk) if chunked else WholePass(self.method, own)
        leaves = leaves_of(_gathered(self.method, towers.encoded, self.world, len(batch)))
        loss = self.method.loss(leaves, batch)
        stepper.step(loss, lambda: self._spread(towers, tensors_of(leaves), self.world.rows(len(batch))))
        self.method.after_step()
        return loss

    def _spread(self, towers: WholePass | ChunkedPass, leaves: Sequence[Tensor], rows: slice) -> None:
        """Carry the gradients at the own features back, and sum those of the parameters."""
        if not self.world.first:  # what the loss itself reads has its whole gradient everywhere: it counts once
            self.method.zero_grad(set_to_none=True)
        towers.backward([None if leaf.grad is None else leaf.grad[rows] for leaf in leaves])
        self.world.sum_gradients(p for p in self.method.parameters() if p.requires_grad)

    @contextmanager
    def _own_randomness(self, step: int, device: torch.device) -> Iterator[None]:
        """Inside, masks differ from process to process; the loss, outside, draws the same numbers in all."""
        seed = derive_seed("rank", torch.initial_seed(), step, self.world.rank)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield


def own_part(batch: Batch, world: World) -> Batch:
    """The own rows of a batch whose ``images`` and ``texts`` hold no others (see ``TrainingPairs``)."""
    rows = world.rows(len(batch))
    return replace(batch, pair=batch.pair[rows], image=batch.image[rows], label=batch.label[rows])


def encode_shared(method: Method, batch: Batch, size: int, world: World) -> Encoded:
    """``encode_in_chunks`` of a batch of which each process encodes its own rows; without gradient.

    Raises:
        UsageError: an entry of ``Encoded.extra`` has no row per pair.
    """
    if world.size == 1:
        return encode_in_chunks(method, batch, size)
    return _gathered(method, encode_in_chunks(method, own_part(batch, world), size), world, len(batch))


def agreed(phases: Sequence[Phase], world: World) -> Sequence[Phase]:
    """The first process's phases: on GPUs the others may come to slightly different ones."""
    if world.size == 1:
        return phases
    said = world.share([(p.name, None if p.pairs is None else p.pairs.tolist()) for p in phases])
    return [Phase(name, None if pairs is None else torch.tensor(pairs, dtype=torch.int64)) for name, pairs in said]


def _gathered(method: Method, own: Encoded, world: World, n: int) -> Encoded:
    for name, value in own.extra.items():
        if value.ndim == 0 or len(value) != len(own.image):
            raise UsageError(
                f"torchrun: '{name}' that method '{method.card.name}' encodes has no row per pair; use one process"
            )
    return mapped(own, lambda t: world.gather(t, n))
