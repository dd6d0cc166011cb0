"""Layers of towers that have no blocks of one shape: what freezing and checkpointing reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_towers import CASES
from torch import Tensor, nn

from rsbench.backbones.base import Backbone, Fields
from rsbench.backbones.build import build_backbone
from rsbench.backbones.tuning import checkpoint_layers, freeze_first
from rsbench.errors import UsageError
from rsbench.registry import BACKBONES

NAMES = ["swin-bert", "swin-bert-lora", "resnet-gru", "lite"]
COUNTS = {"swin-bert": (4, 2), "swin-bert-lora": (4, 2), "resnet-gru": (4, 0), "lite": (16, 6)}
"""Layers of the image and the text tower: Swin of 2 + 1 blocks with one merging, two layers of BERT, ..."""
LITE = ("lite", "full", "bundled", {"size": 32, "dim": 8, "hidden": 16}, 32)
Made = tuple[Backbone, dict[str, Fields]]


@pytest.fixture(params=NAMES)
def make(request: pytest.FixtureRequest, small_towers: None, fake: Callable, tmp_path: Path) -> Callable[[], Made]:
    """Builds the same backbone again, with six rows of input."""
    name, tuning, weights, params, side = CASES.get(request.param, LITE)
    if missing := BACKBONES.entry(name).missing:
        pytest.skip(f"{name} needs {missing}")
    data = fake(side=side)

    def made() -> Made:
        backbone = build_backbone(name, tuning, weights, params, 0)
        backbone.fit(data, "official", tmp_path)
        inputs = backbone.inputs(data, tmp_path)
        rows = [{k: v[:6] for k, v in fields.items()} for fields in (inputs.image, inputs.text)]
        backbone.case = request.param
        return backbone.train(), dict(zip(("image", "text"), rows, strict=True))

    return made


def gradients(backbone: Backbone, x: dict[str, Fields]) -> dict[str, Tensor]:
    torch.manual_seed(5)  # the dropout masks
    image, text = backbone.encode_image(x["image"]).pooled, backbone.encode_text(x["text"]).pooled
    (image @ text.T).square().mean().backward()
    return {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None}


def test_layers_come_in_the_order_in_which_they_work(make: Callable[[], Made]) -> None:
    backbone, x = make()
    for at, modality in enumerate(("image", "text")):
        layers, worked = backbone.layers(modality), list[nn.Module]()
        assert len(layers) == COUNTS[backbone.case][at]
        hooks = [m.register_forward_hook(lambda m, *_, to=worked: to.append(m)) for m in layers]
        (backbone.encode_image if modality == "image" else backbone.encode_text)(x[modality])
        assert [id(m) for m in worked] == [id(m) for m in layers]
        for hook in hooks:
            hook.remove()
        own = {id(p) for m in layers for p in m.parameters()}
        assert not own & {id(p) for p in backbone.embeddings(modality)}


def test_checkpointed_layers_give_the_same_gradients_and_work_twice(make: Callable[[], Made]) -> None:
    plain, x = make()
    wanted = gradients(plain, x)
    other, _ = make()
    worked: list[nn.Module] = []
    layers = (*other.layers("image"), *other.layers("text"))
    inside = [next(m for m in layer.modules() if not list(m.children()) and list(m.parameters())) for layer in layers]
    for module in inside:
        module.register_forward_hook(lambda m, *_: worked.append(m))
    checkpoint_layers(other)
    found = gradients(other, x)
    assert found.keys() == wanted.keys() and wanted
    assert all(torch.equal(found[n], wanted[n]) for n in wanted)
    assert len(worked) == 2 * len(inside), "once forward and once again backward"


def test_frozen_layers_and_embeddings_stay_as_they_are(make: Callable[[], Made]) -> None:
    backbone, x = make()
    count = 2 if backbone.layers("text") else 3
    before = {n: p.detach().clone() for n, p in backbone.named_parameters()}
    frozen = {id(p) for m in ("image", "text") for p in backbone.embeddings(m)}
    frozen |= {id(p) for m in ("image", "text") for layer in backbone.layers(m)[:count] for p in layer.parameters()}
    trainable = {id(p) for p in backbone.parameters() if p.requires_grad}
    freeze_first(backbone, count)
    gradients(backbone, x)
    torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], 1.0).step()
    moved = {id(p) for n, p in backbone.named_parameters() if not torch.equal(p, before[n])}
    assert moved and not moved & frozen
    later = {id(p) for m in ("image", "text") for layer in backbone.layers(m)[count:] for p in layer.parameters()}
    assert moved & later & trainable
    with pytest.raises(UsageError, match=r"recipe.freeze is 99, but the image tower .* layers; use"):
        freeze_first(backbone, 99)
