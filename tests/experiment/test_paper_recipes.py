"""Every published recipe takes two real steps at full model size: random weights, toy pictures, the paper's batch.

Nothing is made smaller than published. Blocks are computed again in the backward pass (``recipe.grad_checkpoint``): the
same numbers, without the 17 GB that srem's batch takes otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rsbench.errors import CapabilityError
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import build, materials
from rsbench.noise.make import make_index
from rsbench.registry import METHODS
from rsbench.training.loop import Hooks, Trainer
from rsbench.training.pairs import TrainingPairs

STEPS = 2


def published() -> list[str]:
    """Registered methods with a recipe of their own, as far as their extras are installed."""
    names = [n for n in METHODS.names() if not METHODS.entry(n).missing]
    return [n for n in names if METHODS.load(n).paper_recipe]


@pytest.fixture
def all_cores() -> Iterator[None]:
    """Every core for one step; nothing here is compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", published())
def test_two_steps_of_the_published_recipe(name: str, data_root: Path, tmp_path: Path, all_cores: None) -> None:
    saving = {"recipe.grad_checkpoint": ("true",)}
    where = {"backbone": "clip-vit-b32", "weights": "random", "recipe": "paper"}
    request = Request((name,), ("toy",), (0.4,), settings=saving, **where)
    try:
        (spec,) = resolve(request, data_root)
    except CapabilityError as error:
        pytest.skip(str(error))
    shared = materials(spec, data_root)
    shown = make_index(shared.dataset, spec.split, spec.noise, data_root).pairs[: STEPS * spec.recipe.batch_size]
    pairs = TrainingPairs(shared.dataset, shown, shared.inputs, spec.recipe.batch_size, torch.device("cpu"))
    method = build(spec, shared.template, len(pairs), len(shared.dataset.classes))
    hooks = Hooks(*([lambda *_: {}] * 5))  # nothing is validated, judged, kept, logged or drawn
    trainer = Trainer(method, pairs, spec.recipe, spec.seed, spec.precision, tmp_path, hooks)
    trainer.state.epoch = spec.recipe.epochs // 2  # past every warm-up of the method
    before = {k: p.detach().clone() for k, p in method.named_parameters() if p.requires_grad}

    records = trainer._train_epoch()

    assert records.steps == STEPS
    assert torch.isfinite(torch.tensor(list(records.means().values()))).all()
    after = {k: p.detach() for k, p in method.named_parameters()}
    assert all(torch.isfinite(after[k]).all() for k in before)
    moved = {k for k, was in before.items() if not torch.equal(was, after[k])}
    assert moved, "the optimizer changed nothing"
    assert sum(p.numel() for p in method.backbone.parameters()) > 150e6, "the full model"
