"""Our training loop against a bare torch loop of the same model, on a GPU or on the CPU.

    python benchmarks/gpu_train.py --out benchmarks/results/gpu_train.json
    python benchmarks/gpu_train.py --precision bf16 --batch 256 --backbones clip-vit-b32 clip-rn50
    python benchmarks/gpu_train.py --device cpu --threads 2 --backbones clip-vit-b32 --batch 16 --steps 12

Random weights (``lite`` has its own), generated pictures of the model's size in the memory of the device, InfoNCE,
AdamW, clipped gradients. Both loops start from the same weights, see the same batches and draw the same dropout masks;
before the clock runs, their first losses are compared. CLIP's bare loop calls open_clip itself; the others call the
towers of the backbone, pooled vectors alone.

``ratio`` is ours over bare in the seconds of all timed steps, in interleaved pairs: checks that happen every few steps
count. Validation is in neither, and the end of an epoch (records, best weights, checkpoint) stands apart as
``epoch_end_s``, because epochs here are much shorter than real ones. ``share_outside_model`` is what of our time is
not forward, backward and optimizer of the bare loop. On the CPU, ``peak_mb`` is that of the whole process.

What cannot be measured (no GPU, an extra not installed, too little memory, losses that differ) is said and left out.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rsbench.backbones.base import Backbone, Features, Inputs
from rsbench.backbones.build import build_backbone
from rsbench.data.dataset import Dataset
from rsbench.errors import RsbenchError
from rsbench.experiment.environment import environment
from rsbench.methods.base import TRAIN, Batch, Method, Setup
from rsbench.methods.build import build_method
from rsbench.seeding import derive_seed
from rsbench.training.cost import forget_peak, peak_mb
from rsbench.training.device import PRECISIONS, choose_device
from rsbench.training.loop import Hooks, Trainer
from rsbench.training.pairs import TrainingPairs
from rsbench.training.recipe import Recipe

CASES = {
    "clip-vit-b32": ("full", "random", 224),
    "clip-rn50": ("full", "random", 224),
    "swin-bert": ("full", "random", 224),
    "resnet-gru": ("full", "random", 256),
    "lite": ("full", "bundled", 160),
    "tiny": ("full", "random", 32),
}
"""Backbone -> tuning, weights, and the side in pixels at which it reads images, so that none are resized."""

FORMS = ("eager", "compiled", "channels-last")
"""Of the model in the bare loop; ``benchmarks/model_forms.py`` compares them."""

PICTURES, WORDS, SEED, TAU = 256, 1000, 0, 0.07
LR, BETAS, DECAY, CLIP = 1e-4, (0.9, 0.999), 0.01, 50.0
CHECKED = 4
"""Steps whose losses are compared; short, because rounding grows from step to step."""
RTOL = {"fp32": 1e-4, "bf16": 1e-3, "fp16": 1e-3}


def made_up(side: int, pairs: int) -> Dataset:
    """Noise for pictures, random words for captions, at least ``pairs`` of them."""
    rng = np.random.default_rng(SEED)
    images = rng.integers(0, 256, (PICTURES, side, side, 3), dtype=np.uint8)
    per = -(-pairs // PICTURES)
    drawn = (rng.integers(0, WORDS, rng.integers(8, 20)) for _ in range(PICTURES * per))
    captions = tuple(" ".join(f"word{w}" for w in words) for words in drawn)
    everything = np.arange(PICTURES)
    return Dataset(
        "bench", "0", images, "0", tuple(map(str, everything)), captions, np.repeat(everything, per),
        np.full(PICTURES, -1), (), {"official": {"train": everything}},
    )  # fmt: skip


@dataclass(frozen=True)
class Work:
    """What both loops are given."""

    backbone: Backbone
    data: Dataset
    inputs: Inputs
    batch: int
    steps: int
    precision: str
    device: torch.device

    @cached_property
    def shown(self) -> np.ndarray:
        """Shuffled, so that captions of a picture seldom share a batch."""
        pairs = self.data.pairs("official", "train")
        return np.random.default_rng(SEED).permutation(pairs)[: self.batch * self.steps]

    @cached_property
    def order(self) -> list[Tensor]:
        """Pair ids of each step of our loop."""
        pairs = TrainingPairs(self.data, self.shown, self.inputs, self.batch, self.device)
        return [batch.pair for batch in pairs.shuffled(None, SEED, TRAIN, 0)]


def prepare_work(name: str, batch: int, steps: int, precision: str, device: torch.device) -> Work:
    """Build a backbone and lay its inputs on the device."""
    tuning, weights, side = CASES[name]
    data = made_up(side, batch * steps)
    backbone = build_backbone(name, tuning, weights, {}, SEED)
    with tempfile.TemporaryDirectory() as cache:
        backbone.fit(data, "official", Path(cache))
        found = backbone.inputs(data, Path(cache))
    image, text = ({k: v.to(device) for k, v in x.items()} for x in (found.image, found.text))
    return Work(backbone, data, Inputs(image, text), batch, steps, precision, device)


class Clock:
    """Moments in the stream of work of a device; on a GPU as events, so that nothing waits for them."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.marks = device, []

    def mark(self) -> None:
        if self.device.type == "cpu":
            self.marks.append(time.perf_counter())
            return
        self.marks.append(torch.cuda.Event(enable_timing=True))
        self.marks[-1].record(torch.cuda.current_stream(self.device))

    def between(self) -> list[float]:
        """Seconds from each moment to the next."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return [a.elapsed_time(b) / 1000 for a, b in zip(self.marks, self.marks[1:], strict=False)]
        return [b - a for a, b in zip(self.marks, self.marks[1:], strict=False)]


@dataclass
class Measured:
    """One pass of a loop: seconds of each step, those of the model in it, loss of each step."""

    steps: list[float]
    losses: list[float]
    peak_mb: float | None
    model: list[float] = field(default_factory=list)
    epoch_end: float = 0.0


class TimedPairs(TrainingPairs):
    """Marks the moment at which the loop asks for a batch."""

    clock: Clock

    def shuffled(self, *args: Any) -> Iterator[Batch]:
        batches = super().shuffled(*args)
        while True:
            self.clock.mark()
            batch = next(batches, None)
            if batch is None:
                return
            yield batch


class Enough(Exception):
    """Leaves our loop before the end of the epoch."""


def ours(work: Work, to_the_end: bool = False) -> Measured:
    """One epoch of the trainer, up to its last step or with the end of the epoch."""
    start_afresh(work.device)
    method = new_method(work)
    pairs = TimedPairs(work.data, work.shown, work.inputs, work.batch, work.device)
    pairs.clock = Clock(work.device)
    found: list[Measured] = []

    def keep(records: dict[str, Tensor], epoch: int) -> None:
        losses = [float(records["pair_loss"][ids.cpu()].mean()) for ids in work.order]
        found.append(Measured(pairs.clock.between(), losses, peak_mb(work.device)))
        if not to_the_end:
            raise Enough

    hooks = Hooks(lambda m: {"mr": 0.0}, lambda r, e: {}, keep, lambda line: None, lambda t: None)
    recipe = Recipe(
        lr=LR, weight_decay=DECAY, beta2=BETAS[1], grad_clip=CLIP, batch_size=work.batch, epochs=1, schedule="constant"
    )
    with tempfile.TemporaryDirectory() as folder, suppress(Enough):
        trainer = Trainer(method, pairs, recipe, SEED, work.precision, Path(folder), hooks)
        started = time.perf_counter()
        trainer.fit()
        found[0].epoch_end = time.perf_counter() - started - sum(found[0].steps)
    return found[0]


def new_method(work: Work) -> Method:
    """InfoNCE over a copy of the backbone."""
    backbone = copy.deepcopy(work.backbone)
    setup = Setup(len(work.shown), 0, work.batch, 1)
    return build_method("infonce", "full", {"tau": TAU}, backbone, setup).to(work.device)


def bare(work: Work, form: str = "eager") -> Measured:
    """The same steps with nothing around them; ``form`` is one of ``FORMS``."""
    start_afresh(work.device)
    model = copy.deepcopy(work.backbone).to(work.device).train()
    if form == "channels-last":
        model.to(memory_format=torch.channels_last)
    encode_image, encode_text, _ = towers(model)
    if form == "compiled":
        encode_image, encode_text = torch.compile(encode_image), torch.compile(encode_text)
    learned = [p for p in model.parameters() if p.requires_grad]
    matrices, vectors = [p for p in learned if p.ndim >= 2], [p for p in learned if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, fused=True)
    scaler = torch.amp.GradScaler(work.device.type, enabled=work.precision == "fp16")
    dtype, mixed = PRECISIONS[work.precision], work.precision != "fp32"
    image_of = torch.from_numpy(work.shown[:, 0]).to(work.device)
    text_of = torch.from_numpy(work.data.caption_text[work.shown[:, 1]]).to(work.device)
    order, losses, clock = work.order, [], Clock(work.device)
    torch.manual_seed(derive_seed("epoch", SEED, 0))  # the dropout masks of our first epoch
    for ids in order:
        clock.mark()
        images = {k: v[image_of[ids]] for k, v in work.inputs.image.items()}
        texts = {k: v[text_of[ids]] for k, v in work.inputs.text.items()}
        clock.mark()
        with torch.autocast(work.device.type, dtype, enabled=mixed):
            a, b = encode_image(images), encode_text(texts)
        loss = symmetric_info_nce(a.float(), b.float())
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(learned, CLIP)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.detach())
    clock.mark()
    parts = clock.between()
    steps = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return Measured(steps, torch.stack(losses).tolist(), peak_mb(work.device), parts[1::2])


def symmetric_info_nce(image: Tensor, text: Tensor) -> Tensor:
    """As in Figure 3 of CLIP."""
    logits = functional.normalize(image, dim=-1) @ functional.normalize(text, dim=-1).T / TAU
    target = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


Encode = Callable[[dict[str, Tensor]], Tensor]


def towers(model: Backbone) -> tuple[Encode, Encode, str]:
    """What a user would call on a batch of images and of texts, and whose code that is."""
    clip = getattr(model, "clip", None)
    if clip is None:
        return lambda x: pooled(model.encode_image(x)), lambda x: pooled(model.encode_text(x)), "rsbench"
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    device = next(model.parameters()).device
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))

    def encode_image(x: dict[str, Tensor]) -> Tensor:
        return clip.encode_image((x["pixels"].permute(0, 3, 1, 2).float() / 255 - mean) / std)

    return encode_image, lambda x: clip.encode_text(x["ids"]), "open_clip"


def pooled(features: Features) -> Tensor:
    return features.pooled


def start_afresh(device: torch.device) -> None:
    """Let go of the model of the loop before, and count memory anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    forget_peak(device)


