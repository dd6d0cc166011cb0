"""The two forms of RRSITR's local similarity, and PMPGuard's gated means against plain autograd; forward and backward.

    python benchmarks/token_scores.py [--out benchmarks/results/token_scores.json]

One thread, medians of interleaved pairs. Sizes: `lite` (16 patches, 18 tokens, 64 d, batch 128; PMPGuard 16 x 16, batch
32) and CLIP ViT-B/32 (49, 77, 512, batch 100; PMPGuard is left out there, plain autograd would need tens of GB).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from rsbench.files import write_atomic
from rsbench.matchers.gated_mean import gated_mean
from rsbench.matchers.local import frobenius_direct, frobenius_gram

LOCAL = {"lite": (128, 16, 18, 64), "clip-vit-b32": (100, 49, 77, 512)}
GATED = (32, 16, 16, 64)


def seconds(step: Callable[[], Tensor]) -> float:
    """One forward and backward pass."""
    started = time.perf_counter()
    step().sum().backward()
    return time.perf_counter() - started


def ratio(slow: Callable[[], Tensor], fast: Callable[[], Tensor], pairs: int) -> dict[str, float]:
    """Medians over interleaved pairs: seconds of both, and how many times faster the second is."""
    times = [(seconds(slow), seconds(fast)) for _ in range(pairs + 1)][1:]
    slow_s, fast_s = (statistics.median(t) for t in zip(*times, strict=True))
    return {"plain_s": round(slow_s, 4), "ours_s": round(fast_s, 4), "times_faster": round(slow_s / fast_s, 2)}


def local(batch: int, patches: int, tokens: int, dim: int, pairs: int) -> dict[str, float]:
    """All cosines against Gram matrices."""
    v = functional.normalize(torch.randn(batch, patches, dim), dim=-1).requires_grad_()
    u = functional.normalize(torch.randn(batch, tokens, dim), dim=-1).requires_grad_()
    assert torch.allclose(frobenius_direct(v, u), frobenius_gram(v, u), rtol=1e-3)
    return ratio(lambda: frobenius_direct(v, u), lambda: frobenius_gram(v, u), pairs)


def gated(batch: int, words: int, regions: int, dim: int, pairs: int) -> dict[str, float]:
    """Every gated word held for the backward pass against blocks that are computed anew."""
    query, own = (torch.randn(batch, words, dim).requires_grad_() for _ in range(2))
    key, other = (torch.randn(batch, regions, dim).requires_grad_() for _ in range(2))
    attention = torch.randn(batch, batch * words, regions).softmax(-1).requires_grad_()
    share = torch.full((batch, words), 1 / words)

    def plain() -> Tensor:
        gate = (own.flatten(0, 1) + attention @ other).sigmoid()
        found = gate * query.flatten(0, 1) + (1 - gate) * (attention @ key)
        return found.view(batch, batch, words, dim).mean(2)

    def ours() -> Tensor:
        return gated_mean(query, own, key, other, attention, share)

    assert torch.allclose(plain(), ours(), atol=1e-5)
    return ratio(plain, ours, pairs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {f"local similarity, {name}": local(*size, args.pairs) for name, size in LOCAL.items()}
    found["gated means, lite"] = gated(*GATED, args.pairs)
    print(json.dumps(found, indent=1))
    if args.out:
        write_atomic(args.out, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
