"""What every backbone that can be built offline must do."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_clip import CHECKPOINTS, register, shrunk
from small_towers import CASES as TOWERS

from rsbench.backbones.base import PAD, Backbone, Features
from rsbench.backbones.build import build_backbone
from rsbench.backbones.cards.own import LITE
from rsbench.backbones.resolve import resolve_backbone
from rsbench.data.dataset import Dataset
from rsbench.errors import UnknownNameError, UsageError, WeightsError
from rsbench.registry import BACKBONES

CPU = torch.device("cpu")
HEADS = {"hidden": 16, "dim": 8, "words": 6}
CASES = {
    "toy": ("toy", "heads", "", {"hidden": 16, "dim": 8}, 48),
    "tiny": ("tiny", "full", "", {"size": 16, "width": 8, "dim": 8}, 24),
    "lite-heads": ("lite", "heads", "", {"hidden": 16, "dim": 8, "size": 64, "grid": 2}, 64),
    "lite-pca": ("lite", "heads", "", {"hidden": 16, "dim": 8, "size": 64, "grid": 2, "pca": 6}, 64),
    "lite-full": ("lite", "full", "", {"hidden": 16, "dim": 8, "size": 64, "grid": 2, "flip": True}, 64),
    "openclip": ("openclip", "full", "random", {"model": "rsbench-test"}, 32),
    **{name: (name, "full", "random", {}, side) for name, side in CHECKPOINTS.items()},
    "clip-vit-b32-lora": ("clip-vit-b32", "lora", "random", {"rank": 2}, CHECKPOINTS["clip-vit-b32"]),
    "openclip-heads": ("openclip", "heads", "random", {"model": "rsbench-test", **HEADS}, 32),
    "openclip-resnet-heads": ("openclip", "heads", "random", {"model": "RN50-quickgelu", **HEADS}, 64),
    **TOWERS,
}


@pytest.fixture(scope="module")
def small_clip() -> Iterator[None]:
    """A two-layer CLIP among open_clip's models, and small twins of the checkpoints."""
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed")
    register()
    with shrunk():
        yield


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest, small_clip: None, small_towers: None) -> tuple:
    name, tuning, weights, params, side = CASES[request.param]
    entry = BACKBONES.entry(name)
    if entry.missing:
        pytest.skip(f"{name} needs {entry.missing}")
    if name == "toy" and importlib.util.find_spec("rsbench.backbones.toy") is None:
        pytest.skip("toy is not built yet")
    return name, tuning, weights, params, side


def build(case: tuple, seed: int = 0) -> Backbone:
    name, tuning, weights, params, _ = case
    return build_backbone(name, tuning, weights, params, seed)


@pytest.fixture
def data(case: tuple, fake) -> Dataset:
    return fake(side=case[4])


def encode(backbone: Backbone, data: Dataset, cache: Path, tokens: bool) -> tuple[Features, Features]:
    inputs = backbone.inputs(data, cache, tokens=tokens)
    ids = torch.arange(5)
    return backbone.encode_image(inputs.images(ids, CPU)), backbone.encode_text(inputs.texts(ids, CPU))


def test_contract(case: tuple, data: Dataset, tmp_path: Path, fake) -> None:
    """Shapes, kinds, gradients, and a checkpoint that alone reads another dataset."""
    backbone = build(case)
    backbone.fit(data, "official", tmp_path)
    tokens = "tokens" in backbone.capabilities
    image, text = encode(backbone, data, tmp_path, tokens)
    for found in (image, text):
        assert found.pooled.shape == (5, backbone.dim) and torch.isfinite(found.pooled).all()
        if tokens:
            assert found.tokens.shape[0] == 5 and found.tokens.shape[2] == backbone.dim
            assert found.kind.dtype == torch.int8 and found.kind.shape == found.tokens.shape[:2]
            assert set(found.kind.unique().tolist()) <= {0, 1, 2}
            assert ((found.kind != PAD).sum(1) > 0).all()
        assert ("hidden" in backbone.capabilities) == (found.hidden is not None)
    (image.pooled.sum() + text.pooled.sum()).backward()
    idle = [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle, f"no gradient reaches {idle}"
    _other_dataset_by_checkpoint(case, backbone, fake(seed=1, side=case[4]), tmp_path, tokens)


def _other_dataset_by_checkpoint(case: tuple, backbone: Backbone, other: Dataset, tmp_path: Path, tokens: bool) -> None:
    file = tmp_path / "backbone.safetensors"
    save_file({k: v.contiguous() for k, v in backbone.state_dict().items()}, file)
    twin = build(case, seed=1)
    twin.load_state_dict(load_file(file))
    with torch.no_grad():
        ours = encode(backbone.eval(), other, tmp_path / "a", tokens)
        theirs = encode(twin.eval(), other, tmp_path / "b", tokens)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.pooled, b.pooled)
        assert a.tokens is None or torch.equal(a.tokens, b.tokens)


