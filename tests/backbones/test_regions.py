"""``regions``: unit vectors, the vocabulary of SCAN, and data that do not fit; no timm and no transformers."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_towers import CASES

from rsbench.backbones.base import CONTENT, PAD, SPECIAL
from rsbench.backbones.build import build_backbone
from rsbench.backbones.regions import RegionsGru, read_words
from rsbench.backbones.vocabulary import word_ids
from rsbench.data.dataset import NoPixels
from rsbench.errors import DataError, UsageError

PARAMS = CASES["regions"][3]


def regions(seed: int = 0, **params: object) -> RegionsGru:
    found = build_backbone("regions", "full", "random", PARAMS | params, seed)
    assert isinstance(found, RegionsGru)
    return found


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_regions_are_projected_to_unit_vectors(kind: type, fake, tmp_path: Path) -> None:
    data = fake()
    given = data.regions.astype(kind)
    np.save(tmp_path / "regions.npy", given)
    mapped = np.load(tmp_path / "regions.npy", mmap_mode="r")
    data = dataclasses.replace(data, regions=mapped, images=NoPixels("boxes"))
    backbone = regions().eval()
    with torch.no_grad():
        found = backbone.encode_image(backbone.inputs(data, tmp_path).image)
        weight, bias = backbone.image_head.weight.numpy(), backbone.image_head.bias.numpy()
    for row in range(3):
        naive = []
        for region in given[row].astype(np.float64):
            vector = [sum(w * v for w, v in zip(line, region, strict=True)) for line in weight] + bias
            naive.append(vector / np.sqrt(sum(v * v for v in vector)))
        assert np.allclose(found.tokens[row].numpy(), naive, atol=1e-3)
        assert np.allclose(found.pooled[row].numpy(), np.mean(naive, axis=0), atol=1e-3)
    assert found.kind.tolist() == [[CONTENT] * 3] * 12 and found.hidden.shape == (12, 3, 6)


def test_words_stand_between_start_and_end(fake, tmp_path: Path) -> None:
    backbone, data = regions().eval(), fake()
    data = dataclasses.replace(data, captions=("a plane", "the ship near two green houses", *data.captions[2:]))
    backbone.fit(data, "official", tmp_path)
    with torch.no_grad():
        found = backbone.encode_text(backbone.inputs(data, tmp_path).text)
    assert found.kind[0, :5].tolist() == [SPECIAL, CONTENT, CONTENT, SPECIAL, PAD]
    assert found.kind[1].tolist() == [SPECIAL] + [CONTENT] * 6 + [SPECIAL]
    lengths = found.tokens.norm(dim=-1)
    assert torch.allclose(lengths, (found.kind != PAD).float(), atol=1e-5), "unit vectors, zero at padding"
    assert torch.allclose(found.pooled[0], found.tokens[0, :4].mean(0), atol=1e-5)


def test_vocabulary_of_a_package(fake, tmp_path: Path) -> None:
    file = tmp_path / "f30k_precomp_vocab.json"
    words = {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "a": 4, "zebra": 5, "plane": 6}
    file.write_text(json.dumps({"word2idx": words, "idx2word": {str(v): k for k, v in words.items()}, "idx": 7}))
    assert read_words(file, 9) == ["a", "zebra", "plane"]
    backbone = regions(words_file=str(file))
    backbone.fit(fake(), "official", tmp_path)
    assert word_ids(backbone.text_tower.words, ["plane zebra a ship"], 4).tolist() == [[4, 3, 2, 1]]
    with pytest.raises(DataError, match=r"3 words, the backbone knows 2; add --set backbone\.vocabulary=3"):
        read_words(file, 2)
    for text in ("[]", "{}", "not json", '{"word2idx": {"a": "x"}}'):
        file.write_text(text)
        with pytest.raises(DataError, match="is not of the expected form"):
            read_words(file, 9)
    with pytest.raises(DataError, match="cannot be read"):
        read_words(tmp_path / "none.json", 9)


def test_data_that_do_not_fit(fake, tmp_path: Path) -> None:
    data = fake()
    with pytest.raises(DataError, match="has pixels and no region features"):
        regions().inputs(dataclasses.replace(data, regions=None), tmp_path)
    with pytest.raises(DataError, match=r"width 6, the backbone reads 7; add --set backbone\.features=6"):
        regions(features=7).inputs(data, tmp_path)
    with pytest.raises(UsageError, match="must be 3 or more"):
        regions(words=2)


def test_pixel_backbones_refuse_region_data(fake, tmp_path: Path) -> None:
    data = dataclasses.replace(fake(), images=NoPixels("boxes"))
    for name in ("tiny", "toy"):
        with pytest.raises(DataError, match="'boxes' is packed as region features and has no pixels"):
            backbone = build_backbone(name, "", "", {}, 0)
            backbone.fit(data, "official", tmp_path)
            backbone.inputs(data, tmp_path)


def test_cards_need_no_torch_and_regions_no_timm() -> None:
    code = (
        "import sys; from rsbench.backbones.resolve import resolve_backbone as r; [r(n) for n in "
        "('swin-bert', 'resnet-gru', 'regions')]; light = 'torch' in sys.modules; "
        "import rsbench.backbones.regions; print(light, {'timm', 'transformers', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False set()"
