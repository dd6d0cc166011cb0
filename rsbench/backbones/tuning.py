"""What a recipe does to a backbone before training: frozen layers, checkpointed layers, its pretrained parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rsbench.backbones.base import Backbone
from rsbench.errors import UsageError

MODALITIES = ("image", "text")


def freeze_first(backbone: Backbone, count: int) -> None:
    """Keep the embeddings and the first layers of each tower as they are; their dropout stays off.

    Args:
        backbone: a tower without layers is left alone.
        count: layers of each tower, at least 1.

    Raises:
        UsageError: no layers, or fewer than ``count``.
    """
    for modality, layers in _layers(backbone, f"recipe.freeze={count}").items():
        if count > len(layers):
            raise UsageError(
                f"recipe.freeze is {count}, but the {modality} tower of backbone '{backbone.card.name}' has "
                f"{len(layers)} layers; use {len(layers)} or less"
            )
        for parameter in backbone.embeddings(modality):
            parameter.requires_grad_(False)
        for layer in layers[:count]:
            layer.requires_grad_(False)
            _stay_in_eval(layer)


def checkpoint_layers(backbone: Backbone) -> None:
    """Let every layer compute its insides again in the backward pass.

    Only the layer's own ``forward`` is wrapped: hooks on it, such as adapters that last for one forward pass, run
    once and outside.

    Raises:
        UsageError: no layers.
    """
    for layers in _layers(backbone, "recipe.grad_checkpoint").values():
        for layer in layers:
            setattr(layer, "forward", functools.partial(_checkpointed, layer.forward))  # noqa: B010


def pretrained_parameters(backbones: Iterable[Backbone]) -> set[nn.Parameter]:
    """Trainable parameters that start from pretrained weights.

    Raises:
        UsageError: there are none.
    """
    found: set[nn.Parameter] = set()
    for backbone in backbones:
        own = {p for m in backbone.pretrained() for p in m.parameters() if p.requires_grad}
        if not own:
            raise UsageError(
                f"recipe.backbone_lr_scale: backbone '{backbone.card.name}' with tuning '{backbone.tuning}' and these "
                "weights trains nothing that was pretrained; leave it out"
            )
        found |= own
    return found


def _layers(backbone: Backbone, what: str) -> dict[str, Sequence[nn.Module]]:
    """Modality -> layers of its tower, where it has any."""
    found = {m: layers for m in MODALITIES if (layers := backbone.layers(m))}
    if not found:
        raise UsageError(
            f"{what} needs towers with layers, which backbone '{backbone.card.name}' with tuning '{backbone.tuning}' "
            "does not give; leave it out or choose another with --backbone"
        )
    return found


def _stay_in_eval(module: nn.Module) -> None:
    """Out of reach of ``train()`` of the modules around it."""
    module.eval()
    setattr(module, "train", lambda mode=True: module)  # noqa: B010


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
