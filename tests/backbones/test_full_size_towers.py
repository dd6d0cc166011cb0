"""The towers at their own size, with random weights: parameters as published, and two steps of a method."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch

from rsbench.backbones.build import build_backbone
from rsbench.methods.base import Batch, Setup
from rsbench.methods.build import build_method

CASES = {
    "swin-bert": ("swin-bert", {}, {"image": 27_519_354, "text": 108_891_648}, (50, 512), 768),
    "resnet-gru": ("resnet-gru", {}, {"image": 11_176_512}, (64, 512), 512),
    "regions": ("regions", {}, {}, (36, 1024), 2048),
}


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_steps(case: str, fake, tmp_path) -> None:
    name, params, sizes, tokens, width = CASES[case]
    if name != "regions" and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    data = fake(n=6, side=64)
    data = dataclasses.replace(data, regions=np.random.default_rng(0).random((6, 36, 2048), dtype=np.float32))
    backbone = build_backbone(name, "full", "random", params, 0)
    for part, size in sizes.items():
        assert count(getattr(backbone, f"{part}_tower")) == size
    backbone.fit(data, "official", tmp_path)
    inputs, ids, cpu = backbone.inputs(data, tmp_path), torch.arange(4), torch.device("cpu")
    method = build_method("infonce", "full", {}, backbone, Setup(n_pairs=8, n_classes=0, batch_size=4, epochs=1))
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-4)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    for _ in range(2):
        batch = Batch(ids, ids, inputs.images(ids, cpu), inputs.texts(ids * 2, cpu), torch.full((4,), -1))
        encoded = method.encode(batch)
        assert encoded.image.tokens.shape[1:] == tokens and encoded.image.hidden.shape[2] == width
        loss = method.loss(encoded, batch)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    after = method.state_dict()
    assert torch.isfinite(loss.total) and any(not torch.equal(before[k], after[k]) for k in before)
