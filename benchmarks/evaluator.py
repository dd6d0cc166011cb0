"""Cost of the ranks: against the bare matrix product, and against sorting as public evaluators do.

python benchmarks/evaluator.py --threads 2 --out benchmarks/results/evaluator.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from rsbench.evaluation.ranks import Ranks, ranks_of_embeddings

SIZES = ((452, 5), (1093, 5), (3150, 5), (5000, 5))
"""Images and captions per image: the test sets of RSITMD, RSICD and NWPU, and COCO 5K."""
DIM, BLOCK = 512, 256


def embeddings(n: int, per: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random unit vectors; captions lean towards their image."""
    generator = torch.Generator().manual_seed(n)
    image = torch.randn(n, DIM, generator=generator)
    owner = torch.arange(n).repeat_interleave(per)
    text = torch.randn(n * per, DIM, generator=generator).add_(image[owner], alpha=0.15)
    return normalize(image, dim=1), normalize(text, dim=1), owner


def bare_product(image: Tensor, text: Tensor) -> None:
    """The same row blocks, nothing else."""
    out = image.new_empty(BLOCK, len(text))
    for a in range(0, len(image), BLOCK):
        rows = image[a : a + BLOCK]
        torch.mm(rows, text.t(), out=out[: len(rows)])


def by_sorting(image: Tensor, text: Tensor, owner: Tensor) -> Ranks:
    """Full matrix, every row and column sorted and reversed, own items looked up: how public evaluators go about it."""
    scores = image.numpy() @ text.numpy().T
    owners = owner.numpy()
    i2t = np.array([np.flatnonzero(owners[np.argsort(row)[::-1]] == i)[0] for i, row in enumerate(scores)])
    t2i = np.array([np.flatnonzero(np.argsort(column)[::-1] == owners[c])[0] for c, column in enumerate(scores.T)])
    return Ranks(torch.from_numpy(i2t), torch.from_numpy(t2i))


def seconds(call: object, *args: Tensor) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call(*args)  # type: ignore[operator]
    return time.perf_counter() - started


def measure(n: int, per: int, repeats: int) -> dict[str, float | str | bool]:
    """Medians over interleaved pairs, so that a busy neighbour hits both alike.

    Ranks may differ from sorting where two scores differ in the last bits only: the two products are not the same.
    """
    image, text, owner = embeddings(n, per)
    ours = ranks_of_embeddings(image, text, owner)
    bare_product(image, text)
    pairs = [
        (seconds(bare_product, image, text), seconds(ranks_of_embeddings, image, text, owner)) for _ in range(repeats)
    ]
    sorting = [seconds(by_sorting, image, text, owner) for _ in range(2)]
    theirs = by_sorting(image, text, owner)
    own_time = statistics.median(o for _, o in pairs)
    return {
        "size": f"{n} x {n * per}",
        "product_s": round(statistics.median(p for p, _ in pairs), 4),
        "ours_s": round(own_time, 4),
        "ratio": round(statistics.median(o / p for p, o in pairs), 2),
        "sorting_over_ours": round(min(sorting) / own_time, 1),
        "ranks_differing": int((ours.i2t != theirs.i2t).sum() + (ours.t2i != theirs.t2i).sum()),
    }


def high_water() -> float:
    """Highest resident memory of this process since it was last reset, in MiB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def peak_above_embeddings(n: int, per: int) -> float:
    """MiB by which the resident memory of this fresh process rises while ranking (Linux)."""
    image, text, owner = embeddings(n, per)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = high_water()
    ranks_of_embeddings(image, text, owner)
    return high_water() - before


def main() -> None:
    """Print one line per size; write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_only:
        print(peak_above_embeddings(*SIZES[-1]))
        return
    lines = []
    for n, per in SIZES:
        lines.append(measure(n, per, args.repeats))
        print("  ".join(f"{k} {v}" for k, v in lines[-1].items()), flush=True)
    command = [sys.executable, __file__, "--memory-only", "--threads", str(args.threads)]
    memory = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"memory above the embeddings at 5000 x 25000: {memory:.0f} MiB")
    found = {
        "dim": DIM,
        "threads": args.threads,
        "repeats": args.repeats,
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "sizes": lines,
        "memory_mib_5000x25000": round(memory, 1),
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
