"""``rsbench list backbones`` and ``describe``: what is installed, what needs the hub, what is local."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rsbench import registry
from rsbench.cli.app import main

if registry.BACKBONES.entry("clip-rn50").missing:
    pytest.skip("open_clip is not installed", allow_module_level=True)


def put_in_cache(cache: Path, repository: str, name: str) -> None:
    """A file as huggingface_hub lays it down: a reference to a revision, and the revision's folder."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("f" * 40)
    file = folder / "snapshots" / ("f" * 40) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_states(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    put_in_cache(cache, "Zilun/GeoRSCLIP", "ckpt/RS5M_ViT-B-32.pt")
    put_in_cache(cache, "timm/resnet50_clip.openai", "open_clip_pytorch_model.bin")
    assert main(["list", "backbones", "--json", "--root", str(tmp_path)]) == 0
    states = {r["name"]: r["state"] for r in json.loads(capsys.readouterr().out)["backbones"]}
    assert states["toy"] == states["tiny"] == "installed"
    assert states["georsclip-vit-b32"] == states["clip-rn50"] == "installed, weights local"
    for name in ("georsclip-vit-b32-ret2", "remoteclip-vit-l14", "clip-vit-b32"):
        assert states[name] == "installed, needs the hub"


def test_describe_tells_what_a_checkpoint_is(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["describe", "remoteclip-rn50", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for part in (
        "chendelong/RemoteCLIP",
        "RemoteCLIP-RN50.pt",
        "102007137",
        "1024",
        "quick_gelu",
        "training captions of RSICD, RSITMD and UCM",
        "installed, needs the hub",
    ):
        assert part in shown


def test_neither_torch_nor_open_clip_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from rsbench.cli.app import main\n"
        f"assert main(['list', 'backbones', '--root', {str(tmp_path)!r}]) == 0\n"
        f"assert main(['describe', 'clip-vit-l14', '--root', {str(tmp_path)!r}]) == 0\n"
        "print({'torch', 'open_clip', 'timm', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "set()"
