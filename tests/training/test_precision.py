"""bf16 and fp16 on the CPU: runs train, stay near fp32, and resume with the state of the scaler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rsbench.training.checkpoint import read_tensors
from rsbench.training.device import make_scaler
from rsbench.training.loop import Tick, Trainer
from rsbench.training.recipe import Recipe

Make = Callable[..., Trainer]
LOSS_TOLERANCE = {"bf16": 0.01, "fp16": 0.003}
"""Largest relative difference of an epoch's mean loss to fp32: 8 bits of mantissa against 11."""


def trainer_of(make_trainer: Make, folder: Path, name: str, precision: str, recipe: Recipe, **hooks: object) -> Trainer:
    folder.mkdir(exist_ok=True)
    trainer = make_trainer(folder, name, recipe, **hooks)
    trainer.precision, trainer.scaler = precision, make_scaler(torch.device("cpu"), precision)
    trainer._start_optimizer()
    return trainer


@pytest.mark.parametrize("chunk_size", [0, 6])
@pytest.mark.parametrize("name", ["infonce", "srem"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_losses_stay_near_those_of_fp32(
    make_trainer: Make, tmp_path: Path, name: str, precision: str, chunk_size: int
) -> None:
    recipe = Recipe(batch_size=16, epochs=7, lr=1e-2, chunk_size=chunk_size)
    losses, states = {}, {}
    for kind in ("fp32", precision):
        trainer = trainer_of(make_trainer, tmp_path / kind, name, kind, recipe)
        trainer.scaler._init_scale = 1024.0  # no step is spent on finding it
        losses[kind] = torch.tensor([line["loss"] for line in trainer.fit().history])
        states[kind] = trainer.method.state_dict()
    away = (losses[precision] / losses["fp32"] - 1).abs()
    assert away.max() < LOSS_TOLERANCE[precision]
    assert not torch.equal(losses[precision], losses["fp32"]), "autocast was on"
    assert all(v.dtype != torch.bfloat16 and v.dtype != torch.float16 for v in states[precision].values())
    assert losses[precision][-1] < losses[precision][0] or name == "srem"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_resumes_to_the_same_bytes(make_trainer: Make, tmp_path: Path, precision: str) -> None:
    recipe = Recipe(batch_size=16, epochs=5, ema=0.5, chunk_size=6)

    def die(tick: Tick) -> None:
        if tick.epoch == 3:
            raise KeyboardInterrupt

    whole = trainer_of(make_trainer, tmp_path / "a", "infonce", precision, recipe)
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(make_trainer, tmp_path / "b", "infonce", precision, recipe, tick=die).fit()
    resumed = trainer_of(make_trainer, tmp_path / "b", "infonce", precision, recipe)
    resumed.fit()
    states = whole.method.state_dict(), resumed.method.state_dict()
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    scales = [read_tensors(tmp_path / f / "checkpoint.safetensors")[1]["scaler"] for f in ("a", "b")]
    assert scales[0] == scales[1] and bool(scales[0]) == (precision == "fp16")
