"""``resnet-gru``: frozen statistics, the GRU against its equations, word vectors from a file, the vocabulary."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

if importlib.util.find_spec("timm") is None:
    pytest.skip("timm is not installed", allow_module_level=True)

from small_towers import CASES

from rsbench.backbones import hub
from rsbench.backbones.base import CONTENT, PAD
from rsbench.backbones.build import build_backbone
from rsbench.backbones.glove import read_glove
from rsbench.backbones.gru_text import GruText
from rsbench.backbones.resnet_gru import ResNetGru
from rsbench.backbones.vocabulary import learn, no_words, trimmed, word_ids
from rsbench.errors import UnknownNameError, UsageError, WeightsError

PARAMS = CASES["resnet-gru"][3]


@pytest.fixture(autouse=True)
def _small(small_towers: None) -> None:
    pass


def resnet_gru(weights: str = "random", seed: int = 0, **params: object) -> ResNetGru:
    found = build_backbone("resnet-gru", "full", weights, PARAMS | params, seed)
    assert isinstance(found, ResNetGru)
    return found


def test_tokens_are_the_places_of_the_last_map() -> None:
    backbone = resnet_gru().eval()
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    with torch.no_grad():
        maps = backbone.image_tower.forward_features(((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2))
        found = backbone.encode_image({"pixels": pixels})
        naive = torch.stack([backbone.image_head(maps[:, :, i, j]) for i in range(2) for j in range(2)], dim=1)
    assert torch.allclose(found.tokens, naive, atol=1e-4) and torch.allclose(found.pooled, naive.mean(1), atol=1e-4)
    assert found.kind.tolist() == [[CONTENT] * 4] * 2


def test_statistics_stay_frozen_in_training() -> None:
    backbone = resnet_gru().train()
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k or "batches" in k}
    backbone.encode_image({"pixels": torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)})
    assert before and all(torch.equal(before[k], backbone.state_dict()[k]) for k in before)
    assert backbone.text_tower.training


def _gate(weights: list[list[float]], bias: list[float], x: list[float], row: int) -> float:
    return sum(w * v for w, v in zip(weights[row], x, strict=True)) + bias[row]


def _naive_gru(parameters: dict, suffix: str, inputs: list[list[float]], width: int) -> list[list[float]]:
    """States of one direction, in plain Python."""
    wi, wh, bi, bh = (parameters[f"{n}_l0{suffix}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    state, found = [0.0] * width, []
    for x in inputs:
        new = []
        for k in range(width):
            r = 1 / (1 + math.exp(-_gate(wi, bi, x, k) - _gate(wh, bh, state, k)))
            z = 1 / (1 + math.exp(-_gate(wi, bi, x, width + k) - _gate(wh, bh, state, width + k)))
            n = math.tanh(_gate(wi, bi, x, 2 * width + k) + r * _gate(wh, bh, state, 2 * width + k))
            new.append((1 - z) * n + z * state[k])
        state = new
        found.append(state)
    return found


def test_states_are_the_mean_of_both_directions() -> None:
    torch.manual_seed(0)
    tower = GruText(vocabulary=5, width=3, hidden=4, dropout=0.0, fixed_start=False)
    tower.start.normal_()
    ids = torch.tensor([[2, 3, 4, 0, 0], [6, 1, 2, 5, 3], [4, 0, 0, 0, 0]])
    found = tower(ids)
    parameters = {k: v.tolist() for k, v in tower.gru.named_parameters()}
    table = (tower.start + tower.offset.weight).tolist()
    for row in range(3):
        words = [table[i] for i in ids[row].tolist() if i != 0]
        forward = _naive_gru(parameters, "", words, 4)
        backward = _naive_gru(parameters, "_reverse", words[::-1], 4)[::-1]
        naive = [[(a + b) / 2 for a, b in zip(f, g, strict=True)] for f, g in zip(forward, backward, strict=True)]
        naive += [[0.0] * 4] * (5 - len(words))
        assert torch.allclose(found[row], torch.tensor(naive), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 3))
def test_padding_and_neighbours_change_nothing(rows: list[list[int]], more: int) -> None:
    torch.manual_seed(1)
    tower = GruText(vocabulary=9, width=3, hidden=4, dropout=0.0, fixed_start=False)
    longest = max(map(len, rows)) + more
    together = tower(torch.tensor([r + [0] * (longest - len(r)) for r in rows]))
    for row, own in zip(together, rows, strict=True):
        assert torch.allclose(row[: len(own)], tower(torch.tensor([own]))[0], atol=1e-6)
        assert not row[len(own) :].any()


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_pooled_words(pool: str, fake, tmp_path: Path) -> None:
    backbone, data = resnet_gru(pool=pool).eval(), fake(side=64)
    backbone.fit(data, "official", tmp_path)
    with torch.no_grad():
        found = backbone.encode_text(backbone.inputs(data, tmp_path).text)
    for row in range(len(found)):
        own = [found.tokens[row, i] for i in range(found.tokens.shape[1]) if int(found.kind[row, i]) != PAD]
        naive = own[-1] if pool == "last" else sum(own) / len(own)
        assert torch.allclose(found.pooled[row], naive, atol=1e-5)


WORD = st.sampled_from(["plane", "ship", "river", "two", "the", "zebra"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(WORD, max_size=6), min_size=1, max_size=4), st.booleans())
def test_word_ids(texts: list[list[str]], ends: bool) -> None:
    vocabulary, known = no_words(8), ["ship", "plane", "the"]
    learn(vocabulary, known)
    found = word_ids(vocabulary, [" ".join(t) for t in texts], 5, ends)
    for row, words in zip(found.tolist(), texts, strict=True):
        naive = [known.index(w) + 2 if w in known else 1 for w in words[: 3 if ends else 5]] or [1]
        naive = [10, *naive, 11] if ends else naive
        assert row == naive + [0] * (5 - len(naive))
    assert trimmed(found).shape[1] == max(sum(i != 0 for i in row) for row in found.tolist())


def vectors(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_word_vectors_of_a_file_are_the_start(fake, tmp_path: Path) -> None:
    lines = ["plane 1 2 3 4 5 6", ". . . 0 0 0 0 0 0", "unheard 9 9 9 9 9 9", "river -1 0 0.5 0 0 1e-3"]
    data = fake(side=64)
    seeds = [resnet_gru(glove=vectors(tmp_path / "g.txt", lines), vocabulary=20, seed=s).eval() for s in (0, 1)]
    for backbone in seeds:
        backbone.fit(data, "official", tmp_path)
    tower = seeds[0].text_tower
    place = int(word_ids(tower.words, ["plane"], 1))
    assert tower.start[place].tolist() == [1, 2, 3, 4, 5, 6] and not tower.offset.weight.any()
    assert torch.equal(tower.start, seeds[1].text_tower.start), "the same for every run seed"
    assert tower.start[int(word_ids(tower.words, ["ship"], 1))].abs().max() <= 0.1
    assert tower.facts() != resnet_gru().text_tower.facts()


def test_the_file_is_not_needed_to_load_a_checkpoint(fake, tmp_path: Path) -> None:
    file = tmp_path / "g.txt"
    data, backbone = fake(side=64), resnet_gru(glove=vectors(file, ["plane 1 2 3 4 5 6"]), vocabulary=20).eval()
    backbone.fit(data, "official", tmp_path)
    file.unlink()
    twin = resnet_gru(glove=str(file), vocabulary=20, seed=3).eval()
    twin.load_state_dict(backbone.state_dict())
    ours, theirs = (b.encode_text(b.inputs(data, tmp_path).text).pooled for b in (backbone, twin))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["plane 1 2"], "line 1: 2 numbers after the word, not 3"),
        (["plane 1 2 3 4", "ship 1 2 3 4"], "line 1: 4 numbers"),
        (["2 4", "ship 1 2 3 4"], "line 1: 1 numbers"),
        (["plane 1 2 3", "ship 1 2 3", "river 1"], "line 3: 1 numbers"),
        (["plane 1 x 3"], "'plane' is not followed by numbers"),
        (["zebra 1 2 3"], "none of the 3 words"),
        ([], "0 numbers"),
    ],
)
def test_wrong_word_vectors(lines: list[str], message: str, tmp_path: Path) -> None:
    file = Path(vectors(tmp_path / "g.txt", lines))
    with pytest.raises(WeightsError) as caught:
        read_glove(file, ["plane", "ship", "river"], 3)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_word_vectors_with_a_head_line(tmp_path: Path) -> None:
    file = Path(vectors(tmp_path / "g.txt", ["2 3", "plane 1 2 3", "ship 4 5 6"]))
    assert {k: v.tolist() for k, v in read_glove(file, ["ship", "x"], 3).items()} == {"ship": [4, 5, 6]}
    with pytest.raises(WeightsError, match="are no file"):
        read_glove(tmp_path / "none.txt", ["ship"], 3)


@pytest.mark.parametrize("counters", [True, False])
def test_a_file_with_the_hubs_names_loads(counters: bool, tmp_path: Path) -> None:
    original = resnet_gru(seed=5)
    state = {k: v + 1 for k, v in original.image_tower.state_dict().items()}
    if not counters:
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert "layer1.0.conv1.weight" in state and "bn1.running_var" in state
    file = tmp_path / ("resnet18-5c106cde.pth" if not counters else "model.safetensors")
    state |= {"fc.weight": torch.zeros(4, 16), "fc.bias": torch.zeros(4)}
    torch.save(state, file) if not counters else save_file(state, file)
    loaded = resnet_gru(str(file))
    assert all(torch.equal(v, state[k]) for k, v in loaded.image_tower.state_dict().items() if "batches" not in k)
    assert loaded.pretrained() == (loaded.image_tower,) and loaded.facts()["image_sha256"]


def test_a_file_of_another_model(tmp_path: Path) -> None:
    save_file({"visual.proj": torch.zeros(3)}, tmp_path / "clip.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit the model.*conv1\.weight.*1 keys unknown"):
        resnet_gru(str(tmp_path / "clip.safetensors"))


def test_no_network_and_wrong_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "on_disk", lambda file: None)
    with pytest.raises(WeightsError, match=r"--weights FILE.*--backbone lite"):
        resnet_gru("hub")
    for params in ({"words": 0}, {"vocabulary": 0}, {"hidden": -1}, {"dropout": 1.0}):
        with pytest.raises(UsageError, match=f"backbone.{next(iter(params))}"):
            resnet_gru(**params)
    with pytest.raises(UnknownNameError, match="known: last, mean"):
        resnet_gru(pool="max")
