"""Training pairs as tensors, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rsbench.backbones.base import Inputs
from rsbench.data.dataset import Dataset, Ints
from rsbench.errors import UsageError
from rsbench.methods.base import TRAIN, Batch
from rsbench.seeding import derive_seed


class TrainingPairs:
    """The shown pairs of a noise index over a backbone's inputs.

    A batch gets the given image and the caption's *text*, never the caption's id: that would give its own image away.

    Args:
        dataset: gives texts and classes.
        pairs: int64 ``[P, 2]`` (image, caption) as shown.
        inputs: what the towers read.
        batch_size: pairs per batch; an incomplete last batch is dropped.
        device: where batches go.

    Raises:
        UsageError: fewer pairs than one batch.
    """

    def __init__(self, dataset: Dataset, pairs: Ints, inputs: Inputs, batch_size: int, device: torch.device) -> None:
        if len(pairs) < batch_size:
            raise UsageError(
                f"recipe.batch_size {batch_size} is larger than the {len(pairs)} training pairs of '{dataset.name}'; "
                f"use --set recipe.batch_size={max(2, len(pairs) // 2)} or less"
            )
        self.inputs, self.batch_size, self.device = inputs, batch_size, device
        self.image = torch.from_numpy(pairs[:, 0].copy())
        self.text = torch.from_numpy(dataset.caption_text[pairs[:, 1]].copy())
        self.label = torch.from_numpy(dataset.image_class[pairs[:, 0]].copy())

    def __len__(self) -> int:
        return len(self.image)

    def steps_per_epoch(self) -> int:
        """ceil(P / B), the unit of the learning-rate schedule."""
        return -(-len(self) // self.batch_size)

    def batch(self, ids: Tensor, phase: str = TRAIN, epoch: int = 0) -> Batch:
        """One batch of given pair ids."""
        image = self.image[ids]
        return Batch(
            pair=ids.to(self.device),
            image=image.to(self.device),
            images=self.inputs.images(image, self.device),
            texts=self.inputs.texts(self.text[ids], self.device),
            label=self.label[ids].to(self.device),
            phase=phase,
            epoch=epoch,
        )

    def shuffled(self, pairs: Tensor | None, seed: int, phase: str, epoch: int) -> Iterator[Batch]:
        """Full batches in an order fixed by seed, phase and epoch alone, so that a resume needs no state."""
        ids = torch.arange(len(self)) if pairs is None else pairs.cpu()
        generator = torch.Generator().manual_seed(derive_seed("loader", seed, phase, epoch))
        ids = ids[torch.randperm(len(ids), generator=generator)]
        for start in range(0, len(ids) - self.batch_size + 1, self.batch_size):
            yield self.batch(ids[start : start + self.batch_size], phase, epoch)

    def fixed(self, phase: str, epoch: int) -> Iterator[Batch]:
        """All pairs in one shuffled order that never changes, so that captions of an image do not share a batch."""
        ids = torch.randperm(len(self), generator=torch.Generator().manual_seed(derive_seed("score")))
        for start in range(0, len(ids), self.batch_size):
            yield self.batch(ids[start : start + self.batch_size], phase, epoch)
