"""Checkpoint files: the layouts of OpenAI, GeoRSCLIP and RemoteCLIP, files that cannot be used, and the hub."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rsbench.backbones import hub
from rsbench.backbones.build import build_backbone
from rsbench.backbones.card import HubFile
from rsbench.backbones.cards.openclip import GEORSCLIP_VIT_B32_RET2, ClipCard
from rsbench.backbones.checkpoints import load_strictly, read_state
from rsbench.errors import WeightsError
from rsbench.registry import BACKBONES

if importlib.util.find_spec("open_clip") is None:
    pytest.skip("open_clip is not installed", allow_module_level=True)

from small_clip import CHECKPOINTS, shrunk

HUB_NAMES = {
    "clip-vit-b32": "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors",
    "clip-vit-l14": "timm/vit_large_patch14_clip_224.openai/open_clip_model.safetensors",
    "clip-rn50": "timm/resnet50_clip.openai/open_clip_model.safetensors",
    "georsclip-vit-b32": "Zilun/GeoRSCLIP/ckpt/RS5M_ViT-B-32.pt",
    "georsclip-vit-b32-ret2": "Zilun/GeoRSCLIP/ckpt/RS5M_ViT-B-32_RET-2.pt",
    "remoteclip-rn50": "chendelong/RemoteCLIP/RemoteCLIP-RN50.pt",
    "remoteclip-vit-b32": "chendelong/RemoteCLIP/RemoteCLIP-ViT-B-32.pt",
    "remoteclip-vit-l14": "chendelong/RemoteCLIP/RemoteCLIP-ViT-L-14.pt",
}


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with shrunk():
        yield


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def block(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one residual attention block."""
    return {
        **norm(f"{name}.ln_1", width),
        **norm(f"{name}.ln_2", width),
        f"{name}.attn.in_proj_weight": (3 * width, width),
        f"{name}.attn.in_proj_bias": (3 * width,),
        f"{name}.attn.out_proj.weight": (width, width),
        f"{name}.attn.out_proj.bias": (width,),
        f"{name}.mlp.c_fc.weight": (4 * width, width),
        f"{name}.mlp.c_fc.bias": (4 * width,),
        f"{name}.mlp.c_proj.weight": (width, 4 * width),
        f"{name}.mlp.c_proj.bias": (width,),
    }


def text_names() -> dict[str, tuple[int, ...]]:
    """The text tower of a published CLIP file, with the small widths: 16, joint space 8."""
    blocks = [block(f"transformer.resblocks.{i}", 16) for i in range(2)]
    return {
        "positional_embedding": (77, 16),
        "text_projection": (16, 8),
        "logit_scale": (),
        "token_embedding.weight": (49408, 16),
        **norm("ln_final", 16),
        **{k: v for b in blocks for k, v in b.items()},
    }


def vit_names(patch: int, patches: int) -> dict[str, tuple[int, ...]]:
    blocks = [block(f"visual.transformer.resblocks.{i}", 64) for i in range(2)]
    return {
        **text_names(),
        "visual.class_embedding": (64,),
        "visual.positional_embedding": (1 + patches, 64),
        "visual.proj": (64, 8),
        "visual.conv1.weight": (64, 3, patch, patch),
        **norm("visual.ln_pre", 64),
        **norm("visual.ln_post", 64),
        **{k: v for b in blocks for k, v in b.items()},
    }


def batch_norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {**norm(name, width), f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}


