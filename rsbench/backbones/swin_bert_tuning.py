"""The tunings of ``swin-bert``: trained whole, low-rank updates, or heads on cached features."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rsbench.backbones.base import PAD, Backbone
from rsbench.backbones.cards.towers import SWIN_BERT
from rsbench.backbones.heads import CachedHeads, RawFeatures
from rsbench.backbones.lora import LoraSetup, add_lora
from rsbench.backbones.pixels import as_tensor
from rsbench.backbones.resolve import refuse_idle
from rsbench.backbones.swin_bert import SwinBert
from rsbench.data.dataset import Dataset
from rsbench.progress import Progress, silent

PARAMS = {"lora": ("rank", "alpha", "targets"), "heads": ("hidden", "dropout", "pca")}
"""Params that one tuning alone reads."""

_BATCH = 32


def build(tuning: str, weights: str, seed: int, **params: Any) -> Backbone:
    """The backbone for a tuning.

    Args:
        tuning: ``full``, ``lora`` or ``heads``.
        weights: ``hub``, ``random``, or a folder.
        seed: of everything that is initialised at random.
        params: those of the card.

    Raises:
        UsageError: a param of another tuning, or one out of range.
        WeightsError: weights missing, damaged or of another shape.
    """
    refuse_idle(SWIN_BERT, tuning, params, PARAMS)
    special = {name: params[name] for name in PARAMS.get(tuning, ())}
    common = {name: value for name, value in params.items() if not any(name in names for names in PARAMS.values())}
    if tuning == "heads":
        return SwinBertHeads(tuning, weights, seed, **common, **special)
    setup = LoraSetup(**special) if tuning == "lora" else None
    backbone = SwinBert(tuning, weights, seed, **common)
    if setup is not None:
        layers = [*backbone.layers("image"), *backbone.layers("text")]
        add_lora([backbone.image_tower, backbone.text_tower], layers, setup, seed)
    return backbone


class SwinBertHeads(CachedHeads):
    """Frozen towers, features cached once, heads trained.

    Image: the mean of Swin's 49 tokens, and the tokens. Text: [CLS], and the other states up to ``words``. Towers with
    random weights are those of seed 0, whatever the run's seed; they show what a pretrained tower adds.

    Args:
        tuning: ``heads``.
        weights: as for ``SwinBert``.
        seed: of the heads.
        hidden: width inside the heads.
        dropout: inside the heads.
        pca: reduce inputs to this many dimensions, 0 for none.
        dim: of the joint space.
        towers: ``words``, ``look`` and ``attend_padding`` of ``SwinBert``.
    """

    card = SWIN_BERT
    vocabulary: Tensor

    def __init__(
        self, tuning: str, weights: str, seed: int, *, hidden: int, dropout: float, pca: int, dim: int, **towers: Any
    ) -> None:
        self._frozen = functools.partial(_frozen, weights, **towers)
        frozen = self._frozen()
        super().__init__(
            tuning,
            weights,
            seed,
            image_width=frozen.width("image"),
            text_width=frozen.width("text"),
            hidden=hidden,
            dim=dim,
            dropout=dropout,
            pca=pca,
        )
        self.towers = towers
        self.register_buffer("vocabulary", torch.full_like(frozen.vocabulary, -1))

    def fit(self, dataset: Dataset, split: str, cache: Path, progress: Progress = silent) -> None:
        """With random weights, learn the vocabulary; then the statistics."""
        frozen = self._frozen()
        frozen.fit(dataset, split, cache)
        self.vocabulary.copy_(frozen.vocabulary)
        super().fit(dataset, split, cache, progress)

    def tower_key(self, modality: str) -> Mapping[str, Any]:
        """Hashes of the files, or of the vocabulary; how pixels or texts are read."""
        frozen = self._frozen()
        if modality == "image":
            return {"weights": frozen.part_hash("image"), "look": self.towers["look"]}
        own = {k: v for k, v in self.towers.items() if k != "look"}
        words = hashlib.sha256(self.vocabulary.cpu().numpy().tobytes()).hexdigest()
        pieces = frozen.part_hash("tokenizer") if frozen.files else words
        return {"weights": frozen.part_hash("text"), "pieces": pieces, **own}

    def image_features(self, pixels: npt.NDArray[np.uint8]) -> RawFeatures:
        """Pooled ``[n, 768]``, tokens ``[n, 49, 768]``."""
        tower = self._ready()
        blocks = torch.split(as_tensor(pixels), _BATCH)
        return _raw([tower.image_states({"pixels": b.to(self._device)}) for b in blocks])

    def text_features(self, texts: Sequence[str]) -> RawFeatures:
        """Pooled ``[n, 768]``, tokens ``[n, words - 1, 768]``."""
        tower = self._ready()
        ids, kind = tower.pieces(texts)
        parts = zip(torch.split(ids, _BATCH), torch.split(kind, _BATCH), strict=True)
        return _raw([tower.text_states({"ids": i.to(self._device), "kind": k.to(self._device)}) for i, k in parts])

    @property
    def _device(self) -> torch.device:
        return self.image_scaling.mean.device

    def _ready(self) -> SwinBert:
        tower = self._frozen().to(self._device)
        tower.vocabulary.copy_(self.vocabulary)
        return tower


@functools.lru_cache(maxsize=1)
def _frozen(weights: str, **params: Any) -> SwinBert:
    """Both towers kept outside every module tree, so that checkpoints hold heads only."""
    return SwinBert("full", weights, 0, dim=1, **params).eval().requires_grad_(False)


def _raw(states: Sequence[tuple[Tensor, Tensor]]) -> RawFeatures:
    """The leading state as the pooled one, the others as tokens, zero at padding."""
    hidden = torch.cat([h.float().cpu() for h, _ in states])
    kind = torch.cat([k.cpu() for _, k in states])[:, 1:]
    return RawFeatures(hidden[:, 0], hidden[:, 1:].masked_fill((kind == PAD)[..., None], 0), kind)