def check_same_work(work: Work) -> list[float]:
    """Losses of the first steps, equal in both loops; also warms caches and kernels.

    Raises:
        AssertionError: they differ, so that times would compare different work.
    """
    few = replace(work, steps=CHECKED)
    own, plain = ([round(v, 5) for v in loop(few).losses] for loop in (ours, bare))
    if not np.allclose(own, plain, rtol=RTOL[work.precision], atol=0):
        raise AssertionError(f"the loops do different work: first losses {own} of ours, {plain} of the bare one")
    return own


def measure(name: str, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Check one backbone, time interleaved pairs, sum up."""
    work = prepare_work(name, args.batch, max(args.warmup + args.steps, CHECKED), args.precision, device)
    losses = check_same_work(work)
    last = args.repeats - 1
    pairs = [(ours(work, to_the_end=i == last), bare(work)) for i in range(args.repeats)]
    totals = [(sum(a.steps[args.warmup :]), sum(b.steps[args.warmup :])) for a, b in pairs]
    medians = [(statistics.median(a.steps[args.warmup :]), statistics.median(b.steps[args.warmup :])) for a, b in pairs]
    models = [sum(b.model[args.warmup :]) for _, b in pairs]
    return {
        "backbone": name,
        "tuning": CASES[name][0],
        "weights": CASES[name][1],
        "parameters_m": round(sum(p.numel() for p in work.backbone.parameters()) / 1e6, 1),
        "bare_model": towers(work.backbone)[2],
        "checked_losses": losses,
        "ours": summary([a for a, _ in pairs], args),
        "bare": summary([b for _, b in pairs], args),
        "ratio": spread([a / b for a, b in totals]),
        "ratio_of_median_steps": spread([a / b for a, b in medians]),
        "share_outside_model": spread([(a - m) / a for (a, _), m in zip(totals, models, strict=True)]),
        "epoch_end_s": round(pairs[-1][0].epoch_end, 3),
    }


def summary(passes: Sequence[Measured], args: argparse.Namespace) -> dict[str, float | None]:
    """Medians over passes of one loop."""
    timed = [p.steps[args.warmup :] for p in passes]
    peaks = [p.peak_mb for p in passes if p.peak_mb is not None]
    return {
        "images_per_s": round(args.batch / statistics.median(statistics.mean(steps) for steps in timed), 1),
        "step_ms": round(1000 * statistics.median(statistics.median(steps) for steps in timed), 3),
        "peak_mb": statistics.median(peaks) if peaks else None,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {k: round(v, 4) for k, v in found.items()}


def measure_all(args: argparse.Namespace, device: torch.device) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows of the backbones that can be had here, and why others cannot."""
    rows, skipped = [], []
    for name in args.backbones:
        try:
            rows.append(measure(name, args, device))
            print(json.dumps(rows[-1]), flush=True)
        except (RsbenchError, ImportError, AssertionError, torch.OutOfMemoryError) as error:
            skipped.append({"backbone": name, "reason": str(error).splitlines()[0]})
            print(f"skipped {name}: {skipped[-1]['reason']}", flush=True)
    return rows, skipped


def at_least(smallest: int) -> Callable[[str], int]:
    """A whole number with a bound, for argparse."""

    def parse(text: str) -> int:
        if int(text) < smallest:
            raise argparse.ArgumentTypeError(f"{text} is less than {smallest}")
        return int(text)

    return parse


def parse_args(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our training loop against a bare torch loop of the same model.")
    parser.add_argument("--backbones", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--batch", type=at_least(2), default=64)
    parser.add_argument("--steps", type=at_least(1), default=50, help="timed steps of each loop in each pair")
    parser.add_argument("--warmup", type=at_least(0), default=5, help="steps before the clock runs")
    parser.add_argument("--repeats", type=at_least(1), default=7, help="pairs (ours, bare)")
    parser.add_argument("--threads", type=at_least(1), help="of torch on the CPU")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print a line per backbone, write JSON if asked."""
    args = parse_args(words)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        device = choose_device(args.device)
    except RsbenchError as error:
        print(f"skipped: {error}")
        return
    given = {k: getattr(args, k) for k in ("precision", "batch", "steps", "warmup", "repeats")}
    rows, skipped = measure_all(args, device)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        found = {"hardware": environment(device), **given, "rows": rows, "skipped": skipped}
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
