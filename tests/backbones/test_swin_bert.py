"""``swin-bert``: masks, padding, pixels, and files with the names that the hub's have."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

if importlib.util.find_spec("timm") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("timm or transformers is not installed", allow_module_level=True)

from small_towers import CASES, shrunk

from rsbench.backbones import hub
from rsbench.backbones.base import CONTENT, PAD, SPECIAL, Backbone
from rsbench.backbones.build import build_backbone
from rsbench.data.dataset import NoPixels
from rsbench.errors import DataError, UnknownNameError, UsageError, WeightsError

PARAMS = CASES["swin-bert"][3]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "plane", "##s", "ship", "near", "river", "."]


@pytest.fixture(autouse=True)
def _small(small_towers: None) -> None:
    pass


def swin_bert(weights: str = "random", seed: int = 0, **params: object) -> Backbone:
    return build_backbone("swin-bert", "full", weights, PARAMS | params, seed)


def ids(backbone: Backbone, fake, tmp_path: Path) -> dict[str, torch.Tensor]:
    data = fake(side=32)
    backbone.fit(data, "official", tmp_path)
    inputs = backbone.inputs(data, tmp_path)
    return {k: v for k, v in inputs.text.items()}


def test_padding_is_not_attended_to(fake, tmp_path: Path) -> None:
    backbone = swin_bert().eval()
    text = ids(backbone, fake, tmp_path)
    assert text["ids"].shape[1] < 10, "captions are cut to the longest of them"
    with torch.no_grad():
        found = backbone.encode_text(text)
        for row in range(4):
            length = int((text["kind"][row] != PAD).sum())
            alone = backbone.text_tower(input_ids=text["ids"][row : row + 1, :length]).last_hidden_state[0]
            assert torch.allclose(found.hidden[row, :length], alone, atol=1e-5)
            assert text["kind"][row, :length].tolist() == [SPECIAL] + [CONTENT] * (length - 2) + [SPECIAL]
    assert torch.allclose(found.pooled, backbone.text_head(found.hidden[:, 0]), atol=1e-6)


def test_attended_padding_is_what_no_mask_gives(fake, tmp_path: Path) -> None:
    masked, attending = swin_bert().eval(), swin_bert(attend_padding=True).eval()
    text = ids(attending, fake, tmp_path)
    assert text["ids"].shape[1] == 10, "all captions have one length, so that none depends on its neighbours"
    with torch.no_grad():
        plain = attending.text_tower(input_ids=text["ids"]).last_hidden_state
        assert torch.allclose(attending.encode_text(text).hidden, plain, atol=1e-5)
        assert not torch.allclose(masked.encode_text(text).hidden, plain, atol=1e-3)


@pytest.mark.parametrize(
    ("look", "mean", "std"),
    [
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("clip", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ],
)
def test_the_mean_of_the_map_leads(look: str, mean: tuple, std: tuple) -> None:
    backbone = swin_bert(look=look).eval()
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    x = ((pixels / 255.0 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)
    with torch.no_grad():
        maps = backbone.image_tower.forward_features(x)
        found = backbone.encode_image({"pixels": pixels})
    rows = torch.stack([maps[:, i, j] for i in range(maps.shape[1]) for j in range(maps.shape[2])], dim=1)
    assert torch.allclose(found.hidden[:, 1:], rows, atol=1e-4)
    assert torch.allclose(found.hidden[:, 0], maps.mean(dim=(1, 2)), atol=1e-4)
    assert torch.allclose(found.pooled, backbone.image_head(maps.mean(dim=(1, 2))), atol=1e-4)
    assert found.kind[0].tolist() == [SPECIAL] + [CONTENT] * rows.shape[1]


def _as_swin_authors(name: str) -> str:
    """Downsampling ends a stage there; timm starts the next with it."""
    return re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)


def _as_google(name: str) -> str:
    return "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def folder(path: Path, backbone: Backbone, old: bool = False, vocabulary: str = "vocab.txt") -> Path:
    """Files with the names of the hub's, classifier and pretraining heads included."""
    image = {k: v.clone() for k, v in backbone.image_tower.state_dict().items()}
    text = {_as_google(k): v.clone() for k, v in backbone.text_tower.state_dict().items()}
    if old:
        image = {_as_swin_authors(k): v for k, v in image.items()}
    image |= {("head" if old else "head.fc") + f".{n}": torch.zeros(3) for n in ("weight", "bias")}
    image["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16)
    text |= {"bert.pooler.dense.weight": torch.zeros(2), "cls.predictions.bias": torch.zeros(40)}
    path.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in image.items()}, path / "image.safetensors")
    save_file({k: v.contiguous() for k, v in text.items()}, path / "text.safetensors")
    (path / "vocab.txt").write_text("\n".join(PIECES))
    if vocabulary == "tokenizer.json":
        from tokenizers import BertWordPieceTokenizer

        BertWordPieceTokenizer(str(path / "vocab.txt")).save(str(path / "tokenizer.json"))
        (path / "vocab.txt").unlink()
    return path