def test_projected_states_are_the_features(case: tuple, data: Dataset, tmp_path: Path) -> None:
    """``project_*`` of hidden states reproduces ``encode_*``, with and without tokens, and blocks lead to them."""
    backbone = build(case).eval()
    if "hidden" not in backbone.capabilities:
        pytest.skip("no hidden states")
    backbone.fit(data, "official", tmp_path)
    inputs, ids = backbone.inputs(data, tmp_path, tokens=True), torch.arange(5)
    for modality, x in (("image", inputs.images(ids, CPU)), ("text", inputs.texts(ids, CPU))):
        encode, states, project = (
            getattr(backbone, n.format(modality)) for n in ("encode_{}", "{}_states", "project_{}")
        )
        with torch.no_grad():
            found, (hidden, kind) = encode(x), states(x)
            assert torch.equal(hidden, found.hidden) and torch.equal(kind, found.kind)
            again, short = project(hidden, kind), project(hidden, kind, tokens=False)
            assert torch.equal(again.pooled, found.pooled) and torch.equal(again.tokens, found.tokens)
            assert torch.allclose(short.pooled, found.pooled, atol=1e-5)
            assert not torch.allclose(project(hidden + torch.randn_like(hidden), kind).pooled, found.pooled)
        assert hidden.shape == (*kind.shape, backbone.width(modality))
        _blocks_end_in_the_states(backbone, modality, states, x)


def _blocks_end_in_the_states(backbone: Backbone, modality: str, states: Callable, x: dict) -> None:
    if "blocks" not in backbone.capabilities:
        with pytest.raises(TypeError):
            backbone.blocks(modality)
        return
    seen: list[torch.Tensor] = []
    handle = backbone.blocks(modality)[-1].register_forward_hook(lambda block, given, output: seen.append(output))
    with torch.no_grad():
        hidden, kind = states(x)
    handle.remove()
    assert len(seen) == 1 and torch.equal(seen[0], hidden)
    assert modality == "image" or torch.equal(backbone.text_kind(x), kind)


def test_seed_decides_the_initial_weights(case: tuple) -> None:
    torch.manual_seed(1)
    a, b, c = (build(case, seed=s) for s in (3, 3, 4))
    first, again, other = (m.state_dict() for m in (a, b, c))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_eval_features_do_not_depend_on_the_batch(case: tuple, data: Dataset, tmp_path: Path) -> None:
    backbone = build(case).eval()
    backbone.fit(data, "official", tmp_path)
    inputs = backbone.inputs(data, tmp_path)
    with torch.no_grad():
        whole = backbone.encode_image(inputs.images(torch.arange(6), CPU)).pooled
        one = backbone.encode_image(inputs.images(torch.tensor([3]), CPU)).pooled
        text_whole = backbone.encode_text(inputs.texts(torch.arange(6), CPU)).pooled
        text_one = backbone.encode_text(inputs.texts(torch.tensor([3]), CPU)).pooled
    assert torch.allclose(whole[3], one[0], atol=1e-4)
    assert torch.allclose(text_whole[3], text_one[0], atol=1e-4)


WRONG = [
    (("tinny", "", "", {}), UnknownNameError, "did you mean tiny"),
    (("tiny", "lora", "", {}), UnknownNameError, "unknown tuning of backbone 'tiny' 'lora'"),
    (("tiny", "", "hub", {}), WeightsError, "unknown weights 'hub'"),
    (("openclip", "", "no/such.pt", {}), WeightsError, "are no kind and no file"),
    (("openclip", "", "path", {}), WeightsError, "are no kind and no file"),
    (("tiny", "", "", {"widht": 3}), UnknownNameError, "did you mean width"),
    (("tiny", "", "", {"width": "many"}), UsageError, "must be a whole number, for example 32"),
    (("tiny", "", "", {"width": 1.5}), UsageError, "must be a whole number"),
    (("lite", "", "", {"flip": "perhaps"}), UsageError, "must be true or false"),
    (("lite", "", "", {"dropout": "x"}), UsageError, "must be a number"),
    (("lite", "", "", {"flip": True}), UsageError, "backbone.flip works with tuning 'full'"),
    (("lite", "full", "", {"pca": 3}), UsageError, "backbone.pca works with tuning 'heads'"),
]


@pytest.mark.parametrize(("given", "error", "message"), WRONG)
def test_wrong_requests(given: tuple, error: type[Exception], message: str) -> None:
    if BACKBONES.entry("lite").missing and given[0] == "lite":
        pytest.skip("lite is not installed")
    with pytest.raises(error) as caught:
        build_backbone(*given, seed=0)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_strings_are_cast_to_the_type_of_the_default() -> None:
    if BACKBONES.entry("lite").missing:
        pytest.skip("lite is not installed")
    params = {"hidden": "64", "dropout": "0", "flip": "no"}
    card, tuning, weights, found = resolve_backbone("lite", params=params)
    assert (card, tuning, weights) == (LITE, "heads", "bundled")
    assert (found["hidden"], found["dropout"], found["flip"]) == (64, 0.0, False)
    assert isinstance(found["dropout"], float) and set(found) == set(LITE.params)


def test_cards_name_what_can_be_loaded() -> None:
    for name in BACKBONES.names():
        module = importlib.import_module(BACKBONES.entry(name).target.partition(":")[0])
        known = [c for c in vars(module).values() if getattr(c, "name", None) == name]
        assert len(known) == 1 and known[0].capabilities and known[0].weights and ":" in known[0].target


def test_resolving_imports_no_torch() -> None:
    code = "import sys, rsbench.backbones.resolve as r\nr.resolve_backbone('tiny')\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