def rn50_names(counters: bool) -> dict[str, tuple[int, ...]]:
    """A ResNet of width 8 with one block a stage; files of old torch lack the counters of batch norm."""
    found = {**text_names()}
    for i, (inside, outside) in enumerate(((3, 4), (4, 4), (4, 8)), 1):
        found |= {f"visual.conv{i}.weight": (outside, inside, 3, 3), **batch_norm(f"visual.bn{i}", outside)}
    inside = 8
    for stage, width in enumerate((8, 16, 32, 64), 1):
        at = f"visual.layer{stage}.0"
        found |= {
            f"{at}.conv1.weight": (width, inside, 1, 1),
            **batch_norm(f"{at}.bn1", width),
            f"{at}.conv2.weight": (width, width, 3, 3),
            **batch_norm(f"{at}.bn2", width),
            f"{at}.conv3.weight": (4 * width, width, 1, 1),
            **batch_norm(f"{at}.bn3", 4 * width),
            f"{at}.downsample.0.weight": (4 * width, inside, 1, 1),
            **batch_norm(f"{at}.downsample.1", 4 * width),
        }
        inside = 4 * width
    found["visual.attnpool.positional_embedding"] = (5, 256)
    for name, outside in (("k_proj", 256), ("q_proj", 256), ("v_proj", 256), ("c_proj", 8)):
        found |= {
            f"visual.attnpool.{name}.weight": (outside, 256),
            f"visual.attnpool.{name}.bias": (outside,),
        }
    if counters:
        norms = [k.removesuffix("running_mean") for k in found if k.endswith("running_mean")]
        found |= {f"{k}num_batches_tracked": () for k in norms}
    return found


def filled(names: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        k: torch.tensor(7) if k.endswith("num_batches_tracked") else torch.rand(shape, generator=generator)
        for k, shape in names.items()
    }


def written(file: Path, state: dict, wrapped: bool = False) -> Path:
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}} if wrapped else state, file)
    return file


LAYOUTS = [
    ("clip-vit-b32", "open_clip_model.safetensors", vit_names(32, 4), False),
    ("clip-vit-l14", "open_clip_model.safetensors", vit_names(14, 9), False),
    ("clip-rn50", "open_clip_model.safetensors", rn50_names(counters=True), False),
    ("georsclip-vit-b32", "RS5M_ViT-B-32.pt", vit_names(32, 4), False),
    ("georsclip-vit-b32-ret2", "RS5M_ViT-B-32_RET-2.pt", vit_names(32, 4), True),
    ("remoteclip-rn50", "RemoteCLIP-RN50.pt", rn50_names(counters=False), False),
    ("remoteclip-vit-b32", "RemoteCLIP-ViT-B-32.pt", vit_names(32, 4), False),
    ("remoteclip-vit-l14", "RemoteCLIP-ViT-L-14.pt", vit_names(14, 9), False),
]


@pytest.mark.parametrize(("name", "file", "names", "wrapped"), LAYOUTS, ids=[case[0] for case in LAYOUTS])
def test_published_layout_is_loaded_whole(name: str, file: str, names: dict, wrapped: bool, tmp_path: Path) -> None:
    """Every tensor of a file with the published names arrives, and the model has no others."""
    state = filled(names)
    path = written(tmp_path / file, state, wrapped)
    backbone = build_backbone(name, "full", str(path), {}, seed=0)
    own = {k.removeprefix("clip."): v for k, v in backbone.state_dict().items()}
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    assert set(own) - counters == set(state) - {"logit_scale"} - counters
    assert all(torch.equal(own[k], state[k]) for k in own if k in state)
    assert backbone.own_scale == pytest.approx(float(state["logit_scale"].exp()))
    facts = backbone.facts()
    assert facts["activation"] == "quick_gelu" and facts["origin"] == file
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert ("training captions" in facts.get("warning", "")) == (name.endswith("ret2") or name.startswith("remote"))


def test_half_precision_and_the_facts_of_openai_files_are_taken(tmp_path: Path) -> None:
    state = {k: v.half() for k, v in filled(vit_names(32, 4)).items()}
    about = {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(9)}
    backbone = build_backbone("clip-vit-b32", "full", str(written(tmp_path / "w.pt", state | about)), {}, 0)
    found = backbone.state_dict()["clip.visual.proj"]
    assert found.dtype == torch.float32 and torch.equal(found, state["visual.proj"].float())


