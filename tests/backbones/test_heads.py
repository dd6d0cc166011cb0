"""Cached heads: statistics of the training part alone, carried by the checkpoint."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rsbench.backbones.base import CONTENT, PAD, SPECIAL
from rsbench.backbones.cards.own import TOY
from rsbench.backbones.heads import CachedHeads, RawFeatures
from rsbench.backbones.scaling import Scaling, statistics

PER_SIDE, LETTERS = 2, 5


class Quadrants(CachedHeads):
    """Means of four image quarters and letter counts: towers that a test can compute by hand."""

    card = TOY

    def __init__(self, seed: int = 0, **params: Any) -> None:
        given = {"hidden": 8, "dim": 6, "dropout": 0.0, "pca": 0} | params
        super().__init__("heads", "bundled", seed, image_width=3, text_width=LETTERS, **given)
        self.calls = 0

    def image_features(self, pixels: np.ndarray) -> RawFeatures:
        self.calls += 1
        half = pixels.shape[1] // PER_SIDE
        x = torch.from_numpy(pixels).float()
        tokens = torch.stack(
            [x[:, r : r + half, c : c + half].mean((1, 2)) for r in (0, half) for c in (0, half)], dim=1
        )
        return RawFeatures(tokens.mean(1), tokens, torch.zeros(tokens.shape[:2], dtype=torch.int8))

    def text_features(self, texts: Sequence[str]) -> RawFeatures:
        tokens = torch.zeros(len(texts), 4, LETTERS)
        kind = torch.full((len(texts), 4), PAD, dtype=torch.int8)
        for row, text in enumerate(texts):
            for place, word in enumerate(text.split()[:4]):
                tokens[row, place] = torch.tensor([float(word.count(c)) for c in "aeiou"])
                kind[row, place] = CONTENT
        return RawFeatures(tokens.mean(1), tokens, kind)

    def tower_key(self, modality: str) -> Mapping[str, Any]:
        return {"modality": modality}


def test_standardised_with_training_statistics_only(fake, tmp_path: Path) -> None:
    data, backbone = fake(), Quadrants()
    backbone.fit(data, "official", tmp_path)
    found = backbone.inputs(data, tmp_path).image["pooled"]
    train = data.part("official", "train")
    for channel in range(3):
        raw = [float(data.images[i, :, :, channel].astype(float).mean()) for i in range(len(data.images))]
        mean = sum(raw[i] for i in train) / len(train)
        std = math.sqrt(sum((raw[i] - mean) ** 2 for i in train) / len(train))
        expected = [(v - mean) / std for v in raw]
        assert found[:, channel].tolist() == pytest.approx(expected, abs=1e-3)


def test_text_statistics_count_each_training_text_once(fake, tmp_path: Path) -> None:
    data, backbone = fake(), Quadrants()
    backbone.fit(data, "official", tmp_path)
    own = {data.captions[c] for i in data.part("official", "train") for c in data.captions_of[i]}
    rows = [data.texts.index(t) for t in own]
    pooled = backbone.text_features([data.texts[r] for r in rows]).pooled
    assert torch.allclose(backbone.text_scaling.mean, pooled.mean(0), atol=1e-5)


def test_tokens_only_where_asked_for(fake, tmp_path: Path) -> None:
    data, backbone = fake(), Quadrants()
    backbone.fit(data, "official", tmp_path)
    assert set(backbone.inputs(data, tmp_path).image) == {"pooled"}
    x = backbone.inputs(data, tmp_path, tokens=True)
    assert x.image["tokens"].dtype == torch.float16
    assert (x.text["tokens"][x.text["kind"] == PAD] == 0).all()
    found = backbone.eval().encode_image(x.images(torch.arange(2), torch.device("cpu")))
    assert found.tokens.shape == (2, 1 + 4, 6)
    assert found.kind.tolist() == [[SPECIAL, CONTENT, CONTENT, CONTENT, CONTENT]] * 2
    assert torch.equal(found.pooled, found.tokens[:, 0])
    again = backbone.project_image(2 * found.hidden, found.kind)
    assert torch.allclose(again.pooled, backbone.image_head(2 * x.image["pooled"][:2]), atol=1e-6)


def test_one_projection_for_pooled_and_tokens(fake, tmp_path: Path) -> None:
    backbone = Quadrants().eval()
    x = torch.randn(2, 3)
    kind = torch.zeros(2, 1, dtype=torch.int8)
    found = backbone.encode_image({"pooled": x, "tokens": x[:, None], "kind": kind})
    assert torch.allclose(found.pooled, found.tokens[:, 0], atol=1e-6)


def test_towers_run_once(fake, tmp_path: Path) -> None:
    data = fake()
    first, second = Quadrants(), Quadrants()
    first.fit(data, "official", tmp_path)
    first.inputs(data, tmp_path, tokens=True)
    second.fit(data, "official", tmp_path)
    second.inputs(data, tmp_path, tokens=True)
    assert (first.calls, second.calls) == (1, 0)


def test_a_subset_under_another_name_shares_the_features(fake, tmp_path: Path) -> None:
    data = fake()
    Quadrants().fit(data, "official", tmp_path)
    view = dataclasses.replace(data, name="view", splits={"official": {"train": np.arange(4), "val": np.arange(4, 6)}})
    second = Quadrants()
    second.fit(view, "official", tmp_path)
    second.inputs(view, tmp_path)
    assert second.calls == 0


def test_other_training_part_gives_other_statistics(fake, tmp_path: Path) -> None:
    data = fake()
    data.splits["swapped"] = {"train": np.arange(3), "val": np.arange(3, 12)}
    a, b = Quadrants(), Quadrants()
    a.fit(data, "official", tmp_path)
    b.fit(data, "swapped", tmp_path)
    assert not torch.allclose(a.image_scaling.mean, b.image_scaling.mean)


def test_initialisation_depends_on_seed_alone() -> None:
    torch.manual_seed(1)
    a = Quadrants(seed=5).state_dict()
    before = torch.get_rng_state()
    b = Quadrants(seed=5).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["image_head.0.weight"], Quadrants(seed=6).state_dict()["image_head.0.weight"])


@pytest.mark.parametrize("pca", [2, 99])
def test_pca_reduces_and_travels_with_the_checkpoint(fake, tmp_path: Path, pca: int) -> None:
    data, other, backbone = fake(), fake(seed=1), Quadrants(pca=pca)
    backbone.fit(data, "official", tmp_path)
    x = backbone.inputs(data, tmp_path, tokens=True)
    assert x.image["tokens"].shape == (12, 4, min(pca, 3))
    assert x.text["pooled"].shape[1] == min(pca, LETTERS)
    twin = Quadrants(seed=9, pca=pca)
    twin.load_state_dict(backbone.state_dict())
    ours, theirs = backbone.inputs(other, tmp_path), twin.inputs(other, tmp_path)
    assert torch.equal(ours.text["pooled"], theirs.text["pooled"])


def test_components_are_the_leading_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.1]) + 7
    found = statistics({"pooled": x}, torch.arange(4000), keep=2)
    assert found["centre"].tolist() == pytest.approx([7, 7, 7], abs=0.3)
    assert torch.allclose(found["basis"], torch.tensor([[0.0, 1], [1, 0], [0, 0]]), atol=0.05)
    assert found["std"].tolist() == pytest.approx([5, 1], rel=0.05)


def test_padding_does_not_enter_the_components() -> None:
    tokens = torch.zeros(50, 2, 3)
    tokens[:, 1] = 1000.0
    kind = torch.tensor([[CONTENT, PAD]] * 50, dtype=torch.int8)
    raw = {"pooled": torch.randn(50, 3), "tokens": tokens, "kind": kind}
    assert statistics(raw, torch.arange(50), keep=1)["centre"].abs().max() < 1


def test_channel_that_is_silent_in_training_stays_bounded() -> None:
    x = torch.randn(100, 2)
    x[:, 1] = 0
    scaling = Scaling(2)
    scaling.load(statistics({"pooled": x}, torch.arange(100)))
    assert scaling(torch.tensor([[0.0, 1.0]])).abs().max() < 100
