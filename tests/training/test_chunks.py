"""A step in chunks has the gradients of the plain step; dropout is replayed, and fp16 is scaled once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rsbench.backbones.base import Backbone, Features, Fields, Inputs
from rsbench.backbones.card import BackboneCard
from rsbench.errors import UsageError
from rsbench.methods.base import Batch, Encoded, Loss, Method, Setup
from rsbench.methods.build import build_method
from rsbench.training.chunks import ChunkedStep, encode_in_chunks, make_step
from rsbench.training.device import make_scaler
from rsbench.training.loop import Tick, Trainer
from rsbench.training.optim import OptimizerStepper, build_optimizer
from rsbench.training.recipe import Recipe

CPU = torch.device("cpu")
B, L, W, D = 10, 3, 5, 4


class Tokens(Backbone):
    """Linear layers over tokens, with dropout; pooled = mean, and a parameter that no loss reads."""

    card = BackboneCard("tokens", "", "", {"full": frozenset({"tokens"})}, ("random",))
    dim, tuning = D, "full"

    def __init__(self, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(W, 7), nn.Tanh(), nn.Dropout(dropout), nn.Linear(7, D))
        self.text = nn.Sequential(nn.Linear(W, 7), nn.Tanh(), nn.Dropout(dropout), nn.Linear(7, D))
        if norm:
            self.norm = nn.BatchNorm1d(D)

    def inputs(self, *args: Any, **kwargs: Any) -> Inputs:
        raise NotImplementedError

    def encode_image(self, x: Fields) -> Features:
        return self._features(self.image(x["x"]))

    def encode_text(self, x: Fields) -> Features:
        return self._features(self.text(x["x"]))

    def _features(self, tokens: Tensor) -> Features:
        return Features(tokens.mean(1), tokens, torch.zeros(tokens.shape[:2], dtype=torch.int8), tokens * 2)


def make(name: str, dropout: float = 0.0, **params: Any) -> Method:
    torch.manual_seed(0)
    return build_method(name, "full", params, Tokens(dropout), Setup(B, 2, B, 1)).double().train()


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    image, text = (torch.randn(B, L, W, generator=generator, dtype=torch.float64) for _ in range(2))
    ids = torch.arange(B)
    return Batch(ids, ids // 2, {"x": image}, {"x": text}, ids % 2)


class Collect:
    """A stepper that only runs the backward pass."""

    def step(self, loss: Loss, spread: Callable[[], None] | None = None) -> None:
        loss.total.backward()
        if spread is not None:
            spread()


def gradients(method: Method) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}


def plain(method: Method, batch: Batch, rows: list[slice]) -> tuple[Tensor, dict[str, Tensor]]:
    """The whole graph at once; encoded slice by slice only so that dropout draws the same masks."""
    image, text, extra = [], [], []
    for r in rows:
        part = Batch(
            batch.pair[r], batch.image[r], {"x": batch.images["x"][r]}, {"x": batch.texts["x"][r]}, batch.label[r]
        )
        found = method.encode(part)
        image.append(found.image)
        text.append(found.text)
        extra.append(found.extra)

    def cat(parts: list[Features]) -> Features:
        return Features(*(torch.cat([getattr(p, n) for p in parts]) for n in ("pooled", "tokens", "kind", "hidden")))

    whole = Encoded(cat(image), cat(text), {k: torch.cat([e[k] for e in extra]) for k in extra[0]})
    loss = method.loss(whole, batch)
    loss.total.backward()
    return loss.total.detach(), gradients(method)


CASES = {
    "temperature": ("infonce", {"learn_tau": True}),
    "tokens": ("rrsitr", {}),
    "affine": ("srem", {}),
}


@pytest.mark.parametrize("size", [1, 3, 5, 9])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_equal_those_of_one_graph(case: str, dropout: float, size: int) -> None:
    name, params = CASES[case]
    batch, rows = a_batch(), [slice(a, a + size) for a in range(0, B, size)]
    whole, chunked = (make(name, dropout, **params) for _ in range(2))
    torch.manual_seed(7)
    total, expected = plain(whole, batch, rows)
    after = torch.rand(3)
    torch.manual_seed(7)
    loss = ChunkedStep(chunked, size)(batch, Collect())
    assert torch.equal(after, torch.rand(3)), "the generator goes on as after one pass"
    found = gradients(chunked)
    assert torch.allclose(loss.total.detach(), total, atol=1e-12)
    assert found.keys() == expected.keys() and len(found) >= 8
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=0, atol=1e-10), key
    assert any(n.startswith("backbone.image") and v.abs().max() > 1e-6 for n, v in found.items())


def test_without_dropout_the_plain_step_agrees() -> None:
    methods = [make("infonce", learn_tau=True) for _ in range(2)]
    methods[0].train_step(a_batch(), Collect())
    ChunkedStep(methods[1], 4)(a_batch(), Collect())
    ours, theirs = gradients(methods[1]), gradients(methods[0])
    assert all(torch.allclose(ours[k], v, rtol=0, atol=1e-10) for k, v in theirs.items())


class Detached(Method):
    """Extra tensors of ``encode``, and random numbers and a layer of its own in ``loss``."""

    def __init__(self, backbone: Backbone, setup: Setup) -> None:
        super().__init__(backbone, None, setup)
        self.own = nn.Sequential(nn.Dropout(0.5), nn.Linear(D, 2))

    def encode(self, batch: Batch) -> Encoded:
        found = super().encode(batch)
        with torch.no_grad():
            teacher = self.backbone.encode_text(batch.texts).pooled
        return Encoded(found.image, found.text, {"teacher": teacher, "sum": found.image.pooled.sum(1)})

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        per_pair = (encoded.image.pooled - encoded.extra["teacher"]).square().sum(1) * encoded.extra["sum"]
        per_pair = per_pair + self.own(encoded.text.pooled).square().sum(1) * torch.rand(len(batch))
        return Loss(per_pair.mean(), {}, per_pair.detach())


def test_extra_tensors_and_randomness_inside_the_loss() -> None:
    def made() -> Method:
        torch.manual_seed(0)
        return Detached(Tokens(0.3), Setup(B, 2, B, 1)).double().train()

    whole, chunked = made(), made()
    rows = [slice(a, a + 4) for a in range(0, B, 4)]
    torch.manual_seed(3)
    _, expected = plain(whole, a_batch(), rows)
    torch.manual_seed(3)
    ChunkedStep(chunked, 4)(a_batch(), Collect())
    found = gradients(chunked)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[k], v, rtol=0, atol=1e-10) for k, v in expected.items())


def test_gradients_are_scaled_once_and_an_overflow_is_skipped() -> None:
    """The fp16 path: the step in chunks moves the weights as the plain one does, whatever the scale."""
    recipe = Recipe(lr=1e-2, batch_size=B, epochs=1, grad_clip=1.0)

    def stepped(scale: float, size: int) -> tuple[dict[str, Tensor], float]:
        method = make("infonce", learn_tau=True).float()
        batch = a_batch()
        batch.images, batch.texts = {"x": batch.images["x"].float()}, {"x": batch.texts["x"].float()}
        scaler = make_scaler(CPU, "fp16")
        scaler._init_scale = scale
        stepper = OptimizerStepper(build_optimizer(method.param_groups(), recipe), recipe, 1, scaler)
        make_step(method, size, B)(batch, stepper)
        return {k: v.clone() for k, v in method.state_dict().items()}, scaler.get_scale()

    start = make("infonce", learn_tau=True).float().state_dict()
    plain_step, chunked = stepped(1024.0, 0)[0], stepped(1024.0, 3)[0]
    assert all(torch.allclose(chunked[k], v, atol=1e-5) for k, v in plain_step.items())
    assert any(not torch.equal(chunked[k], v) for k, v in start.items())
    overflown, scale = stepped(2.0**127, 3)
    assert all(torch.equal(overflown[k], v) for k, v in start.items()) and scale == 2.0**126


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_cast_for_the_first_pass_do_not_cut_off_the_second(precision: str) -> None:
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    found = []
    for size in (0, 5):
        method = make("infonce").float()
        batch = a_batch()
        batch.images, batch.texts = {"x": batch.images["x"].float()}, {"x": batch.texts["x"].float()}
        with torch.autocast("cpu", dtype):
            make_step(method, size, B)(batch, Collect())
        found.append(gradients(method))
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert value.abs().max() > 0 and torch.allclose(found[1][key], value, atol=3e-3, rtol=0.1), key


def test_only_a_smaller_chunk_changes_the_step() -> None:
    method = make("infonce")
    for size in (0, B, 2 * B):
        assert make_step(method, size, B) == method.train_step
    assert isinstance(make_step(method, B - 1, B), ChunkedStep)


def test_scoring_in_chunks_is_scoring_at_once() -> None:
    method, batch = make("rrsitr").eval(), a_batch()
    with torch.no_grad():
        whole, parts = method.encode(batch), encode_in_chunks(method, batch, 4)
    assert torch.allclose(whole.image.tokens, parts.image.tokens) and torch.equal(whole.text.kind, parts.text.kind)


def test_what_cannot_be_done_in_chunks_is_refused() -> None:
    class Own(Detached):
        card = make("infonce").card

        def train_step(self, batch: Batch, stepper: Any) -> Loss:
            return super().train_step(batch, stepper)

    class Whole(Detached):
        card = make("infonce").card

        def encode(self, batch: Batch) -> Encoded:
            found = super().encode(batch)
            return Encoded(found.image, found.text, {"mean": found.image.pooled.mean()})

    with pytest.raises(UsageError, match="training step of its own"):
        make_step(Own(Tokens(), Setup(B, 2, B, 1)), 3, B)
    with pytest.raises(UsageError, match="batch normalisation in backbone 'tokens'"):
        make_step(build_method("infonce", "full", {}, Tokens(norm=True), Setup(B, 2, B, 1)), 3, B)
    with pytest.raises(UsageError, match=r"'mean' .* no row per pair"):
        ChunkedStep(Whole(Tokens(), Setup(B, 2, B, 1)).double(), 3)(a_batch(), Collect())
    with pytest.raises(UsageError, match=r"recipe.chunk_size"):
        Recipe(chunk_size=-1)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    yield a, b


@pytest.mark.parametrize("name", ["infonce", "srem"])
def test_a_chunked_run_resumes_to_the_same_bytes(
    make_trainer: Callable[..., Trainer], folders: tuple[Path, Path], name: str
) -> None:
    recipe = Recipe(batch_size=16, epochs=6, chunk_size=5)
    whole = make_trainer(folders[0], name, recipe)
    whole.fit()

    def die(tick: Tick) -> None:
        if tick.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer(folders[1], name, recipe, tick=die).fit()
    resumed = make_trainer(folders[1], name, recipe)
    resumed.fit()
    states = whole.method.state_dict(), resumed.method.state_dict()
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert whole.state.history == resumed.state.history
