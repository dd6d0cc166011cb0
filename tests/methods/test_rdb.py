"""RDB: the whole loss by hand, variants, teacher, freezing, placements, missing classes."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from rsbench.backbones.adapters.bottleneck import CrossModalAdapter, PlainAdapter
from rsbench.backbones.base import PAD, Backbone
from rsbench.backbones.build import build_backbone
from rsbench.errors import CapabilityError, UsageError
from rsbench.methods.averaging import AveragedCopy
from rsbench.methods.base import Batch, Loss, Setup
from rsbench.methods.build import build_method, load_card, resolve_params
from rsbench.methods.cards.rdb import CARD, RdbParams
from rsbench.methods.probe import BATCH, CLASSES, Probe, ProbeBackbone, make_batch
from rsbench.methods.rdb import Rdb

SETUP = Setup(n_pairs=24, n_classes=CLASSES, batch_size=BATCH, epochs=3)


def stirred(method: Rdb, seed: int = 5) -> Rdb:
    """The method with every parameter moved, so that no part is silent."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return method


def build(variant: str = "full", backbone: Backbone | None = None, setup: Setup = SETUP, **params) -> Rdb:
    torch.manual_seed(3)
    method = build_method("rdb", variant, params, backbone or ProbeBackbone(), setup)
    assert isinstance(method, Rdb)
    return method


def batch(n: int = 6) -> Batch:
    found = make_batch(torch.arange(n), "train")
    return dataclasses.replace(found, label=torch.tensor([0, 2, -1, 1, 0, -1, 1, 2])[:n])


def loss_of(method: Rdb, x: Batch) -> Loss:
    return method.loss(method.encode(x), x)


# The loss by hand


