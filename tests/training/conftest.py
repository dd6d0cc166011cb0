"""A run small enough for a test: a dataset of features, a linear backbone, a trainer over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rsbench.backbones.base import Backbone, Features, Fields, Inputs
from rsbench.backbones.card import BackboneCard
from rsbench.data.dataset import Dataset
from rsbench.methods.base import Method, Setup
from rsbench.methods.build import build_method
from rsbench.progress import Progress, silent
from rsbench.training.loop import Hooks, Trainer
from rsbench.training.pairs import TrainingPairs
from rsbench.training.recipe import Recipe

N_IMAGES, WIDTH = 30, 8


class Linear(Backbone):
    """One linear layer and dropout per modality over random features."""

    card = BackboneCard("linear", "", "", {"heads": frozenset()}, ("random",))
    dim, tuning = 6, "heads"

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Dropout(0.2), nn.Linear(WIDTH, self.dim))
        self.text = nn.Sequential(nn.Dropout(0.2), nn.Linear(WIDTH, self.dim))

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        generator = torch.Generator().manual_seed(1)
        image = torch.randn(N_IMAGES, WIDTH, generator=generator)
        return Inputs({"x": image}, {"x": torch.randn(len(dataset.texts), WIDTH, generator=generator)})

    def encode_image(self, x: Fields) -> Features:
        return Features(self.image(x["x"]))

    def encode_text(self, x: Fields) -> Features:
        return Features(self.text(x["x"]))


@pytest.fixture(scope="session")
def features_dataset() -> Dataset:
    """30 images, two captions each, some captions equal."""
    captions = tuple(f"caption {i if i % 7 else 0}" for i in range(2 * N_IMAGES))
    return Dataset(
        name="features",
        fingerprint="f" * 64,
        images=np.zeros((N_IMAGES, 1, 1, 3), dtype=np.uint8),
        images_hash="0" * 64,
        filenames=tuple(f"{i}.png" for i in range(N_IMAGES)),
        captions=captions,
        caption_image=np.repeat(np.arange(N_IMAGES), 2),
        image_class=np.arange(N_IMAGES) % 3,
        classes=("a", "b", "c"),
        splits={"official": {"train": np.arange(N_IMAGES)}},
    )


@pytest.fixture
def make_trainer(features_dataset: Dataset) -> Callable[..., Trainer]:
    """Builds a trainer; the validation metric is a function of the weights alone."""

    def build(folder: Path, name: str = "infonce", recipe: Recipe | None = None, **hooks: Any) -> Trainer:
        recipe = recipe or Recipe(batch_size=16, epochs=4)
        torch.manual_seed(0)
        backbone = Linear()
        method = build_method(name, "full", {}, backbone, Setup(2 * N_IMAGES, 3, recipe.batch_size, recipe.epochs))
        inputs = backbone.inputs(features_dataset, folder)
        shown = features_dataset.pairs("official", "train")
        pairs = TrainingPairs(features_dataset, shown, inputs, recipe.batch_size, torch.device("cpu"))
        filled = {
            "validate": weight_norm,
            "judge": lambda records, epoch: {},
            "keep": lambda records, epoch: None,
            "log": lambda line: None,
            "tick": lambda tick: None,
            **hooks,
        }
        return Trainer(method, pairs, recipe, seed=3, precision="fp32", folder=folder, hooks=Hooks(**filled))

    return build


def weight_norm(method: Method) -> dict[str, float]:
    """Stands in for a retrieval metric."""
    return {"mr": float(sum(p.detach().norm() for p in method.parameters()))}
