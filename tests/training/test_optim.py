"""Learning-rate schedule, optimizer groups and the step."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from rsbench.errors import UsageError
from rsbench.methods.base import Loss
from rsbench.training.optim import OptimizerStepper, build_optimizer, lr_factor
from rsbench.training.recipe import COMMON_FULL, COMMON_HEADS, Recipe


def test_rrsitr_schedule_matches_its_test_vector() -> None:
    """194 steps x 50 epochs, 200 warm-up steps, peak 7e-6."""
    recipe = COMMON_FULL
    expected = {0: 3.5e-8, 99: 3.5e-6, 199: 7e-6, 200: 7e-6, 4950: 3.5e-6, 9699: 1.913774e-13}
    for step, lr in expected.items():
        assert recipe.lr * lr_factor(recipe, step, 194) == pytest.approx(lr, rel=1e-6)


def test_cosine_without_warm_up_starts_at_the_peak_and_falls_to_zero() -> None:
    factors = [lr_factor(COMMON_HEADS, s, 10) for s in range(151)]
    assert factors[0] == 1.0
    assert factors[75] == pytest.approx(0.5)
    assert factors[150] == pytest.approx(0.0)
    assert all(a > b for a, b in itertools.pairwise(factors))


def test_step_schedule_decays_at_its_epochs() -> None:
    recipe = Recipe(schedule="step", decay_epochs=(2, 3), decay_factor=0.1)
    assert [lr_factor(recipe, s, 4) for s in (0, 7, 8, 11, 12)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_linear_schedule_after_a_share_of_warm_up() -> None:
    recipe = Recipe(schedule="linear", warmup_share=0.1, epochs=10)
    found = [lr_factor(recipe, s, 10) for s in (0, 9, 10, 55, 100)]
    assert found == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])


def test_second_moment_of_adam_follows_the_recipe() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = build_optimizer([{"name": "all", "params": [weight]}], Recipe(beta2=0.98))
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.98)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schedule", "exponential"),
        ("warmup_share", 1.0),
        ("beta2", 1.0),
        ("optimizer", "lion"),
        ("selection", "test"),
        ("epochs", 0),
        ("lr", -1.0),
        ("lr", float("nan")),
    ],
)
def test_values_that_make_no_recipe_are_refused(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"recipe.{field}"):
        Recipe(**{field: value})  # type: ignore[arg-type]


def test_weight_decay_spares_groups_that_ask_for_it() -> None:
    matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    groups = [{"name": "m", "params": [matrix]}, {"name": "v", "params": [vector], "decay": False, "lr_scale": 0.1}]
    optimizer = build_optimizer(groups, Recipe(weight_decay=0.3))
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.3, 0.0]
    assert [g["lr_scale"] for g in optimizer.param_groups] == [1.0, 0.1]


def one_step(grad_clip: float, lr_scale: float = 1.0) -> float:
    """How far SGD-like Adam moves a parameter whose gradient is 100 in one step."""
    parameter = torch.nn.Parameter(torch.zeros(1, 1))
    recipe = Recipe(optimizer="adam", lr=0.1, grad_clip=grad_clip, schedule="constant", weight_decay=0.0)
    optimizer = build_optimizer([{"name": "p", "params": [parameter], "lr_scale": lr_scale}], recipe)
    stepper = OptimizerStepper(optimizer, recipe, 10, torch.amp.GradScaler("cpu", enabled=False))
    total = (parameter * 100).sum()
    stepper.step(Loss(total, {}, torch.zeros(1)))
    assert parameter.grad is not None
    assert stepper.global_step == 1
    return float(parameter.grad.norm())


def test_clipping_bounds_the_gradient_norm() -> None:
    assert one_step(0.0) == pytest.approx(100.0)
    assert one_step(2.0) == pytest.approx(2.0, rel=1e-4)


def test_cosine_formula_by_hand() -> None:
    recipe = Recipe(epochs=2, warmup_steps=2)
    assert lr_factor(recipe, 1, 4) == 1.0
    assert lr_factor(recipe, 5, 4) == pytest.approx(0.5 * (1 + math.cos(math.pi * 3 / 6)))
