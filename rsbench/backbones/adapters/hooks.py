"""Adapters after the blocks of a tower, by hooks that last for one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.backbones.adapters.bottleneck import PlainAdapter
from rsbench.backbones.base import PAD


@contextmanager
def attached(blocks: Sequence[nn.Module], adapters: Sequence[PlainAdapter], kind: Tensor | None) -> Iterator[None]:
    """Adapters add to the output of their blocks inside; outside, the blocks and their copies know nothing of them.

    Args:
        blocks: of a tower.
        adapters: as many.
        kind: of the tokens ``[B, L]``; None if there is no padding.
    """
    with ExitStack() as stack:
        for block, adapter in zip(blocks, adapters, strict=True):
            stack.callback(block.register_forward_hook(_adding(adapter, kind)).remove)
        yield


def _adding(adapter: PlainAdapter, kind: Tensor | None) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(block: nn.Module, args: Any, output: Tensor) -> Tensor:
        del block, args
        valid = output.new_ones(output.shape[:2], dtype=torch.bool) if kind is None else kind != PAD
        addition: Tensor = adapter(output, valid)
        return output + addition.to(output.dtype)

    return hook
