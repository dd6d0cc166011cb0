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

from small_clip import NAME, register, shrunk

from rsbench.backbones import hub, openclip_weights
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


def resnet() -> OpenClip:
    with shrunk():
        found = build_backbone("clip-rn50", "full", "random", {}, 0)
    assert isinstance(found, OpenClip)
    with torch.no_grad():  # fresh ones add nothing: all positions would look alike
        for name, weight in found.named_parameters():
            if name.endswith("bn3.weight"):
                weight.fill_(1.0)
    return found.eval()


def naive_pool(pool: torch.nn.Module, states: torch.Tensor, weights: list[list[float]] | None) -> torch.Tensor:
    """Attention of the first state over all, head by head and position by position; weights may be given."""
    x = states + pool.positional_embedding
    size = x.shape[1] // pool.num_heads
    parts = []
    for head in range(pool.num_heads):
        rows = slice(head * size, (head + 1) * size)
        query, keys, values = ((x @ m.weight.T + m.bias)[:, rows] for m in (pool.q_proj, pool.k_proj, pool.v_proj))
        shares = torch.tensor(weights[head]) if weights else ((keys @ query[0]) / size**0.5).softmax(0)
        parts.append(sum(share * value for share, value in zip(shares, values, strict=True)))
    return torch.cat(parts) @ pool.c_proj.weight.T + pool.c_proj.bias


def test_resnet_pooled_is_open_clips_and_tokens_are_single_positions() -> None:
    backbone = resnet()
    pixels = torch.randint(0, 256, (2, 80, 80, 3), dtype=torch.uint8)
    with torch.no_grad():
        found = backbone.encode_image({"pixels": pixels})
        own = backbone.clip.encode_image(prepare(pixels, 64, backbone.look.mean, backbone.look.std))
        pool, states = backbone.clip.visual.attnpool, found.hidden[1]
        assert torch.allclose(found.pooled, own, atol=1e-5) and own.std() > 1e-3
        assert torch.allclose(naive_pool(pool, states, None), found.pooled[1], atol=1e-5)
        for i in range(1, 5):
            alone = [[float(j == i) for j in range(5)]] * pool.num_heads
            assert torch.allclose(naive_pool(pool, states, alone), found.tokens[1, i], atol=1e-5)
    assert torch.equal(found.tokens[:, 0], found.pooled)
    assert torch.allclose(found.hidden[:, 0], found.hidden[:, 1:].mean(1), atol=1e-5)
    assert found.kind.tolist() == [[SPECIAL] + [CONTENT] * 4] * 2
    assert found.hidden.shape == (2, 5, 256) and backbone.width("image") == 256 and backbone.width("text") == 16
    assert found.tokens[1, 1:].std(0).max() > 1e-3, "positions must differ for this test to mean anything"


def test_resnet_positions_are_rows_of_the_map() -> None:
    """A bright top right corner stands out at its own position, the second."""
    backbone = resnet()
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    plain = backbone.image_states({"pixels": pixels})[0]
    pixels[:, :16, 48:] = 255
    changed = (backbone.image_states({"pixels": pixels})[0] - plain)[0, 1:].norm(dim=1)
    assert int(changed.argmax()) == 1


def test_resnet_has_no_blocks() -> None:
    backbone = resnet()
    assert backbone.capabilities == {"tokens", "hidden"}
    for reach in (backbone.blocks, backbone.embeddings):
        with pytest.raises(TypeError):
            reach("text")


def test_embeddings_and_blocks_and_heads_make_up_the_towers() -> None:
    """Every parameter lies before the first block, in a block, or after the last."""
    backbone = clip()
    after = {"text_projection", "ln_final.weight", "ln_final.bias", "visual.proj", "visual.ln_post.weight"}
    after |= {"visual.ln_post.bias"}
    covered = [p for m in ("image", "text") for p in backbone.embeddings(m)]
    covered += [p for m in ("image", "text") for b in backbone.blocks(m) for p in b.parameters()]
    rest = {n for n, p in backbone.clip.named_parameters() if not any(p is c for c in covered)}
    assert rest == after


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
    elif how == "script":
        torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1)), str(file))
    return file


BAD = [
    ("missing", "2 keys missing (ln_final.weight, ln_final.bias)"),
    ("unknown", "1 keys unknown (extra.weight)"),
    ("wide", "keys of another shape (text_projection [16, 16] for [16, 8]"),
    ("cut", "cut off or damaged"),
    ("script", "TorchScript archive"),
]


@pytest.mark.parametrize(("how", "message"), BAD)
@pytest.mark.filterwarnings("ignore")
def test_weights_that_cannot_be_used(tmp_path: Path, how: str, message: str) -> None:
    with pytest.raises(WeightsError) as caught:
        clip(weights=str(damaged(tmp_path, how)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("tag", ["openai", "laion2b_s34b_b79k"])
def test_tag_without_network_names_the_ways_out(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "on_disk", lambda file: None)
    monkeypatch.setattr(hub, "reachable", lambda address: False)
    model = "ViT-B-32-quickgelu" if tag == "openai" else "ViT-B-32"
    with pytest.raises(WeightsError, match=r"--weights FILE, or .* use --backbone lite"):
        build_backbone("openclip", "full", "hub", {"model": model, "tag": tag}, 0)


@pytest.mark.parametrize("there", [False, True])
def test_tag_that_is_not_on_the_hub(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import pretrained

    def fail(*_: object) -> None:
        raise RuntimeError("first\nsecond")

    config = {"url": "https://nowhere.example/w.pt", "quick_gelu": True}
    monkeypatch.setattr(openclip_weights, "_tag_config", lambda model, tag: config)
    monkeypatch.setattr(hub, "reachable", lambda address: there)
    monkeypatch.setattr(pretrained, "download_pretrained", fail)
    with pytest.raises(WeightsError, match="download failed" if there else "no network") as caught:
        build_backbone("openclip", "full", "hub", {}, 0)
    assert "--weights FILE" in str(caught.value) and "\n" not in str(caught.value)


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