def cos(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def cross_entropy(logits, label):
    return math.log(sum(math.exp(v) for v in logits)) - logits[label]


def twin(images, texts, teachers, label, logits, p: RdbParams, sigma):
    """Eq. 10-14 in plain floats; ``logits`` are those of both class heads."""
    n, terms = len(images), {}
    s = [[cos(a, b) for b in texts] for a in images]
    hinges = []
    for i in range(n):
        rows = [max(0.0, p.mu - s[i][i] + s[i][j]) for j in range(n) if j != i]
        columns = [max(0.0, p.mu - s[i][i] + s[j][i]) for j in range(n) if j != i]
        hinges.append(max(rows) + max(columns) if p.hardest else sum(rows) + sum(columns))
    terms["cross"] = sum(hinges) / n
    known = [i for i in range(n) if label[i] >= 0]
    if p.loss in ("full", "cross+cls"):
        found = [cross_entropy(side[i], label[i]) for side in logits for i in known]
        terms["cls"] = sum(found) / len(known) if known else 0.0
    if p.loss in ("full", "cross+consist"):
        far = [2 - 2 * cos(a, b) for a, b in zip(images, teachers, strict=True)]
        terms["consist"] = sum(far) / n / (len(images[0]) if p.consist_reduce == "mse" else 1)
    if p.weights == "equal" or len(terms) == 1:
        return sum(terms.values()), terms
    parts = [v / (2 * g * g) + math.log(1 + g * g) for v, g in zip(terms.values(), sigma, strict=True)]
    return sum(parts), terms


SETTINGS = {
    **{f"variant {name}": (name, {}) for name in CARD.variants},
    "hardest": ("full", {"hardest": True}),
    "mse": ("full", {"consist_reduce": "mse"}),
    "no average": ("full", {"ema": False}),
    "one head": ("full", {"cls_share_head": True}),
    "other numbers": ("full", {"mu": 0.45, "sigma": 0.6, "r": 4}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_loss_equals_its_twin(name: str) -> None:
    variant, params = SETTINGS[name]
    method, x = stirred(build(variant, **params)).double().eval(), batch()
    x.images["hidden"], x.texts["hidden"] = x.images["hidden"].double(), x.texts["hidden"].double()
    encoded = method.encode(x)
    loss = method.loss(encoded, x)
    image, text = encoded.image.pooled, encoded.text.pooled
    logits = [] if method.heads is None else [method.heads[0][1](image).tolist(), method.heads[-1][1](text).tolist()]
    teacher = encoded.extra.get("teacher", text).tolist()
    sigma = [] if method.weights is None else method.weights.sigma.tolist()
    total, terms = twin(image.tolist(), text.tolist(), teacher, x.label.tolist(), logits, method.params, sigma)
    assert loss.total.item() == pytest.approx(total, rel=1e-9)
    for term, value in terms.items():
        assert loss.terms[term].item() == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert ("teacher" in encoded.extra) == (method.params.ema and "consist" in terms)


def test_vector_6_class_loss() -> None:
    found = functional.cross_entropy(
        torch.tensor([[2, 0, -1], [0.5, 1.5, 0]], dtype=torch.float64), torch.tensor([0, 1]), reduction="none"
    )
    assert found.tolist() == pytest.approx([0.169846, 0.464369], abs=1e-6)
    assert [cross_entropy([2, 0, -1], 0), cross_entropy([0.5, 1.5, 0], 1)] == pytest.approx(found.tolist(), abs=1e-9)


@pytest.mark.parametrize("variant", [v for v in CARD.variants if v != "full"])
def test_each_variant_differs_from_full(variant: str) -> None:
    x = batch()
    losses = [loss_of(stirred(build(v)).eval(), x).total.item() for v in ("full", variant)]
    assert abs(losses[0] - losses[1]) > 1e-4


def test_parts_a_variant_leaves_out() -> None:
    built = {v: build(v) for v in CARD.variants}
    adapters = {v: [a for a in m.modules() if isinstance(a, PlainAdapter)] for v, m in built.items()}
    assert not adapters["full_ft"] and len(adapters["full"]) == 2
    assert not any(isinstance(a, CrossModalAdapter) for a in adapters["symmetric_adapter"])
    assert all(a.shared is None and a.gate is None for a in adapters["no_shared"])
    first, second = adapters["full"]
    assert first.shared is second.shared and first.gate is not second.gate
    assert built["no_dtcl"].weights is None and built["equal_weights"].weights is None
    assert built["no_cls"].heads is None and built["cross+cls"].teacher is None
    assert CARD.variants["no_cls"] == CARD.variants["cross+consist"]


def test_history_has_the_curves_of_the_card() -> None:
    loss = loss_of(build(), batch())
    names = {"cross", "cls", "consist", "lam", "gate_image", "gate_text"}
    assert names | {f"weight_{n}" for n in ("cross", "cls", "consist")} == set(loss.terms)
    assert loss.terms["weight_cls"].item() == pytest.approx(0.5)
    assert loss.terms["gate_text"].item() == pytest.approx(1 / (1 + math.exp(-0.6)))
    assert set(loss.records) == {"cross", "cls", "consist"}
    assert not loss.records["cls"][batch().label < 0].any()


def test_clean_score_is_the_own_similarity() -> None:
    method, x = build().eval(), batch()
    encoded = method.encode(x)
    own = functional.cosine_similarity(encoded.image.pooled, encoded.text.pooled)
    assert torch.allclose(method.loss(encoded, x).clean_score, own, atol=1e-6)


# Classes


def test_dataset_without_classes_is_refused_in_one_line() -> None:
    none = dataclasses.replace(SETUP, n_classes=0)
    for variant in ("full", "cross+cls"):
        with pytest.raises(UsageError) as caught:
            build(variant, setup=none)
        message = str(caught.value)
        assert "--method rdb:no_cls" in message and "method.loss=cross+consist" in message and "\n" not in message
    for variant in ("no_cls", "no_dtcl", "cross+consist", "full_ft"):
        assert loss_of(build(variant, setup=none), batch()).total.isfinite()


def test_batch_of_unknown_classes_has_no_class_loss() -> None:
    x = dataclasses.replace(batch(), label=torch.full((6,), -1))
    method = build()
    loss = loss_of(method, x)
    assert loss.terms["cls"].item() == 0
    loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    assert not method.heads[0][1].weight.grad.any()


# Teacher


def test_averaged_copy_by_hand() -> None:
    layer = torch.nn.Linear(2, 1, bias=False)
    start = layer.weight.detach().clone()
    copy_ = AveragedCopy([layer.weight], 0.9)
    with torch.no_grad():
        layer.weight.add_(1)
    copy_.update()
    assert torch.allclose(copy_.averages()[0], start + 0.1)
    with copy_.in_place():
        assert torch.allclose(layer.weight, start + 0.1)
    assert torch.allclose(layer.weight, start + 1) and torch.allclose(copy_.averages()[0], start + 0.1)


def test_teacher_is_the_averaged_text_branch_without_dropout() -> None:
    method, x = stirred(build()), batch()
    started = copy.deepcopy(method).eval()
    started.teacher = None
    with torch.no_grad():
        for p, average in zip(method.teacher._live, method.teacher.averages(), strict=True):
            p.add_(0.2 * torch.randn_like(p))
            average.copy_(p - 0.01)
    averaged = copy.deepcopy(method)
    with torch.no_grad():
        for p in averaged.teacher._live:
            p.sub_(0.01)
    expected = averaged.eval().encode_texts(x.texts).pooled
    before = [p.detach().clone() for p in method.parameters()]
    teacher = method.train().encode(x).extra["teacher"]
    assert torch.allclose(teacher, expected, atol=1e-5) and not teacher.requires_grad and method.training
    assert all(torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True))
    assert not torch.allclose(teacher, method.eval().encode_texts(x.texts).pooled)


def test_consistency_trains_the_image_side_alone() -> None:
    method, x = stirred(build(ema=False)).eval(), batch()
    encoded = method.encode(x)
    method._rows(method.similarity(encoded.image, encoded.text), encoded, x)["consist"].sum().backward()
    reached = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(n.startswith("adapters.image") for n in reached) and "backbone.image.weight" in reached
    assert not any(n.startswith("backbone.text") or "attention.word" in n for n in reached)


def test_teacher_leaves_no_cast_weights_behind_under_autocast() -> None:
    """The student reads its own weights, with gradients, though the teacher ran first in the same context."""
    method, x = stirred(build()).eval(), batch()
    for average in method.teacher.averages():
        average.zero_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = method.encode_texts(x.texts).pooled
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded = method.encode(x)
        assert torch.equal(encoded.text.pooled, expected) and not encoded.extra["teacher"].any()
        loss = method.loss(encoded, x)
    loss.total.backward()
    assert method.backbone.text.weight.grad.any() and method.adapters["text"][0].down.weight.grad.any()


def test_teacher_moves_after_every_step() -> None:
    method = build(ema_decay=0.5)
    start = [a.clone() for a in method.teacher.averages()]
    with torch.no_grad():
        for p in method.parameters():
            p.add_(1)
    method.after_step()
    assert all(torch.allclose(a, b + 0.5) for a, b in zip(method.teacher.averages(), start, strict=True))


# Weight decay, options


def test_scalars_and_vectors_go_without_decay() -> None:
    method = build()
    decayed = {id(p) for g in method.param_groups() if g.get("decay", True) for p in g["params"]}
    free = [p for n, p in method.named_parameters() if n.rsplit(".", 1)[-1] in ("sigma", "q", "context", "bias")]
    assert free and not any(id(p) in decayed for p in free)


def test_width_follows_narrow_towers() -> None:
    adapter = build().adapters["image"][0]
    assert adapter.down.out_features == 12 and build(r=8).adapters["text"][0].down.out_features == 8
    assert build(da_heads=4).adapters["image"][0].down.out_features == 8
    with pytest.raises(UsageError, match=r"method\.da_heads=1"):
        build(da_heads=8)
    with pytest.raises(UsageError, match="multiple of 2"):
        build(r=7)


@pytest.mark.parametrize("params", [{"shared": "harma"}, {"da_heads": 2, "da_subln": True}, {"shared": "none"}])
def test_options_change_the_features(params: dict) -> None:
    x = batch()
    full, other = stirred(build()).eval(), stirred(build(**params)).eval()
    assert not torch.allclose(full.encode_images(x.images).pooled, other.encode_images(x.images).pooled)
    probe = Probe.of("rdb", "full", params)
    for _ in range(3):
        probe.train_epoch()
    assert not {n for n, p in probe.method.named_parameters() if p.requires_grad} - probe.reached


def test_needs_follow_the_options() -> None:
    found = {
        v: CARD.needs_of(resolve_params(CARD, v, p))
        for v, p in (("full", {}), ("symmetric_adapter", {"placement": "per_block"}), ("full_ft", {}))
    }
    assert found == {"full": {"hidden"}, "symmetric_adapter": {"hidden", "blocks"}, "full_ft": frozenset()}
    with pytest.raises(CapabilityError, match="blocks"):
        build(placement="per_block")


def test_card_agrees_with_the_paper() -> None:
    p, recipe = RdbParams(), CARD.paper_recipe
    assert (p.mu, p.dropout, p.r, p.ema_decay) == (0.2, 0.2, 128, 0.999) and load_card("rdb") is CARD
    assert (recipe["optimizer"], recipe["lr"], recipe["batch_size"], recipe["epochs"]) == ("adam", 2e-4, 32, 30)
    assert (recipe["decay_epochs"], recipe["decay_factor"]) == ((20,), 0.7)
    assert len(CARD.searched) == 6 and {"mu": 0.2} in CARD.searched


# Step 0 and placements on backbones


@pytest.mark.parametrize("params", [{}, {"adapter": "plain"}, {"shared": "harma"}, {"shared": "none"}])
def test_step_0_equals_the_plain_backbone(params: dict) -> None:
    x = batch()
    method = build(**params).eval()
    assert torch.equal(method.encode_images(x.images).pooled, method.backbone.encode_image(x.images).pooled)
    assert torch.equal(method.encode_texts(x.texts).pooled, method.backbone.encode_text(x.texts).pooled)


def test_padding_never_matters() -> None:
    method, x = stirred(build()).eval(), batch()
    changed = dict(x.texts)
    changed["hidden"] = x.texts["hidden"].clone()
    changed["hidden"][x.texts["kind"] == PAD] += 7
    assert torch.allclose(method.encode_texts(x.texts).pooled, method.encode_texts(changed).pooled, atol=1e-6)


@pytest.fixture
def clip(tmp_path: Path) -> Callable[[bool], Backbone]:
    """Maker of a two-layer CLIP whose weights count as pretrained, or not."""
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed")
    from safetensors.torch import save_file

    from rsbench.backbones.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import open_clip

    config = (
        '{"embed_dim": 8, "quick_gelu": true, "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, '
        '"heads": 2, "layers": 2}, "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, '
        '"patch_size": 16}}'
    )
    (tmp_path / "rsbench-rdb.json").write_text(config)
    open_clip.add_model_config(tmp_path)

    def make(pretrained: bool = True) -> Backbone:
        random = build_backbone("openclip", "full", "random", {"model": "rsbench-rdb"}, 0)
        if not pretrained:
            return random
        state = {k.removeprefix("clip."): v for k, v in random.state_dict().items()}
        save_file({**state, "logit_scale": torch.tensor(4.6)}, tmp_path / "w.safetensors")
        return build_backbone("openclip", "full", str(tmp_path / "w.safetensors"), {"model": "rsbench-rdb"}, 0)

    return make


def pixels_and_ids(n: int = 4) -> Batch:
    ids = torch.zeros(n, 77, dtype=torch.int64)
    ids[:, 0] = 49406
    for i in range(n):
        ids[i, 1 : 3 + i] = torch.arange(5, 7 + i)
        ids[i, 3 + i] = 49407
    pixels = torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    where = torch.arange(n)
    return Batch(where, where, {"pixels": pixels}, {"ids": ids}, torch.tensor([0, 1, 2, 0])[:n])


@pytest.mark.parametrize("placement", ["post_encoder", "per_block"])
@pytest.mark.parametrize("adapter", ["cross_modal", "plain"])
def test_clip_starts_at_its_own_features_and_only_adapters_train(clip, placement: str, adapter: str) -> None:
    method, x = build(backbone=clip(), placement=placement, adapter=adapter), pixels_and_ids()
    method.eval()
    with torch.no_grad():
        assert torch.allclose(
            method.encode_images(x.images).pooled, method.backbone.encode_image(x.images).pooled, atol=1e-6
        )
        assert torch.allclose(
            method.encode_texts(x.texts).pooled, method.backbone.encode_text(x.texts).pooled, atol=1e-6
        )
    method.train()
    assert not any(p.requires_grad for p in method.backbone.parameters()) and not method.backbone.clip.training
    assert len(method.adapters["image"]) == (3 if placement == "per_block" else 1)
    reached: set[str] = set()
    optimizer = torch.optim.Adam([p for g in method.param_groups() for p in g["params"]], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(method, x).total.backward()
        reached |= {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
        method.after_step()
    assert not {n for n, p in method.named_parameters() if p.requires_grad} - reached


def test_per_block_ties_the_shared_layer_by_depth(clip) -> None:
    method = build(backbone=clip(), placement="per_block")
    image, text = (list(method.adapters[m]) for m in ("image", "text"))
    assert (len(image), len(text)) == (3, 2)
    assert (
        all(a.shared is b.shared for a, b in zip(image, text, strict=False)) and image[0].shared is not image[1].shared
    )
    assert [a.attention.lam_init for a in image] == pytest.approx([0.2, 0.355509, 0.470713], abs=1e-6)


def test_per_block_survives_copies_state_and_autocast(clip) -> None:
    x = pixels_and_ids()
    method = stirred(build(backbone=clip(), placement="per_block")).eval()
    twin_, fresh = copy.deepcopy(method), build(backbone=clip(), placement="per_block").eval()
    fresh.load_state_dict(method.state_dict())
    with torch.no_grad():
        pooled = method.encode_texts(x.texts).pooled
        assert torch.equal(pooled, fresh.encode_texts(x.texts).pooled)
        for a in twin_.adapters["text"]:
            a.up.weight.zero_()
            a.up.bias.zero_()
        plain = twin_.backbone.encode_text(x.texts).pooled
        assert torch.allclose(twin_.encode_texts(x.texts).pooled, plain, atol=1e-6)
        assert torch.equal(method.encode_texts(x.texts).pooled, pooled) and not torch.allclose(pooled, plain)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert loss_of(method, x).total.isfinite()


@pytest.mark.parametrize("pretrained", [True, False])
def test_freezing_acts_on_pretrained_weights(clip, pretrained: bool) -> None:
    for params, frozen in (({}, pretrained), ({"freeze": False}, False)):
        method = build(backbone=clip(pretrained), **params)
        assert all(p.requires_grad != frozen for p in method.backbone.parameters())
    assert all(p.requires_grad for p in build("full_ft", clip(pretrained)).backbone.parameters())


def test_post_encoder_adds_to_the_end_token_and_every_image_token(clip) -> None:
    """The card's steps 1 to 5 by hand."""
    method, x = stirred(build(backbone=clip())).eval(), pixels_and_ids()
    model = method.backbone.clip
    with torch.no_grad():
        hidden, kind = method.backbone.text_states(x.texts)
        end = x.texts["ids"].argmax(1)
        addition = method.adapters["text"][0](hidden, kind != PAD)[torch.arange(4), end]
        expected = model.ln_final(hidden[torch.arange(4), end] + addition) @ model.text_projection
        assert torch.allclose(method.encode_texts(x.texts).pooled, expected, atol=1e-5)
        states, kinds = method.backbone.image_states(x.images)
        states = states + method.adapters["image"][0](states, kinds != PAD)
        expected = model.visual.ln_post(states)[:, 0] @ model.visual.proj
        assert torch.allclose(method.encode_images(x.images).pooled, expected, atol=1e-5)
