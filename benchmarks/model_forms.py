"""Do ``torch.compile`` and channels-last weights make a training step shorter? Bare loops, form against eager.

    python benchmarks/model_forms.py --device cpu --threads 2 --batch 16 --steps 4 --warmup 2 --repeats 3 \\
        --backbones clip-vit-b32 resnet-gru --out benchmarks/results/model_forms_cpu.json

Model, batches, loss and optimizer are those of ``gpu_train.py``. ``ratio`` is the form over eager in the seconds of all
timed steps, in interleaved pairs. Compiling happens in the steps before the clock runs and stands apart as
``first_step_s`` (short where torch finds the code of an earlier run in its cache). The losses of the first steps must
agree with eager ones.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_train import CASES, CHECKED, FORMS, RTOL, Work, at_least, bare, prepare_work, spread

from rsbench.errors import RsbenchError
from rsbench.experiment.environment import environment
from rsbench.training.device import PRECISIONS, choose_device

DRIFT = 10
"""Other kernels add in another order, so that losses part more quickly than in ``gpu_train.py``."""


def measure(work: Work, form: str, args: argparse.Namespace) -> dict[str, Any]:
    """One form against eager.

    Raises:
        AssertionError: the losses differ.
    """
    few = replace(work, steps=CHECKED)
    first, plain = bare(few, form), bare(few)
    if not np.allclose(first.losses, plain.losses, rtol=DRIFT * RTOL[work.precision], atol=0):
        raise AssertionError(f"first losses {first.losses} as {form}, {plain.losses} as eager")
    pairs = [(bare(work, form), bare(work)) for _ in range(args.repeats)]
    ratios = [sum(a.steps[args.warmup :]) / sum(b.steps[args.warmup :]) for a, b in pairs]
    return {"form": form, "ratio": spread(ratios), "first_step_s": round(first.steps[0], 1)}


def measure_all(args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """A row for each backbone and form; what cannot be measured has a reason."""
    rows = []
    for name in args.backbones:
        work = prepare_work(name, args.batch, max(args.warmup + args.steps, CHECKED), args.precision, device)
        for form in FORMS[1:]:
            try:
                found = measure(work, form, args)
            except (RsbenchError, RuntimeError, AssertionError) as error:
                found = {"form": form, "reason": str(error).splitlines()[0]}
            rows.append({"backbone": name, **found})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print a line per row, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backbones", nargs="+", choices=CASES, default=["clip-vit-b32", "resnet-gru", "lite"])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--batch", type=at_least(2), default=64)
    parser.add_argument("--steps", type=at_least(1), default=20, help="timed steps of each loop in each pair")
    parser.add_argument("--warmup", type=at_least(1), default=3, help="steps before the clock runs")
    parser.add_argument("--repeats", type=at_least(1), default=5, help="pairs (form, eager)")
    parser.add_argument("--threads", type=at_least(1), help="of torch on the CPU")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(words)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    rows = measure_all(args, device)
    if args.out:
        given = {k: getattr(args, k) for k in ("precision", "batch", "steps", "warmup", "repeats")}
        found = {"hardware": environment(device), **given, "rows": rows}
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
