"""What a recipe does to a backbone before training: frozen blocks, checkpointed blocks, its pretrained parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rsbench.backbones.base import Backbone
from rsbench.errors import UsageError

MODALITIES = ("image", "text")


def freeze_first(backbone: Backbone, count: int) -> None:
    """Keep the embeddings and the first blocks of both towers as they are; their dropout stays off.

    Args:
        backbone: with the capability ``blocks``.
        count: blocks of each tower, at least 1.

    Raises:
        UsageError: no blocks, or fewer than ``count``.
    """
    _need_blocks(backbone, f"recipe.freeze={count}")
    for modality in MODALITIES:
        blocks = backbone.blocks(modality)
        if count > len(blocks):
            raise UsageError(
                f"recipe.freeze is {count}, but the {modality} tower of backbone '{backbone.card.name}' has "
                f"{len(blocks)} blocks; use {len(blocks)} or less"
            )
        for parameter in backbone.embeddings(modality):
            parameter.requires_grad_(False)
        for block in blocks[:count]:
            block.requires_grad_(False)
            _stay_in_eval(block)


def checkpoint_blocks(backbone: Backbone) -> None:
    """Let every block compute its insides again in the backward pass.

    Only the block's own ``forward`` is wrapped: hooks on it, such as adapters that last for one forward pass, run
    once and outside.

    Raises:
        UsageError: no blocks.
    """
    _need_blocks(backbone, "recipe.grad_checkpoint")
    for modality in MODALITIES:
        for block in backbone.blocks(modality):
            setattr(block, "forward", functools.partial(_checkpointed, block.forward))  # noqa: B010


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


def _need_blocks(backbone: Backbone, what: str) -> None:
    if "blocks" not in backbone.capabilities:
        raise UsageError(
            f"{what} needs transformer blocks, which backbone '{backbone.card.name}' with tuning '{backbone.tuning}' "
            "does not give; leave it out or choose another with --backbone"
        )


def _stay_in_eval(module: nn.Module) -> None:
    """Out of reach of ``train()`` of the modules around it."""
    module.eval()
    setattr(module, "train", lambda mode=True: module)  # noqa: B010


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
