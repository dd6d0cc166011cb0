"""Cards of the backbones built on open_clip. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rsbench.backbones.card import PATH, BackboneCard, HubFile

_STATES = frozenset({"tokens", "hidden"})
_BLOCKS = _STATES | {"blocks"}
_WEIGHTS = ("hub", "random", PATH)

_TUNINGS = {"full": _BLOCKS, "lora": _BLOCKS, "heads": _STATES}

_HEADS = {"hidden": 512, "dim": 512, "dropout": 0.1, "words": 32, "pca": 0}
"""Params of tuning ``heads``, named as in the backbone ``lite``."""

_LORA = {"rank": 8, "alpha": 8.0, "targets": "q+v"}
"""Params of tuning ``lora``: RoBERTa's in Hu et al. 2021 (arXiv 2106.09685), Table 9."""

_CONVERTED = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Names of OpenAI's weights as open_clip's authors put them on the hub."""

_SEEN_PAIRS = (
    "; under injected noise a run starts from a model that has seen the clean pairs, so do not compare its rows with "
    "those of OpenAI's CLIP"
)
_RET2 = f"GeoRSCLIP RET-2 was tuned on the training captions of RSICD and RSITMD{_SEEN_PAIRS}"
_RET3 = f"RemoteCLIP was trained on the training captions of RSICD, RSITMD and UCM (RET-3){_SEEN_PAIRS}"


@dataclass(frozen=True, kw_only=True)
class ClipCard(BackboneCard):
    """A checkpoint of a CLIP architecture.

    Attributes:
        model: open_clip's name of the architecture, activation included: state dicts of both activations have the
            same keys, so that the file cannot tell.
        activation: ``quick_gelu`` or ``gelu``, as the weights were trained.
        parameters: of both towers and the logit scale, which the backbone takes off.
        joint_dim: D of the joint space.
        image_size: side in pixels at which images are read.
    """

    model: str
    activation: str = "quick_gelu"
    parameters: int
    joint_dim: int
    image_size: int = 224


OPENCLIP = BackboneCard(
    name="openclip",
    title="any model of open_clip",
    target="rsbench.backbones.openclip_build:openclip",
    capabilities=_TUNINGS,
    weights=_WEIGHTS,
    params={"model": "ViT-B-32-quickgelu", "tag": "openai", **_HEADS, **_LORA},
    later=frozenset({*_HEADS, *_LORA}),
    aligned=True,
    source="mlfoundations/open_clip",
)

CLIP_VIT_B32 = ClipCard(
    name="clip-vit-b32",
    title="CLIP ViT-B/32 of OpenAI",
    target="rsbench.backbones.openclip_build:clip_vit_b32",
    capabilities=_TUNINGS,
    weights=_WEIGHTS,
    params={**_HEADS, **_LORA},
    later=frozenset({*_HEADS, *_LORA}),
    aligned=True,
    source="openai/CLIP, as converted by mlfoundations/open_clip",
    model="ViT-B-32-quickgelu",
    parameters=151_277_313,
    joint_dim=512,
    hub=(HubFile("timm/vit_base_patch32_clip_224.openai", _CONVERTED),),
)

CLIP_VIT_L14 = ClipCard(
    name="clip-vit-l14",
    title="CLIP ViT-L/14 of OpenAI",
    target="rsbench.backbones.openclip_build:clip_vit_l14",
    capabilities=_TUNINGS,
    weights=_WEIGHTS,
    params={**_HEADS, **_LORA},
    later=frozenset({*_HEADS, *_LORA}),
    aligned=True,
    source="openai/CLIP, as converted by mlfoundations/open_clip",
    model="ViT-L-14-quickgelu",
    parameters=427_616_513,
    joint_dim=768,
    hub=(HubFile("timm/vit_large_patch14_clip_224.openai", _CONVERTED),),
)

CLIP_RN50 = ClipCard(
    name="clip-rn50",
    title="CLIP ResNet-50 of OpenAI",
    target="rsbench.backbones.openclip_build:clip_rn50",
    capabilities={"full": _STATES, "heads": _STATES},
    weights=_WEIGHTS,
    params=_HEADS,
    later=frozenset(_HEADS),
    aligned=True,
    source="openai/CLIP, as converted by mlfoundations/open_clip",
    model="RN50-quickgelu",
    parameters=102_007_137,
    joint_dim=1024,
    hub=(HubFile("timm/resnet50_clip.openai", _CONVERTED),),
)

# The checkpoints below differ from those above in their weights alone.

GEORSCLIP_VIT_B32 = replace(
    CLIP_VIT_B32,
    name="georsclip-vit-b32",
    title="GeoRSCLIP: CLIP ViT-B/32 tuned on RS5M",
    target="rsbench.backbones.openclip_build:georsclip_vit_b32",
    source="om-ai-lab/RS5M",
    hub=(HubFile("Zilun/GeoRSCLIP", ("ckpt/RS5M_ViT-B-32.pt",)),),
)

GEORSCLIP_VIT_B32_RET2 = replace(
    GEORSCLIP_VIT_B32,
    name="georsclip-vit-b32-ret2",
    title="GeoRSCLIP ViT-B/32 tuned further on RSICD and RSITMD",
    target="rsbench.backbones.openclip_build:georsclip_vit_b32_ret2",
    warning=_RET2,
    hub=(HubFile("Zilun/GeoRSCLIP", ("ckpt/RS5M_ViT-B-32_RET-2.pt",)),),
)

REMOTECLIP_RN50 = replace(
    CLIP_RN50,
    name="remoteclip-rn50",
    title="RemoteCLIP ResNet-50",
    target="rsbench.backbones.openclip_build:remoteclip_rn50",
    source="ChenDelong1999/RemoteCLIP",
    warning=_RET3,
    hub=(HubFile("chendelong/RemoteCLIP", ("RemoteCLIP-RN50.pt",)),),
)

REMOTECLIP_VIT_B32 = replace(
    CLIP_VIT_B32,
    name="remoteclip-vit-b32",
    title="RemoteCLIP ViT-B/32",
    target="rsbench.backbones.openclip_build:remoteclip_vit_b32",
    source="ChenDelong1999/RemoteCLIP",
    warning=_RET3,
    hub=(HubFile("chendelong/RemoteCLIP", ("RemoteCLIP-ViT-B-32.pt",)),),
)

REMOTECLIP_VIT_L14 = replace(
    CLIP_VIT_L14,
    name="remoteclip-vit-l14",
    title="RemoteCLIP ViT-L/14",
    target="rsbench.backbones.openclip_build:remoteclip_vit_l14",
    source="ChenDelong1999/RemoteCLIP",
    warning=_RET3,
    hub=(HubFile("chendelong/RemoteCLIP", ("RemoteCLIP-ViT-L-14.pt",)),),
)
