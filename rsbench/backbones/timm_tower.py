"""Image towers of timm without their classifiers: a map of the last stage as tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rsbench.backbones.checkpoints import load_strictly, read_state
from rsbench.backbones.torchvision_ops import declare_missing_operators


def image_tower(model: str, file: Path | None, options: Mapping[str, Any]) -> nn.Module:
    """A model of timm, with random weights or those of a file.

    Args:
        model: timm's name.
        file: a checkpoint of timm or torchvision; its classifier is left out. None for random weights.
        options: further arguments of timm's constructor.

    Raises:
        WeightsError: the file is missing, damaged or of another model.
    """
    declare_missing_operators()
    import timm

    tower: nn.Module = timm.create_model(model, pretrained=False, num_classes=0, **options)
    if file is not None:
        load_strictly(tower, _own_keys(read_state(file), tower), file.name, f"give weights of timm's {model}")
    return tower


def map_tokens(tower: nn.Module, x: Tensor, channels_last: bool) -> Tensor:
    """Last map of ``x [B, 3, s, s]`` as tokens ``[B, h * w, W]``, row by row."""
    found: Tensor = tower.forward_features(x)  # type: ignore[operator]
    return found.flatten(1, 2) if channels_last else found.flatten(2).transpose(1, 2)


def freeze_statistics(tower: nn.Module) -> None:
    """Let batch normalisation use its stored statistics, so that features never depend on the rest of a batch."""
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _own_keys(state: Mapping[str, Tensor], tower: nn.Module) -> Mapping[str, Tensor]:
    """Names of the tower: without the classifier, and from the layout of the Swin authors where it is theirs."""
    if hasattr(tower, "patch_embed"):
        from timm.models.swin_transformer import checkpoint_filter_fn

        state = checkpoint_filter_fn(dict(state), tower)
    return {k: v for k, v in state.items() if not k.startswith(("fc.", "head."))}
