"""Fields of a recipe that change how a backbone is tuned: off they change nothing, on they do what they say."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

if importlib.util.find_spec("open_clip") is None:
    pytest.skip("open_clip is not installed", allow_module_level=True)

from rsbench.backbones.base import Backbone
from rsbench.backbones.build import build_backbone
from rsbench.data.dataset import Dataset
from rsbench.errors import UsageError
from rsbench.experiment.spec import RunSpec
from rsbench.methods.base import Method, Setup
from rsbench.methods.build import build_method
from rsbench.noise.index import NoiseSpec
from rsbench.training.checkpoint import read_tensors
from rsbench.training.loop import Hooks, Tick, Trainer
from rsbench.training.pairs import TrainingPairs
from rsbench.training.recipe import COMMON_FULL, COMMON_LORA, Recipe
from rsbench.training.tune import learning_groups, tune

Make = Callable[..., Trainer]
CPU = torch.device("cpu")
NAME = "rsbench-tuning-test"


@pytest.fixture(scope="module", autouse=True)
def _model(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A three-layer CLIP among open_clip's models."""
    import json

    from rsbench.backbones.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import open_clip

    vision = {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3}
    folder = tmp_path_factory.mktemp("models")
    config = {"embed_dim": 8, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (folder / f"{NAME}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def clip(tuning: str = "full") -> Any:
    return build_backbone("openclip", tuning, "random", {"model": NAME}, 0)


def made(backbone: Backbone, name: str = "infonce", **params: Any) -> Method:
    return build_method(name, "full", params, backbone, Setup(24, 2, 8, 2))


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(
        name="pixels",
        fingerprint="p" * 64,
        images=rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8),
        images_hash="0" * 64,
        filenames=tuple(f"{i}.png" for i in range(12)),
        captions=tuple(f"{w} of {i}" for i in range(12) for w in ("a picture", "one view")),
        caption_image=np.repeat(np.arange(12), 2),
        image_class=np.arange(12) % 2,
        classes=("a", "b"),
        splits={"official": {"train": np.arange(12)}},
    )


def clip_trainer(data: Dataset, folder: Path, recipe: Recipe, tuning: str = "full", **hooks: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    method = made(clip(tuning))
    pairs = TrainingPairs(
        data,
        data.pairs("official", "train"),
        method.backbone.inputs(data, folder),
        recipe.batch_size,
        CPU,
    )
    filled = {
        "validate": lambda m: {"mr": float(sum(p.detach().norm() for p in m.parameters()))},
        "judge": lambda records, epoch: {},
        "keep": lambda records, epoch: None,
        "log": lambda line: None,
        "tick": lambda tick: None,
        **hooks,
    }
    return Trainer(method, pairs, recipe, seed=3, precision="fp32", folder=folder, hooks=Hooks(**filled))


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(v, other[k]) for k, v in a.state_dict().items())


def test_a_spec_at_the_defaults_keeps_its_hash() -> None:
    plain = RunSpec("d", "s", NoiseSpec(), "b", "full", "w", "m", "full", Recipe(), 0)
    held = plain.as_dict()["recipe"]
    younger = {"backbone_lr_scale", "freeze", "grad_checkpoint", "ema", "crop", "flip", "chunk_size"}
    assert not younger & held.keys()
    for field, value in {
        "backbone_lr_scale": 0.1,
        "freeze": 1,
        "grad_checkpoint": True,
        "ema": 0.9,
        "crop": 0.5,
        "flip": True,
        "chunk_size": 16,
    }.items():
        spec = RunSpec("d", "s", NoiseSpec(), "b", "full", "w", "m", "full", Recipe(**{field: value}), 0)
        assert spec.hash != plain.hash and RunSpec.from_dict(spec.as_dict()) == spec


def test_pretrained_parameters_have_their_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = clip()
    method = made(backbone, learn_tau=True)
    towers = set(backbone.parameters())
    with pytest.raises(UsageError, match=r"backbone_lr_scale: .* trains nothing that was pretrained"):
        learning_groups(method, Recipe(backbone_lr_scale=0.1))
    monkeypatch.setattr(backbone, "weights", "hub")
    scales = {
        p: (g.get("lr_scale", 1.0), g.get("decay", True))
        for g in learning_groups(method, Recipe(backbone_lr_scale=0.1))
        for p in g["params"]
    }
    assert scales.keys() == {p for p in method.parameters() if p.requires_grad}
    for parameter, (scale, decays) in scales.items():
        assert scale == (0.1 if parameter in towers else 1.0) and decays == (parameter.ndim >= 2)
    assert any(s == 1.0 for s, _ in scales.values())
    names = [g["name"] for g in learning_groups(method, Recipe())]
    assert names == ["matrices", "vectors"], "untouched at scale 1"


def test_a_rate_of_zero_leaves_the_towers_as_they_are(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsbench.backbones.openclip.OpenClip.pretrained", lambda self: (self.clip,))
    recipe = Recipe(batch_size=8, epochs=1, backbone_lr_scale=0.0)
    trainer = clip_trainer(data, tmp_path, recipe)
    before = {k: v.clone() for k, v in trainer.method.backbone.state_dict().items()}
    trainer.fit()
    assert all(torch.equal(v, before[k]) for k, v in trainer.method.backbone.state_dict().items())


def test_frozen_blocks_and_embeddings_stay_and_the_rest_learns(data: Dataset, tmp_path: Path) -> None:
    trainer = clip_trainer(data, tmp_path, Recipe(batch_size=8, epochs=1, freeze=2))
    before = {k: v.clone() for k, v in trainer.method.named_parameters()}
    trainer.fit()
    moved = {k for k, v in trainer.method.named_parameters() if not torch.equal(v, before[k])}
    held = before.keys() - moved
    stems = ("class_embedding", "positional_embedding", "conv1.weight", "ln_pre.weight", "token_embedding.weight")
    assert {k for k in held if "resblocks" in k} == {k for k in before if "resblocks.0." in k or "resblocks.1." in k}
    assert {s for s in stems for k in held if k.endswith(s)} == set(stems)
    assert {k.rpartition("clip.")[2] for k in moved if "resblocks" not in k} >= {"visual.proj", "text_projection"}
    assert not {k for k in moved if "resblocks" not in k} & {k for k in before if k.endswith(stems)}


def test_frozen_blocks_keep_their_dropout_off() -> None:
    backbone = clip()
    backbone.blocks("image")[0].mlp.add_module("drop", nn.Dropout(0.5))
    tune(made(backbone), Recipe(freeze=1))
    backbone.train(True)
    assert not any(m.training for m in backbone.blocks("image")[0].modules())
    assert backbone.blocks("image")[1].training and backbone.training


def test_more_frozen_blocks_than_there_are() -> None:
    with pytest.raises(UsageError, match=r"recipe.freeze is 4, but the image tower of .* has 3 layers"):
        tune(made(clip()), Recipe(freeze=4))


@pytest.mark.parametrize("recipe", [Recipe(freeze=1), Recipe(grad_checkpoint=True)])
def test_a_backbone_without_blocks(recipe: Recipe) -> None:
    tiny = build_backbone("tiny", "full", "", {"size": 16, "width": 8, "dim": 8}, 0)
    with pytest.raises(UsageError, match="needs towers with layers, which backbone 'tiny' with tuning 'full'"):
        tune(made(tiny), recipe)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_checkpointed_blocks_give_the_same_weights_with_dropout(data: Dataset, tmp_path: Path, tuning: str) -> None:
    found = []
    for flag in (False, True):
        trainer = clip_trainer(data, tmp_path / f"{flag}", Recipe(batch_size=8, epochs=1, grad_checkpoint=flag), tuning)
        for modality in ("image", "text"):
            trainer.method.backbone.blocks(modality)[1].ln_2 = nn.Sequential(
                trainer.method.backbone.blocks(modality)[1].ln_2, nn.Dropout(0.3)
            )
        trainer.fit()
        found.append(trainer.method)
    assert same(*found)


def test_checkpointed_blocks_keep_fewer_tensors_and_see_adapters_by_hook() -> None:
    kept: dict[bool, int] = {}
    found: dict[bool, list[torch.Tensor]] = {}
    for flag in (False, True):
        backbone = clip()
        tune(made(backbone), Recipe(grad_checkpoint=flag))
        sizes: list[int] = []
        handle = backbone.blocks("image")[0].register_forward_hook(lambda block, given, output: output * 1.5)
        pixels = torch.full((2, 32, 32, 3), 90, dtype=torch.uint8)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            image = backbone.encode_image({"pixels": pixels})
        handle.remove()  # before the backward pass, as adapters that last for one forward pass
        image.pooled.square().sum().backward()
        kept[flag] = sum(sizes)
        found[flag] = [p.grad for p in backbone.clip.visual.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(found[False], found[True], strict=True))
    assert kept[True] < kept[False] / 2


class Weights:
    """Weights after every step, as plain copies."""

    def __init__(self, trainer: Trainer) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []
        step = trainer.step

        def spying(batch: Any, stepper: Any) -> Any:
            loss = step(batch, stepper)
            self.steps.append({k: v.detach().clone() for k, v in trainer.method.named_parameters()})
            return loss

        trainer.step = spying


def test_the_average_is_validated_kept_and_left_in_the_method(make_trainer: Make, tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def validate(method: Method) -> dict[str, float]:
        seen.append({k: v.detach().clone() for k, v in method.named_parameters()})
        return {"mr": float(len(seen))}

    recipe = Recipe(batch_size=16, epochs=3, ema=0.7)
    trainer = make_trainer(tmp_path, recipe=recipe, validate=validate)
    average = {k: v.detach().clone() for k, v in trainer.method.named_parameters()}
    live = Weights(trainer)
    trainer.fit()
    expected = []
    for i, weights in enumerate(live.steps):
        average = {k: 0.7 * average[k] + 0.3 * v for k, v in weights.items()}
        if i % 3 == 2:
            expected.append(average)
    assert len(expected) == len(seen) == 3
    for ours, theirs in zip(seen, expected, strict=True):
        assert all(torch.allclose(v, theirs[k], atol=1e-6) for k, v in ours.items())
    last = dict(trainer.method.named_parameters())
    assert all(torch.allclose(v, last[k], atol=1e-6) for k, v in expected[-1].items()), "tested at the last epoch"
    assert all(torch.allclose(v, trainer.best[k], atol=1e-6) for k, v in expected[-1].items()), "kept as the best"
    assert any(not torch.allclose(live.steps[-1][k], v, atol=1e-4) for k, v in last.items())


def test_the_average_does_not_change_the_training_itself(make_trainer: Make, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = make_trainer(tmp_path / "a", recipe=Recipe(batch_size=16, epochs=3))
    averaged = make_trainer(tmp_path / "b", recipe=Recipe(batch_size=16, epochs=3, ema=0.9))
    plain.fit()
    live = Weights(averaged)
    averaged.fit()
    assert all(torch.equal(v, live.steps[-1][k]) for k, v in plain.method.named_parameters())
    tensors, _ = read_tensors(tmp_path / "b/checkpoint.safetensors")
    assert any(k.startswith("average.") for k in tensors)
    assert not any(k.startswith("average.") for k in read_tensors(tmp_path / "a/checkpoint.safetensors")[0])


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    yield a, b


def killed(epoch: int) -> Callable[[Tick], None]:
    def die(tick: Tick) -> None:
        if tick.epoch == epoch:
            raise KeyboardInterrupt

    return die


@pytest.mark.parametrize("name", ["infonce", "srem"])
@pytest.mark.parametrize("at", [1, 5, 7])
def test_an_averaged_run_resumes_to_the_same_bytes(
    make_trainer: Make, folders: tuple[Path, Path], name: str, at: int
) -> None:
    """srem restarts its optimizer after warm-up; at 7 only the end is left to do again."""
    recipe = Recipe(batch_size=16, epochs=7, ema=0.8)
    whole = make_trainer(folders[0], name, recipe)
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(folders[1], name, recipe, tick=killed(at)).fit()
    resumed = make_trainer(folders[1], name, recipe)
    resumed.fit()
    assert same(whole.method, resumed.method) and whole.state.history == resumed.state.history
    assert all(torch.equal(v, resumed.best[k]) for k, v in whole.best.items())
    finished = make_trainer(folders[1], name, recipe)
    finished.fit()
    assert same(whole.method, finished.method), "killed after the last epoch: the average is put in place again"


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_tuned_run_resumes_to_the_same_bytes(data: Dataset, tmp_path: Path, tuning: str) -> None:
    recipe = Recipe(batch_size=8, epochs=2, freeze=1, grad_checkpoint=True, ema=0.5, chunk_size=3)
    whole = clip_trainer(data, tmp_path / "a", recipe, tuning)
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        clip_trainer(data, tmp_path / "b", recipe, tuning, tick=killed(1)).fit()
    resumed = clip_trainer(data, tmp_path / "b", recipe, tuning)
    resumed.fit()
    assert same(whole.method, resumed.method) and whole.state.history == resumed.state.history


def test_the_common_recipe_of_low_rank_updates() -> None:
    assert COMMON_LORA.lr > 10 * COMMON_FULL.lr and COMMON_LORA.epochs == COMMON_FULL.epochs


@pytest.mark.parametrize("fields", [{"ema": 1.0}, {"ema": -0.1}, {"freeze": -1}, {"backbone_lr_scale": -1.0}])
def test_bad_values(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"recipe.{next(iter(fields))}"):
        Recipe(**fields)
