"""LoRA on transformer blocks: ``W + alpha / rank * up @ down``, with only ``down`` and ``up`` trained.

Hu et al. 2021 (arXiv 2106.09685), Eq. 3. The sum is a parametrization of the weight itself, so that one form serves
``nn.Linear`` and the fused matrices of ``nn.MultiheadAttention``, which never call a layer that could be wrapped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rsbench.backbones.seeded import seeded_init
from rsbench.errors import UsageError

TARGETS = ("q", "k", "v", "out", "mlp")
"""Matrices of a block: query, key, value and output of attention, both layers of the perceptron."""

_FUSED = ("attn.in_proj_weight", "attn.qkv.weight")
_NAMES = {
    "q": ("query.weight",),
    "k": ("key.weight",),
    "v": ("value.weight",),
    "out": ("attn.out_proj.weight", "attn.proj.weight", "attention.output.dense.weight"),
    "mlp": ("mlp.c_fc.weight", "mlp.c_proj.weight", "mlp.fc1.weight", "mlp.fc2.weight", "intermediate.dense.weight"),
}
"""Endings of parameter names in open_clip, timm (Swin) and transformers (BERT)."""


@dataclass(frozen=True)
class LoraSetup:
    """Size and place of the update.

    Attributes:
        rank: r.
        alpha: the update is scaled by ``alpha / rank``.
        targets: words of ``TARGETS`` joined by ``+``.

    Raises:
        UsageError: a rank or alpha that is not positive, or an unknown target.
    """

    rank: int
    alpha: float
    targets: str

    def __post_init__(self) -> None:
        """Check ranges and words."""
        if self.rank < 1 or not self.alpha > 0:
            raise UsageError(f"backbone.rank is {self.rank} and backbone.alpha is {self.alpha:g}; both must be above 0")
        wrong = [t for t in self.words if t not in TARGETS]
        if wrong:
            raise UsageError(
                f"backbone.targets holds '{wrong[0]}'; join any of {', '.join(TARGETS)} by +, for example q+v"
            )

    @property
    def words(self) -> list[str]:
        """The targets, one by one."""
        return self.targets.split("+")


class LowRank(nn.Module):
    """Adds ``scale * up @ down`` to some row blocks of a weight ``[rows, columns]``; ``up`` starts at zero.

    Args:
        weight: what it adds to.
        blocks: indices of the row blocks that are changed.
        of: number of equal row blocks (3 for fused query, key, value).
        setup: rank and scale.
    """

    def __init__(self, weight: Tensor, blocks: Sequence[int], of: int, setup: LoraSetup) -> None:
        super().__init__()
        self.blocks, self.of, self.scale = tuple(blocks), of, setup.alpha / setup.rank
        rows, columns = weight.shape[0] // of, weight.shape[1]
        self.down = nn.Parameter(weight.new_empty(len(blocks), setup.rank, columns))
        self.up = nn.Parameter(weight.new_zeros(len(blocks), rows, setup.rank))
        for part in self.down:
            nn.init.kaiming_uniform_(part, a=math.sqrt(5))  # as nn.Linear, and as microsoft/LoRA loralib/layers.py

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        change = self.scale * torch.bmm(self.up, self.down).to(weight.dtype)
        if len(self.blocks) == self.of:
            return weight + change.flatten(0, 1)
        parts = list(weight.chunk(self.of))
        for block, delta in zip(self.blocks, change, strict=True):
            parts[block] = parts[block] + delta
        return torch.cat(parts)


def add_lora(frozen: Iterable[nn.Module], blocks: Iterable[nn.Module], setup: LoraSetup, seed: int) -> None:
    """Freeze modules and give their blocks trainable low-rank updates; at first nothing changes.

    Args:
        frozen: pretrained towers, whole.
        blocks: their transformer blocks.
        setup: rank, scale and targets.
        seed: of ``down``.

    Raises:
        UsageError: no block has one of the targets.
    """
    for module in frozen:
        module.requires_grad_(False)
    found = [place for block in blocks for place in _places(block, setup.words)]
    if not found:
        raise UsageError(f"tuning 'lora': no transformer block with targets {setup.targets}; use --tuning full")
    with seeded_init(seed):
        for module, name, rows, of in found:
            update = LowRank(getattr(module, name), rows, of, setup)
            parametrize.register_parametrization(module, name, update, unsafe=True)  # unsafe: no trial run needed


def merge(module: nn.Module) -> None:
    """Replace every low-rank update inside by the sum; the module is then as it was built, with other weights."""
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            names = [n for n, chain in part.parametrizations.items() if isinstance(chain[0], LowRank)]  # type: ignore[union-attr, operator]
            for name in names:
                parametrize.remove_parametrizations(part, name, leave_parametrized=True)


def _places(block: nn.Module, words: Sequence[str]) -> Iterator[tuple[nn.Module, str, list[int], int]]:
    """Owner, name, row blocks and number of row blocks of every matrix to change."""
    fused = ["qkv".index(w) for w in dict.fromkeys(words) if w in ("q", "k", "v")]
    plain = tuple(ending for word in words for ending in _NAMES[word])
    for path, _ in list(block.named_parameters()):
        owner, _, name = path.rpartition(".")
        if _ends(path, _FUSED) and fused:
            yield block.get_submodule(owner), name, sorted(fused), 3
        elif _ends(path, plain) or ("mlp" in words and _is_second_bert_layer(path)):
            yield block.get_submodule(owner), name, [0], 1


def _ends(path: str, endings: Sequence[str]) -> bool:
    return any(f".{path}".endswith(f".{ending}") for ending in endings)


def _is_second_bert_layer(path: str) -> bool:
    """BERT calls it ``output.dense`` as it does the output of its attention."""
    return _ends(path, ("output.dense.weight",)) and not _ends(path, ("attention.output.dense.weight",))
