"""``lite``: the packages' weights on timm's and transformers' towers."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rsbench.backbones.base import CONTENT, PAD, SPECIAL
from rsbench.backbones.build import build_backbone
from rsbench.backbones.pixels import HALF, flip_at_random, prepare
from rsbench.registry import BACKBONES

pytestmark = pytest.mark.skipif(bool(BACKBONES.entry("lite").missing), reason="the extra 'lite' is not installed")
SMALL = {"hidden": 16, "dim": 8, "size": 64, "grid": 2}
TEXTS = ["a plane", "many green trees are near a large river with two bridges and some ships on it", "a plane"]


def lite(tuning: str = "heads", **params: object):
    return build_backbone("lite", tuning, "", SMALL | params, 0)


def test_text_tokens_are_cut_to_the_first_words() -> None:
    found = lite(words=4).text_features(TEXTS)
    assert found.tokens.shape == (3, 5, 384)
    assert found.kind.tolist() == [
        [SPECIAL, CONTENT, CONTENT, SPECIAL, PAD],
        [SPECIAL] + [CONTENT] * 4,
        [SPECIAL, CONTENT, CONTENT, SPECIAL, PAD],
    ]


def test_pooled_text_is_the_mean_over_its_own_pieces_whatever_the_batch() -> None:
    backbone = lite(words=30)
    together, alone = backbone.text_features(TEXTS), backbone.text_features(TEXTS[:1])
    own = together.tokens[1][together.kind[1] != PAD]
    assert torch.allclose(together.pooled[1], own.mean(0), atol=1e-4)
    assert torch.allclose(together.pooled[0], alone.pooled[0], atol=1e-4)
    assert torch.equal(together.pooled[0], together.pooled[2])


def test_sentences_of_like_meaning_are_near() -> None:
    texts = ["an airplane at the airport", "a plane on a runway", "waves on a sandy beach"]
    pooled = lite().text_features(texts).pooled
    unit = torch.nn.functional.normalize(pooled, dim=1)
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.2


def test_image_tokens_average_to_the_pooled_vector() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 80, 80, 3), dtype=np.uint8)
    found = lite(grid=2).image_features(pixels)
    assert found.tokens.shape == (2, 4, 1280)
    assert torch.allclose(found.tokens.mean(1), found.pooled, atol=1e-4)


def test_checkpoint_of_heads_holds_no_tower() -> None:
    assert {n.split(".")[0] for n in lite().state_dict()} == {
        "image_scaling",
        "text_scaling",
        "image_head",
        "text_head",
    }


def test_full_starts_at_the_same_towers() -> None:
    pixels = torch.randint(0, 256, (2, 80, 80, 3), dtype=torch.uint8)
    full, heads = lite("full").eval(), lite()
    with torch.no_grad():
        found = full.encode_image({"pixels": pixels})
        assert torch.allclose(found.hidden[:, 1:], heads.image_features(pixels.numpy()).tokens, atol=1e-4)
        assert torch.equal(found.tokens[:, 0], found.pooled) and found.kind[:, 0].tolist() == [SPECIAL] * 2


def test_full_keeps_batch_statistics_in_training() -> None:
    backbone = lite("full").train()
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k}
    backbone.encode_image({"pixels": torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)})
    assert before and all(torch.equal(v, backbone.state_dict()[k]) for k, v in before.items())


def test_pixels_are_centred_and_flipped() -> None:
    pixels = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    assert torch.allclose(prepare(pixels, 4, *HALF), torch.ones(1, 3, 4, 4))
    x = torch.arange(600.0).reshape(50, 3, 2, 2)
    found = flip_at_random(x)
    same = (found == x).flatten(1).all(1)
    assert 0 < same.sum() < 50 and torch.equal(found[~same], x[~same].flip(-1))


def test_resize_matches_pillow() -> None:
    pixels = np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((96, 96))
    )
    ours = prepare(torch.from_numpy(pixels.copy())[None], 40, (0.0,) * 3, (1 / 255,) * 3)[0].permute(1, 2, 0)
    theirs = np.asarray(Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(ours.numpy() - theirs).max() < 2


@pytest.mark.slow
def test_nearest_neighbours_share_their_scene_class(shared: Path) -> None:
    """5-nearest-neighbour accuracy on the small RSICD images, about 0.69 with these weights and 0.14 without."""
    with gzip.open(shared / "captions" / "rsicd.json.gz") as file:
        records = {r["filename"]: r for r in json.load(file)["images"]}
    with tarfile.open(shared / "images" / "rsicd_mini.tar") as tar:
        names = [n for n in tar.getnames() if n in records]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(tar.extractfile(n).read())).convert("RGB")) for n in names])
    classes = sorted({records[n]["class"] for n in names})
    label = torch.tensor([classes.index(records[n]["class"]) for n in names])
    train = torch.tensor([records[n]["split"] == "train" for n in names])
    with torch.inference_mode():
        unit = torch.nn.functional.normalize(lite(size=160).image_features(pixels).pooled, dim=1)
    near = (unit[~train] @ unit[train].T).topk(5, dim=1).indices
    accuracy = (label[train][near].mode(dim=1).values == label[~train]).float().mean()
    assert accuracy == pytest.approx(0.69, abs=0.04)
