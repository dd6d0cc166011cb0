"""Peak memory and time of a contrastive step on a large batch: plain, checkpointed blocks, chunks, and both.

    python benchmarks/chunked_memory.py [--device cpu] [--batch 256] [--chunk 32] [--out benchmarks/results/x.json]

A small CLIP with random weights (six layers of width 384 and 256, images of 112 px in 49 patches, fp32) trained with
`infonce`. Every form runs in a process of its own. Memory is what a step adds to the memory held before the first one:
peak resident set on the CPU, peak allocation on a GPU. Time is the median of the steps after the first.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FORMS = {"plain": (False, False), "checkpointed": (False, True), "chunked": (True, False), "both": (True, True)}
NAME, SIDE = "rsbench-benchmark", 112
CONFIG = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": SIDE, "layers": 6, "width": 384, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 6},
}


def register() -> None:
    """Add the model to open_clip's."""
    from rsbench.backbones.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import open_clip

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{NAME}.json").write_text(json.dumps(CONFIG))
        open_clip.add_model_config(Path(folder))


def held(device: Any) -> float:
    """Peak memory of this process so far, in MB."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(form: str, batch_size: int, chunk: int, steps: int, name: str) -> dict[str, float]:
    """Memory and seconds of one form, in this process."""
    import torch

    from rsbench.backbones.build import build_backbone
    from rsbench.methods.base import Batch, Setup
    from rsbench.methods.build import build_method
    from rsbench.training.chunks import make_step
    from rsbench.training.device import make_scaler
    from rsbench.training.optim import OptimizerStepper, build_optimizer
    from rsbench.training.recipe import Recipe
    from rsbench.training.tune import tune

    register()
    chunked, checkpointed = FORMS[form]
    device, recipe = torch.device(name), Recipe(lr=1e-5, batch_size=batch_size, grad_checkpoint=checkpointed)
    torch.manual_seed(0)
    backbone = build_backbone("openclip", "full", "random", {"model": NAME}, 0)
    method = build_method("infonce", "full", {}, backbone, Setup(batch_size, 0, batch_size, 1)).to(device).train()
    tune(method, recipe)
    stepper = OptimizerStepper(build_optimizer(method.param_groups(), recipe), recipe, 1, make_scaler(device, "fp32"))
    step = make_step(method, chunk if chunked else 0, batch_size)
    ids = torch.arange(batch_size, device=device)
    pixels = torch.randint(0, 256, (batch_size, SIDE, SIDE, 3), dtype=torch.uint8, device=device)
    words = torch.randint(1, 49000, (batch_size, 77), device=device)
    words[:, 30] = 49407
    batch = Batch(ids, ids, {"pixels": pixels}, {"ids": words}, ids)
    for parameter in method.parameters():  # gradients and moments are held by every form alike
        parameter.grad = torch.zeros_like(parameter)
    stepper.optimizer.step()
    before, seconds = held(device), []
    for _ in range(steps):
        started = time.perf_counter()
        loss = step(batch, stepper)
        seconds.append(float(loss.total.isfinite()) * (time.perf_counter() - started))
    return {"step_mb": round(held(device) - before, 1), "step_s": round(statistics.median(seconds[1:] or seconds), 3)}


def main() -> None:
    """Measure every form in a process of its own and print the ratios to the plain one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--chunk", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--form", choices=FORMS, help="measure this form alone, in this process")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.form:
        print(json.dumps(measure(args.form, args.batch, args.chunk, args.steps, args.device)))
        return
    found: dict[str, dict[str, float]] = {}
    for form in FORMS:
        command = [sys.executable, __file__, "--form", form, "--device", args.device, "--steps", str(args.steps)]
        sizes = ["--batch", str(args.batch), "--chunk", str(args.chunk)]
        printed = subprocess.run([*command, *sizes], check=True, capture_output=True, text=True).stdout
        found[form] = json.loads(printed.splitlines()[-1])
        for key in ("step_mb", "step_s"):
            found[form][f"{key}_ratio"] = round(found[form][key] / found["plain"][key], 3)
        print(form, found[form], flush=True)
    if args.out:
        from rsbench.files import write_atomic

        setting = {"device": args.device, "batch": args.batch, "chunk": args.chunk, "steps": args.steps}
        write_atomic(args.out, (json.dumps({"setting": setting, "forms": found}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
