"""A step on a large batch in bounded memory: the loss sees all pairs, the networks a chunk of them at a time.

Gao et al. 2021 (arXiv 2101.06983): encode in chunks without a graph, take the loss and its gradient at the features,
then encode each chunk again with a graph, from the same random state, and carry its share of the gradient back.
Time is that of a second forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from rsbench.backbones.base import concatenate
from rsbench.errors import UsageError
from rsbench.methods.base import Batch, Encoded, Loss, Method
from rsbench.training.optim import OptimizerStepper

Chunk = tuple[Batch, list[Tensor]]
"""Some pairs of a batch, and the state of the random generators before they are encoded."""


class Step(Protocol):
    """One step of a method on one batch."""

    def __call__(self, batch: Batch, stepper: OptimizerStepper) -> Loss:
        """Step, and return the loss."""
        ...


def make_step(method: Method, chunk_size: int, batch_size: int) -> Step:
    """``method.train_step``, or its form in chunks where ``chunk_size`` is set and smaller than a batch.

    Raises:
        UsageError: the method has a step of its own, or parts that read other pairs of the batch.
    """
    if not 0 < chunk_size < batch_size:
        return method.train_step
    check_separable(method, "recipe.chunk_size", "leave it out")
    return ChunkedStep(method, chunk_size)


class ChunkedStep:
    """``Method.train_step`` with the activations of at most ``size`` pairs in memory.

    Gradients are those of the plain step, but that dropout draws its masks chunk by chunk.

    Args:
        method: whose ``loss`` reads the networks through ``Encoded`` alone.
        size: pairs of a chunk.
    """

    def __init__(self, method: Method, size: int) -> None:
        self.method, self.size = method, size

    def __call__(self, batch: Batch, stepper: OptimizerStepper) -> Loss:
        """One step on one batch."""
        towers = ChunkedPass(self.method, batch, self.size)
        leaves = leaves_of(towers.encoded)
        loss = self.method.loss(leaves, batch)
        stepper.step(loss, lambda: towers.backward([leaf.grad for leaf in tensors_of(leaves)]))
        self.method.after_step()
        return loss


class WholePass:
    """A batch through the networks at once, its graph kept.

    Args:
        method: to encode with.
        batch: of B pairs.
    """

    def __init__(self, method: Method, batch: Batch) -> None:
        self.encoded = method.encode(batch)

    def backward(self, gradients: Sequence[Tensor | None]) -> None:
        """Carry gradients ``[B, ...]`` at the tensors of ``encoded`` back into the networks."""
        _pull(self.encoded, gradients)


class ChunkedPass:
    """A batch through the networks chunk by chunk, each one again on the way back.

    Args:
        method: to encode with.
        batch: of B pairs.
        size: pairs of a chunk.
    """

    def __init__(self, method: Method, batch: Batch, size: int) -> None:
        self.method = method
        self._chunks: list[Chunk] = []
        with torch.no_grad():
            self.encoded = encode_in_chunks(method, batch, size, self._chunks)
        torch.clear_autocast_cache()  # weights cast without a graph would cut the second pass off from them

    def backward(self, gradients: Sequence[Tensor | None]) -> None:
        """Carry gradients ``[B, ...]`` at the tensors of ``encoded`` back into the networks."""
        device, start = self._chunks[0][0].pair.device, 0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for batch, state in self._chunks:
                _set_random_state(device, state)
                rows = slice(start, start + len(batch))
                _pull(self.method.encode(batch), [None if g is None else g[rows] for g in gradients])
                torch.clear_autocast_cache()
                start = rows.stop


def encode_in_chunks(method: Method, batch: Batch, size: int, chunks: list[Chunk] | None = None) -> Encoded:
    """``method.encode`` on ``size`` pairs at a time, joined; all at once where ``size`` is 0.

    Args:
        method: to encode with.
        batch: of B pairs.
        size: pairs of a chunk, 0 for all.
        chunks: is filled with what a second pass needs.

    Raises:
        UsageError: an entry of ``Encoded.extra`` has no row per pair.
    """
    if not 0 < size < len(batch) and chunks is None:
        return method.encode(batch)
    parts = []
    for part in _split(batch, size or len(batch)):
        if chunks is not None:
            chunks.append((part, _random_state(batch.pair.device)))
        parts.append(method.encode(part))
        _check_extra(method, parts[-1], len(part))
    return _join(parts)


def _split(batch: Batch, size: int) -> Iterator[Batch]:
    for start in range(0, len(batch), size):
        rows = slice(start, start + size)
        images, texts = ({k: v[rows] for k, v in x.items()} for x in (batch.images, batch.texts))
        own = batch.pair[rows], batch.image[rows], images, texts, batch.label[rows]
        yield Batch(*own, phase=batch.phase, epoch=batch.epoch)


def _join(parts: list[Encoded]) -> Encoded:
    extra = {k: torch.cat([p.extra[k] for p in parts]) for k in parts[0].extra}
    return Encoded(concatenate([p.image for p in parts]), concatenate([p.text for p in parts]), extra)


def mapped(encoded: Encoded, fn: Callable[[Tensor], Tensor]) -> Encoded:
    """Apply a function to every tensor that is there."""
    return Encoded(encoded.image.map(fn), encoded.text.map(fn), {k: fn(v) for k, v in encoded.extra.items()})


def leaves_of(encoded: Encoded) -> Encoded:
    """The same tensors, cut off from their graph, to take gradients at."""
    return mapped(encoded, lambda t: t.detach().requires_grad_(t.is_floating_point()))


def tensors_of(encoded: Encoded) -> list[Tensor]:
    """Every tensor that is there, in one order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(encoded, keep)
    return found


def _pull(encoded: Encoded, gradients: Sequence[Tensor | None]) -> None:
    pulled = [
        (output, gradient)
        for output, gradient in zip(tensors_of(encoded), gradients, strict=True)
        if output.requires_grad and gradient is not None
    ]
    if pulled:
        torch.autograd.backward([o for o, _ in pulled], [g for _, g in pulled])


def _random_state(device: torch.device) -> list[Tensor]:
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *own]


def _set_random_state(device: torch.device, state: Sequence[Tensor]) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


def check_separable(method: Method, asked: str, remedy: str) -> None:
    """Refuse a method whose step does not fall into ``encode`` on any of its pairs and ``loss`` on all.

    Args:
        method: to check.
        asked: what the user asked for, told in the error.
        remedy: what to do instead.

    Raises:
        UsageError: a training step of its own, or batch normalisation.
    """
    if type(method).train_step is not Method.train_step:
        raise UsageError(f"{asked}: method '{method.card.name}' has a training step of its own; {remedy}")
    method.train()
    batchwise = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    if batchwise:
        raise UsageError(
            f"{asked}: batch normalisation in backbone '{method.backbone.card.name}' would see parts "
            f"instead of batches; {remedy} or choose another with --backbone"
        )


def _check_extra(method: Method, encoded: Encoded, rows: int) -> None:
    for name, value in encoded.extra.items():
        if value.ndim == 0 or len(value) != rows:
            raise UsageError(
                f"recipe.chunk_size: '{name}' that method '{method.card.name}' encodes has no row per pair; drop it"
            )
