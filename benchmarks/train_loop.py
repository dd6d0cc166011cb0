"""Our training loop against a bare torch loop of the same heads, loss and optimizer.

    python benchmarks/train_loop.py [--out benchmarks/results/train_loop.json]

Cached features as wide as those of `lite` (1280, 384) and `toy` (128, 64), InfoNCE, batch 128, one thread. Ours has
records of every pair, the finiteness check, noise detection once an epoch and a checkpoint; validation is left out of
both. Median of the ratios of interleaved pairs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from rsbench.backbones.base import Backbone, Features, Fields, Inputs
from rsbench.backbones.card import BackboneCard
from rsbench.backbones.heads import projection
from rsbench.data.dataset import Dataset
from rsbench.evaluation.detection import detection
from rsbench.methods.base import Setup
from rsbench.methods.build import build_method
from rsbench.progress import Progress, silent
from rsbench.training.loop import Hooks, Trainer
from rsbench.training.pairs import TrainingPairs
from rsbench.training.recipe import Recipe

IMAGES, CAPTIONS, BATCH, EPOCHS = 2000, 5, 128, 2
SIZES = {"lite": (1280, 384, 512, 256, 0.1), "toy": (128, 64, 128, 128, 0.0)}


class Heads(Backbone):
    """Two projections over random features."""

    card = BackboneCard("bench", "", "", {"heads": frozenset()}, ("random",))
    tuning = "heads"

    def __init__(self, image: int, text: int, hidden: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.dim = dim
        self.image, self.text = projection(image, hidden, dim, dropout), projection(text, hidden, dim, dropout)

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        image, text = self.image[0].in_features, self.text[0].in_features
        return Inputs({"x": torch.randn(IMAGES, image)}, {"x": torch.randn(len(dataset.texts), text)})

    def encode_image(self, x: Fields) -> Features:
        return Features(self.image(x["x"]))

    def encode_text(self, x: Fields) -> Features:
        return Features(self.text(x["x"]))


def dataset() -> Dataset:
    """2,000 images with five distinct captions each."""
    captions = tuple(f"caption {i}" for i in range(IMAGES * CAPTIONS))
    owner = np.repeat(np.arange(IMAGES), CAPTIONS)
    return Dataset(
        "bench", "0", np.zeros((IMAGES, 1, 1, 3), np.uint8), "0", tuple(map(str, range(IMAGES))), captions, owner,
        np.full(IMAGES, -1), (), {"official": {"train": np.arange(IMAGES)}},
    )  # fmt: skip


def ours(size: tuple[int, int, int, int, float], data: Dataset) -> float:
    """Seconds of ``EPOCHS`` epochs of the trainer."""
    torch.manual_seed(0)
    backbone = Heads(*size)
    method = build_method("infonce", "full", {}, backbone, Setup(len(data.captions), 0, BATCH, EPOCHS))
    inputs = backbone.inputs(data, Path())
    shown = data.pairs("official", "train")
    pairs = TrainingPairs(data, shown, inputs, BATCH, torch.device("cpu"))
    mismatched = torch.arange(len(shown)) % 5 < 2

    def judge(records: dict[str, torch.Tensor], epoch: int) -> dict[str, object]:
        return dict(detection(records["clean_score"], mismatched, None, "similarity", epoch))

    hooks = Hooks(lambda m: {"mr": 0.0}, judge, lambda r, e: None, lambda line: None, lambda t: None)
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(batch_size=BATCH, epochs=EPOCHS, validate_every=EPOCHS)
        trainer = Trainer(method, pairs, recipe, 0, "fp32", Path(folder), hooks)
        started = time.perf_counter()
        trainer.fit()
        return time.perf_counter() - started


def bare(size: tuple[int, int, int, int, float], data: Dataset) -> float:
    """Seconds of the same steps with nothing around them."""
    torch.manual_seed(0)
    backbone = Heads(*size)
    inputs = backbone.inputs(data, Path())
    image, text = inputs.image["x"], inputs.text["x"]
    shown = torch.from_numpy(data.pairs("official", "train"))
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)
    started = time.perf_counter()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(shown))[: len(shown) // BATCH * BATCH].split(BATCH):
            a = functional.normalize(backbone.image(image[shown[rows, 0]]), dim=-1)
            b = functional.normalize(backbone.text(text[shown[rows, 1]]), dim=-1)
            logits = a @ b.T / 0.07
            loss = (0.5 * (logits.logsumexp(0) + logits.logsumexp(1)) - logits.diagonal()).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, rows = dataset(), []
    for name, size in SIZES.items():
        ours(size, data), bare(size, data)
        pairs = [(ours(size, data), bare(size, data)) for _ in range(args.repeats)]
        steps = EPOCHS * (len(data.captions) // BATCH)
        rows.append(
            {
                "heads": name,
                "ours_ms_per_step": round(1000 * statistics.median(a for a, _ in pairs) / steps, 3),
                "bare_ms_per_step": round(1000 * statistics.median(b for _, b in pairs) / steps, 3),
                "ratio": round(statistics.median(a / b for a, b in pairs), 3),
            }
        )
        print(rows[-1], flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"threads": 1, "repeats": args.repeats, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
