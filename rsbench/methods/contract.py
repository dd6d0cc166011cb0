"""The contract test that every method must pass, on CPU in seconds: ``rsbench mock METHOD``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from rsbench.errors import RsbenchError
from rsbench.methods.base import AMBIGUOUS, CLEAN, NOISY, UNDECIDED, Batch, Loss
from rsbench.methods.build import load_card
from rsbench.methods.probe import BATCH, DIM, EPOCHS, PAIRS, Probe, make_batch
from rsbench.progress import Progress, silent


@dataclass(frozen=True)
class Check:
    """Outcome of one check; ``detail`` says what was found, or what went wrong."""

    name: str
    ok: bool
    detail: str = ""


class Broken(Exception):
    """A point of the contract that does not hold."""


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


@dataclass(frozen=True)
class Subject:
    """The method under test."""

    name: str
    variant: str = "full"
    params: Mapping[str, Any] = field(default_factory=dict)

    def probe(self, seed: int = 0) -> Probe:
        """A fresh probe of it."""
        return Probe.of(self.name, self.variant, self.params, seed)


def check_method(
    name_or_path: str,
    progress: Progress = silent,
    variant: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> list[Check]:
    """Push a method through the contract on a tiny synthetic set of features.

    Args:
        name_or_path: registered name, ``file.py`` or ``file.py:Class``.
        progress: called check by check.
        variant: the one to test; ``full`` and a training run of every other variant if None.
        params: overrides of its hyper-parameters.

    Raises:
        UsageError: there is no such method, variant or field.
    """
    card = load_card(name_or_path)
    subject = Subject(name_or_path, variant or "full", params or {})
    subject.probe()
    checks: list[tuple[str, Callable[[Subject], str], Subject]] = [(n, fn, subject) for n, fn in CHECKS.items()]
    if variant is None:
        others = [v for v in card.variants if v != "full"]
        checks += [(f"variant {v} trains", trains, Subject(name_or_path, v, params or {})) for v in others]
    found = []
    for n, (title, check, of) in enumerate(checks):
        found.append(_outcome(title, check, of))
        progress(f"checking {card.name}", n + 1, len(checks))
    return found


def _outcome(title: str, check: Callable[[Subject], str], subject: Subject) -> Check:
    try:
        return Check(title, True, check(subject))
    except Broken as broken:
        return Check(title, False, str(broken))
    except Exception as error:  # a user's method may raise anything
        return Check(title, False, f"{type(error).__name__}: {error}".splitlines()[0])


def _first_losses(probe: Probe, batch: Batch) -> Iterator[tuple[str, Loss]]:
    """Losses of a batch in the first phase of the first epoch, and in that of the last."""
    for epoch in (0, EPOCHS - 1):
        probe.epoch = epoch
        batch = dataclasses.replace(batch, phase=probe.start()[0].name, epoch=epoch)
        yield batch.phase, probe.method.loss(probe.method.encode(batch), batch)


def _some_batch(n: int = BATCH) -> Batch:
    return make_batch(torch.arange(n), "train")


def _check_loss(loss: Loss, n: int) -> None:
    _require(loss.total.ndim == 0, f"total has shape {tuple(loss.total.shape)}, not ()")
    _require(bool(loss.total.isfinite()), f"total is {loss.total.item():g}")
    _require(loss.total.requires_grad, "total carries no gradient")
    for name, term in loss.terms.items():
        _require(term.numel() == 1 and bool(term.isfinite()), f"term '{name}' is no finite scalar")
        _require(not term.requires_grad, f"term '{name}' must be detached")
    values = {"pair_loss": loss.pair_loss, "clean_score": loss.clean_score, **loss.records}
    for name, value in values.items():
        if value is not None:
            _require(tuple(value.shape) == (n,), f"{name} has shape {tuple(value.shape)}, not ({n},)")
            _require(not value.requires_grad, f"{name} must be detached")
    for name in ("pair_loss", "clean_score"):
        value = values[name]
        _require(value is None or bool(value.isfinite().all()), f"{name} is not finite")
    _check_division(loss.division, n)


def _check_division(division: Tensor | None, n: int) -> None:
    if division is None:
        return
    _require(division.dtype == torch.int8 and tuple(division.shape) == (n,), f"division must be int8 [{n}]")
    allowed = {UNDECIDED, CLEAN, AMBIGUOUS, NOISY}
    _require(set(division.tolist()) <= allowed, f"division holds other values than {sorted(allowed)}")


def complete_card(subject: Subject) -> str:
    """The card names its paper and equations, and every hyper-parameter has a source."""
    card = load_card(subject.name)
    _require(bool(card.paper and card.equations), "the card needs a paper (or 'unpublished') and its equations")
    bare = [f.name for f in dataclasses.fields(card.params) if not f.metadata.get("source")]
    _require(not bare, f"no source for: {', '.join(bare)} (make fields with rsbench.methods.card.hyper)")
    _require(card.detector in ("native", "similarity"), f"detector '{card.detector}' is not native or similarity")
    return f"{len(dataclasses.fields(card.params))} hyper-parameters, {len(card.variants) or 1} variants"


def well_formed_loss(subject: Subject) -> str:
    """Shapes, finiteness and detachment of everything in ``Loss``, in the first and the last phase."""
    phases = []
    for phase, loss in _first_losses(subject.probe(), _some_batch()):
        _check_loss(loss, BATCH)
        phases.append(f"{phase} {loss.total.item():.4g}")
    return ", ".join(phases)


def trains(subject: Subject) -> str:
    """A short training run stays finite and its gradients reach every trainable parameter.

    A method that finds nothing to learn from here (every loss is exactly 0) has to warn of it.
    """
    probe, silent_steps = subject.probe(), True
    for _ in range(EPOCHS):
        for loss in probe.train_epoch():
            _check_loss(loss, len(loss.pair_loss))
            silent_steps = silent_steps and float(loss.total.detach()) == 0
    warnings = [m for m in probe.messages if m.startswith("warning: ")]
    if silent_steps and warnings:
        return f"nothing to learn from here: {warnings[-1].removeprefix('warning: ')}"
    missed = sorted({n for n, p in probe.method.named_parameters() if p.requires_grad} - probe.reached)
    _require(not missed, f"no gradient ever reached: {', '.join(missed)}")
    return f"{EPOCHS} epochs of {PAIRS} pairs, {len(probe.reached)} parameters reached"


def same_seed_same_loss(subject: Subject) -> str:
    """Two runs from one seed agree bit by bit."""
    runs = []
    for probe in (subject.probe(), subject.probe()):
        runs.append([loss.total.detach() for _ in range(2) for loss in probe.train_epoch()])
    _require(all(map(torch.equal, *runs)), "two runs from one seed differ")
    return f"{len(runs[0])} steps equal"


def batch_untouched(subject: Subject) -> str:
    """The loss leaves the batch as it found it."""
    batch, twin = _some_batch(), _some_batch()
    for phase, _ in _first_losses(subject.probe(), batch):
        pairs = [(batch.pair, twin.pair), (batch.image, twin.image), (batch.label, twin.label)]
        pairs += [(x[k], y[k]) for x, y in ((batch.images, twin.images), (batch.texts, twin.texts)) for k in y]
        _require(all(torch.equal(a, b) for a, b in pairs), f"the batch was changed in phase {phase}")
    return ""


@torch.no_grad()
def similarity_by_blocks(subject: Subject) -> str:
    """Scores of blocks equal the scores of the whole."""
    method = subject.probe().method.eval()
    batch = make_batch(torch.arange(PAIRS), "train")
    image, text = method.encode_images(batch.images), method.encode_texts(batch.texts)
    whole = method.similarity(image, text[:17])
    _require(tuple(whole.shape) == (PAIRS, 17), f"similarity has shape {tuple(whole.shape)}, not ({PAIRS}, 17)")
    _require(bool(whole.isfinite().all()), "similarity is not finite")
    parts = [torch.cat([method.similarity(image[a : a + 7], text[b]) for a in range(0, PAIRS, 7)]) for b in _halves(17)]
    gap = float((torch.cat(parts, dim=1) - whole).abs().max())
    _require(gap < 1e-5, f"similarity of blocks differs from the whole by {gap:.2g}")
    return f"image vectors of {image.pooled.shape[-1]} d (backbone {DIM} d)"


def _halves(n: int) -> tuple[slice, slice]:
    return slice(0, n // 2), slice(n // 2, n)


def state_round_trip(subject: Subject) -> str:
    """Weights and memory survive safetensors; a reloaded method gives the same loss."""
    probe = subject.probe()
    for _ in range(EPOCHS - 1):
        probe.train_epoch()
    state = {k: v.detach().clone().contiguous() for k, v in probe.method.state_dict().items()}
    other = subject.probe(seed=1)
    other.method.load_state_dict(load(save(state)))
    losses = []
    for method in (probe.method, other.method):
        torch.manual_seed(3)
        batch = make_batch(torch.arange(BATCH), "train", EPOCHS - 1)
        losses.append(method.loss(method.encode(batch), batch).total.detach())
    _require(torch.equal(*losses), f"loss {float(losses[0]):.6g} before and {float(losses[1]):.6g} after loading")
    return f"{len(state)} tensors"


def every_parameter_once(subject: Subject) -> str:
    """``param_groups`` names each trainable parameter exactly once."""
    method = subject.probe().method
    groups = list(method.param_groups())
    _require(all("name" in g for g in groups), "every group needs a name")
    grouped = [id(p) for g in groups for p in g["params"]]
    wanted = {id(p) for p in method.parameters() if p.requires_grad}
    _require(len(grouped) == len(set(grouped)), "a parameter is in two groups")
    _require(set(grouped) == wanted, f"{len(wanted)} trainable parameters, {len(grouped)} in groups")
    return ", ".join(str(g["name"]) for g in groups)


def batch_of_two(subject: Subject) -> str:
    """Two pairs are enough."""
    for _, loss in _first_losses(subject.probe(), _some_batch(2)):
        _check_loss(loss, 2)
    return ""


def batch_of_one(subject: Subject) -> str:
    """One pair has no negative: a finite loss, or one clear error."""
    try:
        for _, loss in _first_losses(subject.probe(), _some_batch(1)):
            _check_loss(loss, 1)
    except RsbenchError as error:
        return f"refused: {error}"
    return "finite"


def repeated_images(subject: Subject) -> str:
    """The same image may be given several times in a batch."""
    images = torch.tensor([0, 0, 1, 1, 1, 2, 3, 0])
    for _, loss in _first_losses(subject.probe(), make_batch(torch.arange(BATCH), "train", images=images)):
        _check_loss(loss, BATCH)
    return ""


def half_precision(subject: Subject) -> str:
    """The loss stays finite under bf16 autocast."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _, loss in _first_losses(subject.probe(), _some_batch()):
            _check_loss(loss, BATCH)
    return ""


CHECKS: dict[str, Callable[[Subject], str]] = {
    "card is complete": complete_card,
    "loss is well formed": well_formed_loss,
    "training reaches every parameter": trains,
    "same seed, same loss": same_seed_same_loss,
    "batch is left untouched": batch_untouched,
    "similarity works on blocks": similarity_by_blocks,
    "state survives safetensors": state_round_trip,
    "every parameter in one group": every_parameter_once,
    "batch of two": batch_of_two,
    "batch of one": batch_of_one,
    "repeated images": repeated_images,
    "bf16 autocast": half_precision,
}
"""Checks by title, in the order shown."""
