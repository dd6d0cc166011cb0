"""``openclip``: features in the joint space, activation, and weights that do not fit."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

if importlib.util.find_spec("open_clip") is None:
    pytest.skip("open_clip is not installed", allow_module_level=True)

from small_clip import NAME, register

from rsbench.backbones import openclip_weights
from rsbench.backbones.base import CONTENT, PAD, SPECIAL
from rsbench.backbones.build import build_backbone
from rsbench.backbones.openclip import OpenClip, token_kinds
from rsbench.backbones.pixels import prepare
from rsbench.backbones.torchvision_ops import declare_missing_operators
from rsbench.errors import UnknownNameError, UsageError, WeightsError
from rsbench.progress import silent


@pytest.fixture(scope="module", autouse=True)
def _models() -> None:
    register()


def clip(weights: str = "random", seed: int = 0, **params: str) -> OpenClip:
    found = build_backbone("openclip", "full", weights, {"model": NAME} | params, seed)
    assert isinstance(found, OpenClip)
    return found


def checkpoint(model: OpenClip) -> dict[str, torch.Tensor]:
    state = {k.removeprefix("clip."): v for k, v in model.state_dict().items()}
    return {**state, "logit_scale": torch.tensor(4.6)}


def test_pooled_equals_open_clip_and_a_projected_token() -> None:
    backbone = clip().eval()
    pixels = torch.randint(0, 256, (2, 40, 40, 3), dtype=torch.uint8)
    ids = openclip_weights.tokenise(NAME, ["a plane", "two ships near a green river"], silent)
    with torch.no_grad():
        image, text = backbone.encode_image({"pixels": pixels}), backbone.encode_text({"ids": ids})
        look = backbone.look
        assert torch.equal(image.pooled, backbone.clip.encode_image(prepare(pixels, 32, look.mean, look.std)))
        assert torch.equal(text.pooled, backbone.clip.encode_text(ids))
    assert image.tokens.shape == (2, 5, 8) and image.hidden.shape == (2, 5, 64)
    assert torch.allclose(image.tokens[:, 0], image.pooled, atol=1e-5)
    end = ids.argmax(1)
    assert torch.allclose(text.tokens[torch.arange(2), end], text.pooled, atol=1e-5)
    assert image.kind.tolist() == [[SPECIAL] + [CONTENT] * 4] * 2
    assert text.kind[0, :5].tolist() == [SPECIAL, CONTENT, CONTENT, SPECIAL, PAD]


def test_kinds_of_a_caption_that_fills_the_row() -> None:
    ids = torch.tensor([[49406, 5, 6, 49407], [49406, 49407, 0, 0]])
    assert token_kinds(ids).tolist() == [[1, 0, 0, 1], [1, 1, 2, 2]]


def test_hidden_is_the_last_block_before_norm_and_projection() -> None:
    backbone = clip().eval()
    ids = openclip_weights.tokenise(NAME, ["a plane", "two ships near a green river"], silent)
    pixels = {"pixels": torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)}
    with torch.no_grad():
        image, text = backbone.encode_image(pixels), backbone.encode_text({"ids": ids})
        visual = backbone.clip.visual
        assert torch.allclose(visual.ln_post(image.hidden) @ visual.proj, image.tokens, atol=1e-6)
        assert torch.allclose(
            backbone.clip.ln_final(text.hidden) @ backbone.clip.text_projection, text.tokens, atol=1e-6
        )
        assert not torch.allclose(visual.ln_post(image.hidden), image.hidden, atol=1e-3)
    assert [len(backbone.blocks(m)) for m in ("image", "text")] == [2, 2]
    assert (backbone.width("image"), backbone.width("text")) == (64, 16)


def test_only_given_weights_are_pretrained(tmp_path: Path) -> None:
    assert not clip().pretrained()
    save_file(checkpoint(clip()), tmp_path / "w.safetensors")
    loaded = clip(weights=str(tmp_path / "w.safetensors"))
    assert loaded.pretrained() == (loaded.clip,)


def test_logit_scale_is_no_parameter() -> None:
    backbone = clip()
    assert not [n for n, _ in backbone.named_parameters() if "logit" in n]
    assert backbone.own_scale == pytest.approx(1 / 0.07, rel=1e-4)


def test_activation_is_recorded() -> None:
    assert clip().facts()["activation"] == "quick_gelu"
    assert clip(model=f"{NAME}-wide").facts()["activation"] == "gelu"


def test_model_without_tokens_gives_pooled_vectors_only() -> None:
    backbone = clip()
    backbone.clip.text_pool_type = "last"
    assert backbone.capabilities == frozenset()
    assert backbone.encode_image({"pixels": torch.zeros(1, 32, 32, 3, dtype=torch.uint8)}).tokens is None


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_local_checkpoint_is_loaded(tmp_path: Path, suffix: str) -> None:
    original = clip(seed=7)
    file = tmp_path / f"weights.{suffix}"
    save_file(checkpoint(original), file) if suffix == "safetensors" else torch.save(
        {"state_dict": {f"module.{k}": v for k, v in checkpoint(original).items()}}, file
    )
    loaded = clip(weights=str(file))
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in original.state_dict().items())
    assert loaded.own_scale == pytest.approx(99.48, rel=1e-3)
    assert loaded.facts()["origin"] == file.name and len(loaded.facts()["sha256"]) == 64


def damaged(tmp_path: Path, how: str) -> Path:
    file = tmp_path / "weights.pt"
    state = checkpoint(clip())
    if how == "missing":
        state = {k: v for k, v in state.items() if "ln_final" not in k}
    elif how == "unknown":
        state["extra.weight"] = torch.zeros(1)
    elif how == "wide":
        state = checkpoint(clip(model=f"{NAME}-wide"))
    torch.save(state, file)
    if how == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "html":
        file.write_text("<!DOCTYPE html><html>Sign in</html>")
    elif how == "text":
        file.write_text("hello there, this is no checkpoint")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "script":
        torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1)), str(file))
    return file


BAD = [
    ("missing", "2 keys missing"),
    ("unknown", "1 unknown, such as extra.weight"),
    ("wide", "tensors of other shapes"),
    ("cut", "cut off or damaged"),
    ("html", "web page or a pointer"),
    ("text", "without unpickling"),
    ("empty", "is empty"),
    ("script", "TorchScript archive"),
]


@pytest.mark.parametrize(("how", "message"), BAD)
@pytest.mark.filterwarnings("ignore")
def test_weights_that_cannot_be_used(tmp_path: Path, how: str, message: str) -> None:
    with pytest.raises(WeightsError) as caught:
        clip(weights=str(damaged(tmp_path, how)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_cut_safetensors_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(checkpoint(clip()), file)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        clip(weights=str(file))


@pytest.mark.parametrize("name", ["clip-vit-b32", "openclip"])
def test_hub_weights_without_network_name_two_ways_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openclip_weights, "_in_hub_cache", lambda config: None)
    monkeypatch.setattr(openclip_weights, "reachable", lambda config: False)
    with pytest.raises(WeightsError, match="--weights FILE, or use --backbone lite"):
        build_backbone(name, "full", "hub", {}, 0)


def test_unreachable_host_is_seen_without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(openclip_weights.socket, "create_connection", refuse)
    monkeypatch.setattr(openclip_weights.urllib.request, "getproxies", dict)
    assert not openclip_weights.reachable({"hf_hub": "x/y/"})


def test_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import pretrained

    def fail(*_: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(openclip_weights, "_in_hub_cache", lambda config: None)
    monkeypatch.setattr(openclip_weights, "reachable", lambda config: True)
    monkeypatch.setattr(pretrained, "download_pretrained", fail)
    with pytest.raises(WeightsError, match="download failed") as caught:
        build_backbone("openclip", "full", "hub", {}, 0)
    assert "\n" not in str(caught.value)


def test_tag_of_the_other_activation_is_refused() -> None:
    with pytest.raises(UsageError, match="use ViT-B-32-quickgelu"):
        build_backbone("openclip", "full", "hub", {"model": "ViT-B-32"}, 0)


def test_unknown_tag_and_model() -> None:
    with pytest.raises(UnknownNameError, match="did you mean openai"):
        build_backbone("openclip", "full", "hub", {"tag": "openia"}, 0)
    with pytest.raises(UnknownNameError, match="did you mean ViT-B-32"):
        build_backbone("openclip", "full", "random", {"model": "ViTB-32"}, 0)


def test_root_logger_is_left_alone() -> None:
    handlers = logging.getLogger().handlers[:]
    clip()
    assert logging.getLogger().handlers == handlers and logging.root.manager.disable == logging.NOTSET


def test_operators_are_declared_once_and_only_where_missing() -> None:
    assert declare_missing_operators() is declare_missing_operators()
    import torchvision

    assert torchvision.__version__ and hasattr(torch.ops.torchvision, "nms")