MISFITS = [
    ("clip-vit-b32", vit_names(14, 9), r"visual.conv1.weight \[64, 3, 14, 14\] for \[64, 3, 32, 32\].*patches of 14"),
    ("clip-vit-b32", rn50_names(True), r"missing \(visual.class_embedding, .*unknown \(visual.*holds a ResNet"),
    ("remoteclip-rn50", vit_names(32, 4), r"missing \(visual.*unknown \(visual.class_embedding, .*patches of 32"),
    ("clip-vit-l14", vit_names(14, 16), r"1 keys of another shape \(visual.positional_embedding \[17, 64\] for \[10"),
    ("georsclip-vit-b32", {"encoder.weight": (2,)}, r"unknown \(encoder.weight\); the file has no image tower"),
]


@pytest.mark.parametrize(("name", "names", "says"), MISFITS)
def test_another_architecture_names_the_keys(name: str, names: dict, says: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=says) as caught:
        build_backbone(name, "full", str(written(tmp_path / "w.pt", filled(names))), {}, 0)
    assert "another --weights FILE" in str(caught.value) and "\n" not in str(caught.value)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


BROKEN = {
    "cut.pt": (cut, "cut off or damaged"),
    "cut.safetensors": (cut, "cut off or damaged"),
    "page.pt": (lambda f: f.write_text("\n<!DOCTYPE html><title>Sign in</title>"), "is a web page"),
    "page.safetensors": (lambda f: f.write_text("<html>404</html>"), "is a web page"),
    "pointer.pt": (
        lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 605\n"),
        "Git LFS pointer",
    ),
    "empty.pt": (lambda f: f.write_bytes(b""), "is empty"),
    "text.pt": (lambda f: f.write_text("hello there"), "without unpickling"),
    "none.pt": (lambda f: f.unlink(), "does not exist"),
    "nested.pt": (lambda f: torch.save({"model": {"a": torch.ones(1)}}, f), "holds no tensors by name .it holds model"),
    "list.pt": (lambda f: torch.save([torch.ones(1)], f), "holds no tensors by name .it holds list"),
    "code.pt": (lambda f: torch.save({"a": nn.Linear(1, 1)}, f), "without unpickling"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_files_that_are_no_checkpoint(name: str, tmp_path: Path) -> None:
    file = written(tmp_path / name, {"a": torch.rand(300)})
    spoil, says = BROKEN[name]
    spoil(file)
    with pytest.raises(WeightsError, match=says) as caught:
        read_state(file)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_only_a_prefix_of_all_names_is_taken_off(tmp_path: Path) -> None:
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert set(read_state(written(tmp_path / "w.pt", state))) == set(state)


def test_strict_loading_names_every_kind_of_misfit_and_changes_nothing() -> None:
    model = nn.Linear(2, 2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_strictly(model, {"weight": torch.ones(3, 2), "c": torch.ones(1)}, "w.pt", "try another")
    assert str(caught.value) == (
        "w.pt does not fit the model: 1 keys missing (bias), 1 keys unknown (c), "
        "1 keys of another shape (weight [3, 2] for [2, 2]); try another"
    )
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", list(CHECKPOINTS))
def test_cards_hold_what_the_models_are(name: str) -> None:
    """Names on the hub as published; activation, joint space and image size as open_clip builds the model."""
    card = BACKBONES.load(name)
    assert isinstance(card, ClipCard) and str(card.hub[0]) == HUB_NAMES[name]
    assert build_backbone(name, "full", "random", {}, 0).facts()["activation"] == card.activation
    from importlib.resources import files

    real = json.loads(files("open_clip").joinpath("model_configs", f"{card.model}.json").read_text())
    assert (real["embed_dim"], real["vision_cfg"]["image_size"]) == (card.joint_dim, card.image_size)
    assert real["quick_gelu"] is (card.activation == "quick_gelu")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip-rn50", "clip-vit-b32", "clip-vit-l14"])
def test_full_size_architectures(name: str) -> None:
    """Parameters of the cards, and two forward passes of two images."""
    from importlib.resources import files

    from open_clip import factory

    card = BACKBONES.load(name)
    with pytest.MonkeyPatch.context() as patch:
        real = json.loads(files("open_clip").joinpath("model_configs", f"{card.model}.json").read_text())
        patch.setitem(factory._MODEL_CONFIGS, card.model, real)
        backbone = build_backbone(name, "full", "random", {}, 0).eval()
    assert sum(p.numel() for p in backbone.parameters()) + 1 == card.parameters
    pixels = torch.randint(0, 256, (2, 256, 256, 3), dtype=torch.uint8)
    with torch.no_grad():
        first, again = (backbone.encode_image({"pixels": pixels}) for _ in range(2))
    assert first.pooled.shape == (2, card.joint_dim) and torch.equal(first.pooled, again.pooled)
    assert first.tokens.shape[1] == {"clip-rn50": 50, "clip-vit-b32": 50, "clip-vit-l14": 257}[name]


# The hub: cache first, then a download; no network and HF_HUB_OFFLINE name the ways out.

FILE = HubFile("owner/repo", ("a.safetensors", "b.bin"))


@pytest.mark.parametrize("offline", [True, False])
def test_no_network_names_the_ways_out(offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(hub, "on_disk", lambda file: None)
    monkeypatch.setattr(hub, "reachable", lambda address: False)
    with pytest.raises(WeightsError) as caught:
        build_backbone("georsclip-vit-b32-ret2", "full", "hub", {}, 0)
    message = str(caught.value)
    for part in (
        GEORSCLIP_VIT_B32_RET2.name,
        "HF_HUB_OFFLINE is set" if offline else "there is no network",
        "--weights FILE",
        "hf download Zilun/GeoRSCLIP ckpt/RS5M_ViT-B-32_RET-2.pt",
        "HF_HOME",
        "--backbone lite",
    ):
        assert part in message
    assert "\n" not in message


def test_unreachable_host_is_seen_without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(hub.socket, "create_connection", refuse)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    assert not hub.reachable("https://hub.example")


def test_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*_: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(hub, "on_disk", lambda file: None)
    monkeypatch.setattr(hub, "reachable", lambda address: True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(WeightsError, match=r"download failed \(RuntimeError\)") as caught:
        hub.fetch(FILE, "mine")
    assert "\n" not in str(caught.value)


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Two repositories' worth of the hub: only ``owner/repo/b.bin`` is there."""

    asked: list[str] = []  # noqa: RUF012
    body = b"weights" * 1000

    def _head(self, method: str) -> bool:
        type(self).asked.append(f"{method} {self.path}")
        there = self.path == "/owner/repo/resolve/main/b.bin"
        self.send_response(200 if there else 404)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(self.body).hexdigest()}"')
        if not there:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(self.body) if there else 0))
        self.end_headers()
        return there

    def do_HEAD(self) -> None:
        self._head("HEAD")

    def do_GET(self) -> None:
        if self._head("GET"):
            self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        return


FETCH = """
import sys
from rsbench.backbones import hub
from rsbench.backbones.card import HubFile
from rsbench.errors import WeightsError
file = HubFile("owner/repo", ("a.safetensors", "b.bin"))
try:
    print(hub.on_disk(file) is not None, hub.fetch(file, "mine"))
except WeightsError as error:
    print("error:", error)
assert "torch" not in sys.modules
"""


def test_download_then_cache_then_offline(tmp_path: Path) -> None:
    """Against a local server: the second name is found, the cache serves afterwards, offline needs no server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    FakeHub.asked.clear()

    def fetch(**more: str) -> str:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        env = {"PATH": "", "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", **more}
        done = subprocess.run([sys.executable, "-c", FETCH], capture_output=True, text=True, check=True, env=env)
        return done.stdout.strip()

    try:
        assert "HF_HUB_OFFLINE is set" in fetch(HF_HUB_OFFLINE="1") and not FakeHub.asked
        known, _, path = fetch().partition(" ")
        assert known == "False" and Path(path).read_bytes() == FakeHub.body
        n = len(FakeHub.asked)
        assert fetch() == fetch(HF_HUB_OFFLINE="1") == f"True {path}" and len(FakeHub.asked) == n
    finally:
        server.shutdown()
        server.server_close()
