"""Optimizer, learning-rate schedule and the one step that every method shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from rsbench.methods.base import Loss
from rsbench.training.recipe import Recipe

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


def build_optimizer(groups: Iterable[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    """Build the optimizer of a recipe over a method's named groups.

    Args:
        groups: dicts with ``name``, ``params``, optional ``lr_scale`` and ``decay``.
        recipe: gives kind, learning rate and weight decay.
    """
    resolved = [
        {
            "params": list(g["params"]),
            "lr_scale": g.get("lr_scale", 1.0),
            "weight_decay": recipe.weight_decay if g.get("decay", True) else 0.0,
        }
        for g in groups
    ]
    kind = OPTIMIZERS[recipe.optimizer]
    optimizer: torch.optim.Optimizer = kind(
        [g for g in resolved if g["params"]], lr=recipe.lr, betas=(0.9, recipe.beta2), fused=True
    )
    return optimizer


def lr_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Share of the peak learning rate at a global step.

    Linear warm-up ``(step + 1) / warmup_steps``, then cosine (as in MSFLabX/RRSITR training/scheduler.py) or linear
    (jaychempan/PIR scheduler.py) to 0 over all steps; or a factor at given epochs.

    Args:
        recipe: gives schedule and warm-up.
        step: global step from 0.
        steps_per_epoch: ceil(pairs / batch size); a dropped last batch counts as a step.
    """
    total = steps_per_epoch * recipe.epochs
    warmup = round(recipe.warmup_share * total) or recipe.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        passed = sum(step >= e * steps_per_epoch for e in recipe.decay_epochs)
        return float(recipe.decay_factor**passed)
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 1 - done if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


class OptimizerStepper:
    """Zero, backward, clip, step, schedule; scaled for fp16.

    Args:
        optimizer: from ``build_optimizer``.
        recipe: gives schedule and clipping.
        steps_per_epoch: ceil(pairs / batch size).
        scaler: gradient scaler, enabled for fp16 only.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        steps_per_epoch: int,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self.optimizer, self.recipe, self.steps_per_epoch, self.scaler = optimizer, recipe, steps_per_epoch, scaler
        self.global_step = 0
        self._params = [p for g in optimizer.param_groups for p in g["params"]]

    @property
    def lr(self) -> float:
        """Learning rate of the next step, before group scales."""
        return self.recipe.lr * lr_factor(self.recipe, self.global_step, self.steps_per_epoch)

    def step(self, loss: Loss, spread: Callable[[], None] | None = None) -> None:
        """Minimise ``loss.total``.

        Args:
            loss: of a batch.
            spread: called after its backward pass to carry (scaled) gradients further back.
        """
        lr = self.lr
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.optimizer.zero_grad(set_to_none=True)
        plain = torch.autocast(loss.total.device.type, enabled=False)
        with plain:  # the backward pass keeps the types of the forward pass; recast, its fp32 products lose digits
            self.scaler.scale(loss.total).backward()  # type: ignore[no-untyped-call]
        if spread is not None:
            spread()
        with plain:
            self._update()
        self.global_step += 1

    def _update(self) -> None:
        if self.recipe.grad_clip > 0:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self._params, self.recipe.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
