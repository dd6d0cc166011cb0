"""Cards of the backbones built on open_clip. Nothing heavy is imported here."""

from __future__ import annotations

from rsbench.backbones.card import PATH, BackboneCard

_BLOCKS = frozenset({"tokens", "hidden", "blocks"})

OPENCLIP = BackboneCard(
    name="openclip",
    title="any model of open_clip",
    target="rsbench.backbones.openclip:OpenClip",
    capabilities={"full": _BLOCKS},
    weights=("hub", "random", PATH),
    params={"model": "ViT-B-32-quickgelu", "tag": "openai"},
    aligned=True,
    source="mlfoundations/open_clip",
)

CLIP_VIT_B32 = BackboneCard(
    name="clip-vit-b32",
    title="CLIP ViT-B/32 of OpenAI (151 M parameters, QuickGELU)",
    target="rsbench.backbones.openclip:ClipVitB32",
    capabilities={"full": _BLOCKS},
    weights=("hub", "random", PATH),
    aligned=True,
    source="openai/CLIP; weights timm/vit_base_patch32_clip_224.openai through open_clip",
)