@pytest.mark.parametrize(("old", "vocabulary"), [(False, "vocab.txt"), (True, "tokenizer.json")])
def test_files_of_both_layouts_load(old: bool, vocabulary: str, tmp_path: Path, fake) -> None:
    original = swin_bert(seed=5)
    weights = folder(tmp_path / "weights", original, old, vocabulary)
    loaded = swin_bert(str(weights), seed=6)
    for tower in ("image_tower", "text_tower"):
        ours, theirs = getattr(original, tower).state_dict(), getattr(loaded, tower).state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    data = dataclasses.replace(fake(side=32), captions=("A red Planes .", "unheard ship", *fake().captions[2:]))
    text = loaded.inputs(data, tmp_path).text
    assert text["ids"][0].tolist()[:7] == [2, 5, 6, 7, 8, 12, 3]
    assert text["ids"][1].tolist()[:5] == [2, 1, 9, 3, 0]
    assert text["kind"][1].tolist()[:5] == [SPECIAL, CONTENT, CONTENT, SPECIAL, PAD]
    assert len(loaded.pretrained()) == 2 and not swin_bert().pretrained()
    assert set(loaded.facts()) == {"tokens_of_text", "image_sha256", "text_sha256", "tokenizer_sha256"}


def test_long_captions_keep_their_end(tmp_path: Path, fake) -> None:
    backbone = swin_bert(str(folder(tmp_path / "w", swin_bert())), words=5)
    data = dataclasses.replace(fake(side=32), captions=("a red plane near a river", *fake().captions[1:]))
    assert backbone.inputs(data, tmp_path).text["ids"][0].tolist() == [2, 5, 6, 7, 3]


