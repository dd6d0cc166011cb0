"""Training pairs as tensors, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from rsbench.backbones.augment import Augmentation
from rsbench.backbones.base import Inputs
from rsbench.data.dataset import Dataset, Ints
from rsbench.errors import UsageError
from rsbench.methods.base import TRAIN, Batch
from rsbench.seeding import derive_seed
from rsbench.training.world import ALONE, World


class TrainingPairs:
    """The shown pairs of a noise index over a backbone's inputs.

    A batch gets the given image and the caption's *text*, never the caption's id: that would give its own image away.

    Args:
        dataset: gives texts and classes.
        pairs: int64 ``[P, 2]`` (image, caption) as shown.
        inputs: what the towers read.
        batch_size: pairs per batch; an incomplete last batch is dropped.
        device: where batches go.
        augmentation: of the pixels of ``shuffled`` batches.
        world: the processes of the run; ``Batch.images`` and ``Batch.texts`` hold the rows of this one.

    Raises:
        UsageError: fewer pairs than one batch, or an augmentation without pixels.
    """

    def __init__(
        self,
        dataset: Dataset,
        pairs: Ints,
        inputs: Inputs,
        batch_size: int,
        device: torch.device,
        augmentation: Augmentation | None = None,
        world: World = ALONE,
    ) -> None:
        if len(pairs) < batch_size:
            raise UsageError(
                f"recipe.batch_size {batch_size} is larger than the {len(pairs)} training pairs of '{dataset.name}'; "
                f"use --set recipe.batch_size={max(2, len(pairs) // 2)} or less"
            )
        if augmentation is not None and "pixels" not in inputs.image:
            raise UsageError(
                "recipe.crop and recipe.flip change pixels, but this tuning reads features that are computed once; "
                "use --tuning full or lora, or leave them out"
            )
        self.inputs, self.batch_size, self.device, self.augmentation = inputs, batch_size, device, augmentation
        self.world = world
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
        image, own = self.image[ids], self.world.rows(len(ids))
        return Batch(
            pair=ids.to(self.device),
            image=image.to(self.device),
            images=self.inputs.images(image[own], self.device),
            texts=self.inputs.texts(self.text[ids][own], self.device),
            label=self.label[ids].to(self.device),
            phase=phase,
            epoch=epoch,
        )

    def shuffled(self, pairs: Tensor | None, seed: int, phase: str, epoch: int) -> Iterator[Batch]:
        """Full batches in an order fixed by seed, phase and epoch alone, so that a resume needs no state."""
        ids = torch.arange(len(self)) if pairs is None else pairs.cpu()
        generator = torch.Generator().manual_seed(derive_seed("loader", seed, phase, epoch))
        ids = ids[torch.randperm(len(ids), generator=generator)]
        drawn = None if self.augmentation is None else self.augmentation.draw(len(self), seed, epoch)
        for start in range(0, len(ids) - self.batch_size + 1, self.batch_size):
            rows = ids[start : start + self.batch_size]
            batch = self.batch(rows, phase, epoch)
            yield batch if drawn is None else self._augmented(batch, drawn[rows][self.world.rows(len(rows))])

    def _augmented(self, batch: Batch, drawn: Tensor) -> Batch:
        assert self.augmentation is not None
        pixels = self.augmentation(batch.images["pixels"], drawn)
        return replace(batch, images={**batch.images, "pixels": pixels})

    def fixed(self, phase: str, epoch: int) -> Iterator[Batch]:
        """All pairs in one shuffled order that never changes, so that captions of an image do not share a batch."""
        ids = torch.randperm(len(self), generator=torch.Generator().manual_seed(derive_seed("score")))
        for start in range(0, len(ids), self.batch_size):
            yield self.batch(ids[start : start + self.batch_size], phase, epoch)
