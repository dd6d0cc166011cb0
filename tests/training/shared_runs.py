"""What each process of ``test_distributed.py`` does: the same lines alone and together with others."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rsbench.backbones.base import Backbone, Features, Fields, Inputs
from rsbench.backbones.card import BackboneCard
from rsbench.data.dataset import Dataset
from rsbench.methods.base import Batch, Encoded, Loss, Method, Setup
from rsbench.methods.build import build_method
from rsbench.training.distributed import make_shared_step
from rsbench.training.loop import Hooks, Tick, Trainer
from rsbench.training.pairs import TrainingPairs
from rsbench.training.recipe import Recipe
from rsbench.training.world import ALONE, World, join

N, L, W, D = 30, 3, 5, 4
CPU = torch.device("cpu")
METHODS = {
    "infonce": {"learn_tau": True},
    "srem": {"warmup_epochs": 1},  # in warm-up the shift gets nothing but roundings; it is set at the end
    "rcl": {},
    "vse": {},
    "rrsitr": {},
    "recon": {},
    "pmpguard": {},
}
CHUNKS = (0, 3)


class Tokens(Backbone):
    """Linear layers over tokens; pooled = their mean."""

    card = BackboneCard("tokens", "", "", {"full": frozenset({"tokens"})}, ("random",))
    dim, tuning = D, "full"

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(W, 7), nn.Tanh(), nn.Dropout(dropout), nn.Linear(7, D))
        self.text = nn.Sequential(nn.Linear(W, 7), nn.Tanh(), nn.Dropout(dropout), nn.Linear(7, D))

    def inputs(self, *args: Any, **kwargs: Any) -> Inputs:
        generator = torch.Generator().manual_seed(1)
        image, text = (torch.randn(n, L, W, generator=generator) for n in (N, 2 * N))
        return Inputs({"x": image}, {"x": text})

    def encode_image(self, x: Fields) -> Features:
        return self._features(self.image(x["x"]))

    def encode_text(self, x: Fields) -> Features:
        return self._features(self.text(x["x"]))

    def _features(self, tokens: Tensor) -> Features:
        return Features(tokens.mean(1), tokens, torch.zeros(tokens.shape[:2], dtype=torch.int8), tokens * 2)


class Mixed(Method):
    """Reads everything: extra tensors, a layer and random numbers inside the loss, a parameter that nothing reads."""

    card = build_method("rcl", "full", {}, Tokens(), Setup(4, 2, 4, 1)).card

    def __init__(self, backbone: Backbone, setup: Setup) -> None:
        super().__init__(backbone, None, setup)
        self.own = nn.Sequential(nn.Dropout(0.5), nn.Linear(D, 2))
        self.idle = nn.Parameter(torch.ones(3))

    def encode(self, batch: Batch) -> Encoded:
        found = super().encode(batch)
        with torch.no_grad():
            teacher = self.backbone.encode_text(batch.texts).pooled
        extra = {"teacher": teacher, "sum": found.image.pooled.sum(1), "label": batch.label}
        return Encoded(found.image, found.text, extra)

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        per_pair = (encoded.image.pooled - encoded.extra["teacher"]).square().sum(1) * encoded.extra["sum"]
        per_pair = per_pair * (1 + encoded.extra["label"])
        per_pair = per_pair + self.own(encoded.text.pooled).square().sum(1) * torch.rand(len(batch))
        return Loss(per_pair.mean(), {}, per_pair.detach())


def a_method(name: str, dropout: float = 0.0) -> Method:
    torch.manual_seed(0)
    setup = Setup(2 * N, 3, 16, 3)
    return (
        Mixed(Tokens(), setup) if name == "mixed" else build_method(name, "full", METHODS[name], Tokens(dropout), setup)
    )


def a_dataset() -> Dataset:
    return Dataset(
        name="features",
        fingerprint="f" * 64,
        images=np.zeros((N, 1, 1, 3), dtype=np.uint8),
        images_hash="0" * 64,
        filenames=tuple(f"{i}.png" for i in range(N)),
        captions=tuple(f"caption {i}" for i in range(2 * N)),
        caption_image=np.repeat(np.arange(N), 2),
        image_class=np.arange(N) % 3,
        classes=("a", "b", "c"),
        splits={"official": {"train": np.arange(N)}},
    )


def a_trainer(folder: Path, name: str, recipe: Recipe, world: World, dropout: float = 0.0, **hooks: Any) -> Trainer:
    """In fp64 where the learning rate is large: it would blow roundings up that differ with the size of a product."""
    dtype = torch.float64 if recipe.lr > 1e-3 else torch.float32
    data, method = a_dataset(), a_method(name, dropout).to(dtype)
    inputs = method.backbone.inputs()
    inputs = Inputs(*({"x": part["x"].to(dtype)} for part in (inputs.image, inputs.text)))
    pairs = TrainingPairs(data, data.pairs("official", "train"), inputs, recipe.batch_size, CPU, world=world)

    def validate(method: Method) -> dict[str, float]:
        return world.share({"mr": weight_sum(method) if world.first else -1.0})

    filled: dict[str, Callable[..., Any]] = {
        "validate": validate,
        "judge": lambda records, epoch: {},
        "keep": lambda records, epoch: None,
        "log": lambda line: None,
        "tick": lambda tick: None,
        **hooks,
    }
    return Trainer(method, pairs, recipe, 3, "fp32", folder, Hooks(**filled))


def weight_sum(method: Method) -> float:
    """Stands in for a retrieval metric."""
    return float(sum(p.detach().norm() for p in method.parameters()))


def a_batch(world: World, dtype: torch.dtype = torch.float64) -> Batch:
    """Ten pairs of which images and texts are the own rows alone."""
    inputs, rows, ids = Tokens().inputs(), world.rows(10), torch.arange(10)
    image, text = ({"x": x["x"][:10][rows].to(dtype)} for x in (inputs.image, inputs.text))
    return Batch(ids, ids // 2, image, text, ids % 2)


@dataclass
class Collect:
    """A stepper that only runs the backward pass."""

    global_step: int = 4

    def step(self, loss: Loss, spread: Callable[[], None] | None = None) -> None:
        loss.total.backward()
        if spread is not None:
            spread()


def gradients_of(name: str, chunk: int, world: World) -> dict[str, Tensor]:
    method = a_method(name).double().train()
    torch.manual_seed(7)
    loss = make_shared_step(method, chunk, 10, world)(a_batch(world), Collect())  # type: ignore[arg-type]
    found = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    return {**found, "loss": loss.total.detach(), "pair_loss": loss.pair_loss}


def trained(folder: Path, name: str, world: World, recipe: Recipe, dropout: float = 0.0) -> dict[str, Tensor]:
    folder.mkdir(parents=True, exist_ok=True)
    trainer = a_trainer(folder, name, recipe, world, dropout)
    trainer.fit()
    records = {f"records.{k}": v for k, v in trainer.records.items()}
    return {**trainer.method.state_dict(), **records, "best_epoch": torch.tensor(trainer.state.best_epoch)}


def killed(folder: Path, name: str, world: World, recipe: Recipe, dropout: float = 0.0) -> None:
    """All processes stop in the third epoch."""
    folder.mkdir(parents=True, exist_ok=True)

    def die(tick: Tick) -> None:
        if tick.epoch == 2:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        a_trainer(folder, name, recipe, world, dropout, tick=die).fit()


RECIPE = Recipe(batch_size=16, epochs=3, lr=1e-2, grad_clip=1.0)
COMMON = Recipe(batch_size=16, epochs=3)


def everything(world: World, folder: Path) -> dict[str, Tensor]:
    """All that is compared, by name."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, Tensor]] = {}
    for name in (*METHODS, "mixed"):
        for chunk in CHUNKS:
            found[f"gradient-{name}-{chunk}"] = gradients_of(name, chunk, world)
    for name in METHODS:
        found[f"trained-{name}"] = trained(folder / name, name, world, RECIPE)
        found[f"common-{name}"] = trained(folder / "common" / name, name, world, COMMON)
    averaged = Recipe(batch_size=16, epochs=3, lr=1e-2, ema=0.9, chunk_size=4)
    found["trained-averaged"] = trained(folder / "averaged", "infonce", world, averaged)
    found["dropout-whole"] = trained(folder / "dropout", "srem", world, RECIPE, 0.3)
    killed(folder / "resumed", "srem", world, RECIPE, 0.3)
    found["dropout-resumed"] = trained(folder / "resumed", "srem", world, RECIPE, 0.3)
    return {f"{case}/{k}": v.clone().contiguous() for case, tensors in found.items() for k, v in tensors.items()}


def gathered(world: World) -> dict[str, Tensor]:
    """Every type that features come in, and what does not divide."""
    found = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.int8, torch.bool):
        whole = torch.arange(7 * 3).reshape(7, 3).remainder(5).to(dtype)
        found[str(dtype)] = world.gather(whole[world.rows(7)], 7)
    found["column"] = world.gather(torch.arange(5.0)[world.rows(5)], 5)
    found["too few"] = world.gather(torch.arange(1.0)[world.rows(1)], 1)
    found["said"] = torch.tensor(world.share([3, 4] if world.first else None))
    return found


def work(rank: int, size: int, port: int, folder: str) -> None:
    """The life of one process."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({k: str(v) for k, v in places.items()}, OMP_NUM_THREADS="1")
    world = join("cpu")
    assert world == World(rank, size, CPU)
    found = everything(world, Path(folder) / "shared")
    save_file(found | {f"gather/{k}": v for k, v in gathered(world).items()}, f"{folder}/{size}-{rank}.safetensors")
    world.leave()


def alone(folder: Path) -> dict[str, Tensor]:
    """The same in this process."""
    return everything(ALONE, folder / "alone")
