"""LoRA and heads over open_clip: nothing changes at first, only the updates train, and the sum is the update."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

if importlib.util.find_spec("open_clip") is None:
    pytest.skip("open_clip is not installed", allow_module_level=True)

from small_clip import NAME, register

from rsbench.backbones import clip_heads, openclip_weights
from rsbench.backbones.base import PAD, SPECIAL
from rsbench.backbones.build import build_backbone
from rsbench.backbones.lora import LoraSetup, add_lora, merge
from rsbench.errors import UnknownNameError, UsageError
from rsbench.methods.base import Setup
from rsbench.methods.build import build_method
from rsbench.progress import silent


@pytest.fixture(scope="module", autouse=True)
def _models() -> None:
    register()


def clip(tuning: str = "lora", seed: int = 0, **params: object) -> nn.Module:
    return build_backbone("openclip", tuning, "random", {"model": NAME, **params}, seed)


def example() -> tuple[dict, dict]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=generator)
    ids = openclip_weights.tokenise(NAME, ["a plane", "two ships near a green river", "ponds"], silent)
    return {"pixels": pixels}, {"ids": ids}


def encode(backbone: nn.Module) -> list[torch.Tensor]:
    image, text = example()
    found = backbone.encode_image(image), backbone.encode_text(text)
    return [t for f in found for t in (f.pooled, f.tokens)]


def shake(backbone: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.2, generator=generator)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("targets", ["q+v", "k", "q+k+v+out+mlp"])
def test_step_zero_is_the_frozen_model(targets: str, mode: bool) -> None:
    """torch multiplies in another order by weights that require a gradient, hence the comparison of like with like."""
    frozen, lora = clip("full").train(mode).requires_grad_(False), clip(targets=targets).train(mode)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(encode(frozen), encode(lora), strict=True))
        shake(lora)
        assert not any(torch.equal(a, b) for a, b in zip(encode(frozen), encode(lora), strict=True))


def test_only_the_updates_train_and_the_method_adds_its_own() -> None:
    lora = clip(rank=2, targets="q+v+mlp")
    learns = {n for n, p in lora.named_parameters() if p.requires_grad}
    assert learns and all(n.endswith((".down", ".up")) for n in learns)
    widths = (64, 16)  # of both towers, two blocks each: q and v, c_fc and c_proj
    assert sum(p.numel() for n, p in lora.named_parameters() if n in learns) == sum(
        2 * (2 * 2 * (w + w) + 2 * 2 * (w + 4 * w)) for w in widths
    )
    assert lora.pretrained() == ()
    method = build_method("infonce", "full", {"learn_tau": True}, lora, Setup(10, 0, 4, 1))
    extra = {n for n, p in method.named_parameters() if p.requires_grad and not n.endswith((".down", ".up"))}
    assert extra and all(n.startswith("logits.") for n in extra)


def test_gradients_reach_up_first_and_down_as_soon_as_up_is_not_zero() -> None:
    lora = clip()
    sum(t.square().sum() for t in encode(lora)).backward()
    assert all(p.grad is not None for n, p in lora.named_parameters() if n.endswith((".down", ".up")))
    assert all(p.grad is None for n, p in lora.named_parameters() if not n.endswith((".down", ".up")))
    assert all(not p.grad.any() for n, p in lora.named_parameters() if n.endswith(".down"))
    shake(lora)
    lora.zero_grad()
    sum(t.square().sum() for t in encode(lora)).backward()
    assert all(p.grad.any() for n, p in lora.named_parameters() if n.endswith(".down"))


def plain_attention(attn: nn.MultiheadAttention, x: torch.Tensor, updates: dict[int, tuple]) -> torch.Tensor:
    """Self-attention with ``W x + s B (A x)`` beside query (0), key (1) and value (2), head by head."""
    weight, bias = attn.in_proj_weight.detach(), attn.in_proj_bias.detach()
    width = x.shape[-1]
    qkv = []
    for i in range(3):
        rows = slice(i * width, (i + 1) * width)
        y = x @ weight[rows].T + bias[rows]
        if i in updates:
            down, up, scale = updates[i]
            y = y + scale * ((x @ down.T) @ up.T)
        qkv.append(y)
    size, out = width // attn.num_heads, []
    for h in range(attn.num_heads):
        q, k, v = (y[..., h * size : (h + 1) * size] for y in qkv)
        out.append((q @ k.transpose(1, 2) / size**0.5).softmax(-1) @ v)
    return torch.cat(out, -1) @ attn.out_proj.weight.T + attn.out_proj.bias


def test_update_beside_the_weight_equals_the_sum_and_the_merged_model() -> None:
    full, lora = clip("full"), clip(rank=3, alpha=6.0)
    shake(lora)
    base, ours = full.blocks("image")[0].attn, lora.blocks("image")[0].attn
    update = ours.parametrizations.in_proj_weight[0]
    assert update.blocks == (0, 2)
    pairs = {i: (update.down[n], update.up[n], 2.0) for n, i in enumerate(update.blocks)}
    x = torch.randn(2, 5, 64)
    with torch.no_grad():
        beside = plain_attention(base, x, pairs)
        assert torch.allclose(ours(x, x, x, need_weights=False)[0], beside, atol=1e-5)
        assert not torch.allclose(base(x, x, x, need_weights=False)[0], beside, atol=1e-2)
        before = encode(lora.eval())
        merge(lora)
        after = encode(lora)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True))
    assert lora.state_dict().keys() == full.state_dict().keys()


def test_names_of_timm_and_transformers_are_found() -> None:
    class Swin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.ModuleDict({"qkv": nn.Linear(4, 12), "proj": nn.Linear(4, 4)})
            self.mlp = nn.ModuleDict({"fc1": nn.Linear(4, 8), "fc2": nn.Linear(8, 4)})

    class Bert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            own = nn.ModuleDict({n: nn.Linear(4, 4) for n in ("query", "key", "value")})
            dense = nn.ModuleDict({"dense": nn.Linear(4, 4)})
            self.attention = nn.ModuleDict({"self": own, "output": dense})
            self.intermediate = nn.ModuleDict({"dense": nn.Linear(4, 8)})
            self.output = nn.ModuleDict({"dense": nn.Linear(8, 4)})

    for kind, counts in (
        (Swin, {"q": 1, "q+v": 1, "out": 1, "mlp": 2}),
        (Bert, {"q": 1, "q+v": 2, "out": 1, "mlp": 2}),
    ):
        for targets, count in counts.items():
            block = kind()
            add_lora([block], [block], LoraSetup(2, 2.0, targets), 0)
            assert sum(n.endswith(".up") for n, _ in block.named_parameters()) == count, (kind, targets)


def test_seed_and_state_dict() -> None:
    a, b, c = clip(seed=0), clip(seed=0), clip(seed=1)
    down = [n for n, _ in a.named_parameters() if n.endswith(".down")]
    states = [m.state_dict() for m in (a, b, c)]
    assert all(torch.equal(states[0][n], states[1][n]) for n in down)
    assert not any(torch.equal(states[0][n], states[2][n]) for n in down)
    shake(a)
    c.load_state_dict(a.state_dict())
    with torch.no_grad():
        assert all(torch.equal(x, y) for x, y in zip(encode(a.eval()), encode(c.eval()), strict=True))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rank": 0}, "backbone.rank"),
        ({"alpha": 0.0}, "backbone.alpha"),
        ({"targets": "q+w"}, "'w'; join any of q, k, v, out, mlp"),
        ({"pca": 8}, "backbone.pca works with tuning 'heads'"),
    ],
)
def test_bad_params_of_lora(params: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        clip(**params)


def test_params_of_another_tuning_and_an_unknown_tuning() -> None:
    with pytest.raises(UsageError, match=r"backbone.rank works with tuning 'lora'.* not with 'full'"):
        clip("full", rank=4)
    with pytest.raises(UnknownNameError, match="lora"):
        clip("loar")


def test_heads_read_the_frozen_towers_once(fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cached features are the model's own, standardised; a second run does not touch the towers."""
    data = fake(side=32)
    heads = clip("heads", hidden=16, dim=12, words=3)
    assert heads.capabilities == {"tokens", "hidden"} and heads.dim == 12
    heads.fit(data, "official", tmp_path)
    inputs = heads.inputs(data, tmp_path, tokens=True)
    full = clip("full").eval()
    with torch.no_grad():
        image = full.encode_image({"pixels": torch.from_numpy(data.images)})
        text = full.encode_text({"ids": openclip_weights.tokenise(NAME, data.texts, silent)})
    scaled = heads.image_scaling(image.pooled)
    assert torch.allclose(inputs.image["pooled"], scaled, atol=1e-4)
    assert torch.allclose(inputs.image["tokens"].float(), heads.image_scaling(image.tokens[:, 1:]), atol=2e-2)
    assert inputs.text["kind"].tolist() == text.kind[:, :4].tolist()
    assert (inputs.text["kind"][:, 0] == SPECIAL).all() and not inputs.text["tokens"][inputs.text["kind"] == PAD].any()
    assert all(not n.startswith("clip") for n, _ in heads.named_parameters())

    def no_towers(*args: object) -> None:
        raise AssertionError("the towers were run again")

    monkeypatch.setattr(clip_heads, "_raw", no_towers)
    again = clip("heads", hidden=16, dim=12, words=3, seed=1)
    again.fit(data, "official", tmp_path)
    found = again.inputs(data, tmp_path, tokens=True)
    assert all(torch.equal(inputs.image[k], found.image[k]) for k in inputs.image)
    with pytest.raises(TypeError):
        again.blocks("image")


def test_heads_of_a_checkpoint_whose_sizes_are_known_load_no_model() -> None:
    heads = build_backbone("clip-vit-b32", "heads", "random", {}, 0)
    assert heads.image_scaling.out == 512 and heads.capabilities == {"tokens", "hidden"}
    assert ("clip-vit-b32", "ViT-B-32-quickgelu", "", "random") not in clip_heads._loaded