def test_damaged_files(tmp_path: Path) -> None:
    weights = folder(tmp_path / "w", swin_bert())

    def refused(message: str) -> None:
        with pytest.raises(WeightsError) as caught:
            swin_bert(str(weights))
        assert message in str(caught.value) and "\n" not in str(caught.value)

    whole = (weights / "text.safetensors").read_bytes()
    (weights / "text.safetensors").write_bytes(whole[: len(whole) // 2])
    refused("text.safetensors is cut off or damaged")
    (weights / "text.safetensors").write_bytes(b"<!DOCTYPE html><html>not found</html>")
    refused("is a web page")
    (weights / "text.safetensors").write_bytes((weights / "image.safetensors").read_bytes())
    refused("text.safetensors does not fit the model")
    (weights / "text.safetensors").unlink()
    refused("does not exist")
    (weights / "vocab.txt").unlink()
    refused("holds no tokenizer.json and no vocab.txt")


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "on_disk", lambda file: None)
    with pytest.raises(WeightsError) as caught:
        swin_bert("hub")
    assert "--weights FOLDER" in str(caught.value) and "--backbone lite" in str(caught.value)
    assert "hf download timm/swin_tiny_patch4_window7_224.ms_in1k" in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "params", "error", "message"),
    [
        ("no/such", {}, WeightsError, "are no kind and no folder"),
        ("folder", {}, WeightsError, "the path of a local folder"),
        ("random", {"look": "sepia"}, UnknownNameError, "known: clip, imagenet"),
        ("random", {"words": 25}, UsageError, "must be from 3 to 24"),
    ],
)
def test_wrong_requests(weights: str, params: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        swin_bert(weights, **params)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_dataset_without_pixels(fake, tmp_path: Path) -> None:
    data = dataclasses.replace(fake(), images=NoPixels("boxes"))
    with pytest.raises(DataError, match="use --backbone regions"):
        swin_bert().inputs(data, tmp_path)


def test_small_towers_are_put_back() -> None:
    from rsbench.backbones.swin_bert import Architecture, SwinBert

    with shrunk():
        assert SwinBert.architecture.size == 32
    assert Architecture() == Architecture(224, {}, {})


def tuned(tuning: str, weights: str = "random", seed: int = 0, **params: object) -> Backbone:
    return build_backbone("swin-bert", tuning, weights, PARAMS | params, seed)


def test_low_rank_updates_leave_the_towers_alone() -> None:
    full, lora = swin_bert(seed=3).eval(), tuned("lora", seed=3, rank=2).eval()
    trained = {n for n, p in lora.named_parameters() if p.requires_grad}
    heads = {n for n in trained if "head" in n}
    assert heads == {f"{m}_head.{p}" for m in ("image", "text") for p in ("weight", "bias")}
    assert len(trained - heads) == 2 * (3 + 2 * 2), "two matrices for each fused one of Swin and each q, v of BERT"
    pixels = {"pixels": torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)}
    with torch.no_grad():
        assert torch.equal(full.encode_image(pixels).pooled, lora.encode_image(pixels).pooled)
    assert not lora.pretrained()


def test_cached_features_are_the_states_of_the_towers(fake, tmp_path: Path) -> None:
    weights = str(folder(tmp_path / "w", swin_bert(seed=4)))
    data, heads, full = fake(side=32), tuned("heads", weights), swin_bert(weights).eval()
    inputs = full.inputs(data, tmp_path)
    with torch.no_grad():
        image, text = full.encode_image(inputs.image), full.encode_text(inputs.text)
        cached_image, cached_text = heads.image_features(data.images), heads.text_features(data.texts)
    length = text.hidden.shape[1] - 1
    assert torch.allclose(cached_image.pooled, image.hidden[:, 0], atol=1e-5)
    assert torch.allclose(cached_image.tokens, image.hidden[:, 1:], atol=1e-5)
    assert torch.allclose(cached_text.pooled, text.hidden[:, 0], atol=1e-5)
    shown = (text.kind[:, 1:] != PAD)[..., None]
    assert torch.allclose(cached_text.tokens[:, :length], text.hidden[:, 1:] * shown, atol=1e-5)
    assert not cached_text.tokens[:, length:].any() and (cached_text.kind[:, length:] == PAD).all()


def test_cached_features_are_named_by_what_they_depend_on(fake, tmp_path: Path) -> None:
    weights, other = (str(folder(tmp_path / n, swin_bert(seed=s))) for n, s in (("a", 1), ("b", 2)))
    plain, clip, attending = tuned("heads", weights), tuned("heads", weights, look="clip"), tuned("heads", other)
    assert len({str(b.tower_key("image")) for b in (plain, clip, attending)}) == 3
    attending = tuned("heads", weights, attend_padding=True)
    assert len({str(b.tower_key("text")) for b in (plain, attending, tuned("heads", other))}) == 3
    assert plain.tower_key("text") == clip.tower_key("text")
    fitted, bare = tuned("heads"), tuned("heads")
    fitted.fit(fake(side=32), "official", tmp_path / "cache")
    assert fitted.tower_key("text") != bare.tower_key("text")


@pytest.mark.parametrize(
    ("tuning", "params", "message"),
    [
        ("full", {"rank": 4}, "backbone.rank works with tuning 'lora' of swin-bert, not with 'full'"),
        ("lora", {"pca": 4}, "backbone.pca works with tuning 'heads'"),
        ("lora", {"targets": "q+x"}, "holds 'x'"),
    ],
)
def test_params_of_another_tuning(tuning: str, params: dict, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        tuned(tuning, **params)
