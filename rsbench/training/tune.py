"""What a recipe changes on a method before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from rsbench.backbones.augment import Augmentation
from rsbench.backbones.base import Backbone
from rsbench.backbones.tuning import checkpoint_layers, freeze_first, pretrained_parameters
from rsbench.methods.base import Method
from rsbench.training.recipe import Recipe


def tune(method: Method, recipe: Recipe) -> None:
    """Freeze and checkpoint the layers of every backbone of a method as the recipe says.

    Raises:
        UsageError: a backbone has no layers to do it to.
    """
    for backbone in backbones_of(method):
        if recipe.freeze:
            freeze_first(backbone, recipe.freeze)
        if recipe.grad_checkpoint:
            checkpoint_layers(backbone)


def learning_groups(method: Method, recipe: Recipe) -> Iterable[dict[str, Any]]:
    """The method's parameter groups; pretrained parameters apart where they have a learning rate of their own.

    Raises:
        UsageError: nothing that is trained was pretrained.
    """
    groups = list(method.param_groups())
    if recipe.backbone_lr_scale == 1:
        return groups
    pretrained = pretrained_parameters(backbones_of(method))
    return [part for group in groups for part in _parts(group, pretrained, recipe.backbone_lr_scale)]


def augmentation_of(recipe: Recipe) -> Augmentation | None:
    """Crops and mirroring of a recipe, None where it has neither."""
    return Augmentation(recipe.crop, recipe.flip) if recipe.flip or recipe.crop < 1 else None


def backbones_of(method: Method) -> list[Backbone]:
    """The backbone, or both networks of co-teaching."""
    return [m for m in method.modules() if isinstance(m, Backbone)]


def _parts(group: dict[str, Any], pretrained: set[nn.Parameter], scale: float) -> Iterator[dict[str, Any]]:
    params = list(group["params"])
    yield {**group, "params": [p for p in params if p not in pretrained]}
    slow = [p for p in params if p in pretrained]
    yield {**group, "name": f"pretrained {group['name']}", "params": slow, "lr_scale": group.get("lr_scale", 1) * scale}
