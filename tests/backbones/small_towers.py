"""The towers of timm and transformers with few and thin layers; not a test."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SWIN = {"img_size": 32, "embed_dim": 8, "depths": (2, 1), "num_heads": (1, 2), "window_size": 4}
BERT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 24,
}
RESNET = {"layers": (1, 1, 1, 1), "channels": (16, 16, 16, 16)}
CASES = {
    "swin-bert": ("swin-bert", "full", "random", {"dim": 8, "words": 10}, 32),
    "swin-bert-attend": ("swin-bert", "full", "random", {"dim": 8, "words": 10, "attend_padding": True}, 32),
    "swin-bert-lora": ("swin-bert", "lora", "random", {"dim": 8, "words": 10, "rank": 2}, 32),
    "swin-bert-heads": ("swin-bert", "heads", "random", {"dim": 8, "words": 10, "hidden": 16}, 32),
    "resnet-gru": ("resnet-gru", "full", "random", {"dim": 8, "hidden": 12, "width": 6, "vocabulary": 10}, 64),
    "resnet-gru-last": ("resnet-gru", "full", "random", {"dim": 8, "hidden": 12, "pool": "last", "dropout": 0.0}, 64),
    "regions": ("regions", "full", "random", {"dim": 8, "features": 6, "width": 5, "vocabulary": 9}, 8),
}
"""For the contract test: name, tuning, weights, params, side of images."""


@contextmanager
def shrunk() -> Iterator[None]:
    """Within it, ``swin-bert`` and ``resnet-gru`` are built small."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("timm") is not None:
            from rsbench.backbones import resnet_gru, swin_bert, swin_bert_tuning

            patch.setattr(swin_bert.SwinBert, "architecture", swin_bert.Architecture(32, SWIN, BERT))
            patch.setattr(resnet_gru.ResNetGru, "architecture", resnet_gru.Architecture(64, RESNET))
            swin_bert_tuning._frozen.cache_clear()
        yield
