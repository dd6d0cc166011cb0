"""RDB: cross-modal asymmetric adapters and a dual-task consistency loss with learned weights."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsbench.backbones.adapters.bottleneck import CrossModalAdapter, PlainAdapter
from rsbench.backbones.adapters.differential import DifferentialAttention
from rsbench.backbones.adapters.hooks import attached
from rsbench.backbones.base import PAD, Backbone, Features, Fields
from rsbench.errors import UsageError
from rsbench.losses.consistency import paired_distance
from rsbench.losses.reduce import masked_mean, widened
from rsbench.losses.triplet import triplet
from rsbench.losses.uncertainty import LearnedWeights
from rsbench.methods.averaging import AveragedCopy
from rsbench.methods.base import Batch, Context, Encoded, Loss, Method, Setup
from rsbench.methods.cards.rdb import CARD, RdbParams
from rsbench.methods.rdb_adapters import IMAGE, TEXT, build_adapters


class Rdb(Method):
    """RDB over a frozen backbone, or over the trained heads of cached features."""

    card = CARD
    params: RdbParams

    def __init__(self, backbone: Backbone, params: RdbParams, setup: Setup) -> None:
        super().__init__(backbone, params, setup)
        self.terms = ("cross", "cls", "consist") if params.loss == "full" else tuple(params.loss.split("+"))
        self.frozen = tuple(backbone.pretrained()) if params.freeze else ()
        for module in self.frozen:
            module.requires_grad_(False)
        self.adapters = nn.ModuleDict({m: nn.ModuleList(a) for m, a in build_adapters(backbone, params).items()})
        self.heads = class_heads(backbone.dim, setup.n_classes, params) if "cls" in self.terms else None
        learns = params.weights == "learned" and len(self.terms) > 1
        self.weights = LearnedWeights(len(self.terms), params.sigma) if learns else None
        teaches = params.ema and "consist" in self.terms
        self.teacher = AveragedCopy(self._text_side(), params.ema_decay) if teaches else None
        self.train()

    def train(self, mode: bool = True) -> Rdb:
        """Switch dropout; frozen towers stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def encode_images(self, x: Fields) -> Features:
        """Pooled features of adapted images."""
        if self.params.adapter == "none":
            return Features(self.backbone.encode_image(x).pooled)
        with self._in_blocks(IMAGE, None):
            hidden, kind = self.backbone.image_states(x)
        hidden = self._after(IMAGE, hidden, kind)
        return Features(self.backbone.project_image(hidden, kind, tokens=False).pooled)

    def encode_texts(self, x: Fields) -> Features:
        """Pooled features of adapted texts."""
        if self.params.adapter == "none":
            return Features(self.backbone.encode_text(x).pooled)
        with self._in_blocks(TEXT, self.backbone.text_kind(x) if self.params.placement == "per_block" else None):
            hidden, kind = self.backbone.text_states(x)
        hidden = self._after(TEXT, hidden, kind)
        return Features(self.backbone.project_text(hidden, kind, tokens=False).pooled)

    def encode(self, batch: Batch) -> Encoded:
        """Features of the batch, and those of the averaged text branch as ``extra["teacher"]``."""
        extra = {} if self.teacher is None else {"teacher": self._taught(batch.texts)}
        return Encoded(self.encode_images(batch.images), self.encode_texts(batch.texts), extra)

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        """DTCL (Eq. 10-14), in fp32 under autocast."""
        scores = self.similarity(encoded.image, encoded.text)
        with torch.autocast(scores.device.type, enabled=False):
            rows = self._rows(scores, encoded, batch)
            means = {k: v.mean() for k, v in rows.items()}
            if "cls" in rows:
                means["cls"] = masked_mean(rows["cls"], batch.label >= 0)
            stacked = torch.stack(list(means.values()))
            total = stacked.sum() if self.weights is None else self.weights(stacked)
            factors = torch.ones_like(stacked) if self.weights is None else self.weights.weights
            per_pair = (factors[:, None] * torch.stack(list(rows.values()))).sum(0)
        terms = {**means, **{f"weight_{k}": w for k, w in zip(means, factors, strict=True)}, **self._inside()}
        return Loss(
            total=total,
            terms={k: v.detach() for k, v in terms.items()},
            pair_loss=per_pair.detach(),
            clean_score=scores.detach().diagonal(),
            records={k: v.detach() for k, v in rows.items()} if len(rows) > 1 else {},
        )

    def after_step(self) -> None:
        """Keep sigma off zero and update the averaged copy."""
        if self.weights is not None:
            self.weights.bound_()
        if self.teacher is not None:
            self.teacher.update()

    def calibrate(self, context: Context) -> None:
        """Tell what is trained."""
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        inside = sum(p.numel() for p in self.adapters.parameters() if p.requires_grad)
        every = sum(p.numel() for p in self.parameters())
        context.log(f"rdb: {trained:,} of {every:,} parameters are trained, {inside:,} of them in adapters")

    def _rows(self, scores: Tensor, encoded: Encoded, batch: Batch) -> dict[str, Tensor]:
        """Terms before reduction, ``[B]`` each; 0 in ``cls`` for images of unknown class."""
        same_image = batch.image if self.params.mask_same_image else None
        rows = {"cross": triplet(widened(scores), self.params.mu, self.params.hardest, same_image)}
        image, text = widened(encoded.image.pooled), widened(encoded.text.pooled)
        if self.heads is not None:
            logits = self.heads[0](image), self.heads[-1](text)
            rows["cls"] = sum((_cross_entropy(x, batch.label) for x in logits), torch.zeros_like(rows["cross"]))
        if "consist" in self.terms:
            teacher = encoded.extra.get("teacher", text)
            rows["consist"] = paired_distance(image, teacher, self.params.consist_reduce)
        return rows

    def _in_blocks(self, modality: str, kind: Tensor | None) -> AbstractContextManager[None]:
        if self.params.placement != "per_block":
            return nullcontext()
        return attached(self.backbone.blocks(modality), self._adapters(modality), kind)

    def _after(self, modality: str, hidden: Tensor, kind: Tensor) -> Tensor:
        """Hidden states with the addition of the one adapter behind the tower."""
        if self.params.placement == "per_block":
            return hidden
        addition: Tensor = self._adapters(modality)[0](hidden, kind != PAD)
        return hidden + addition.to(hidden.dtype)

    def _adapters(self, modality: str) -> list[PlainAdapter]:
        return list(cast("Iterable[PlainAdapter]", self.adapters[modality]))

    @torch.no_grad()
    def _taught(self, texts: Fields) -> Tensor:
        """Text features of the averaged copy without dropout, ``[B, D]``."""
        assert self.teacher is not None
        mode = self.training
        self.eval()
        with _uncached_autocast(next(iter(texts.values())).device.type), self.teacher.in_place():
            found = self.encode_texts(texts).pooled
        self.train(mode)
        return found

    def _text_side(self) -> list[nn.Parameter]:
        """Trained parameters of the text branch, and of the backbone as a whole: it does not tell its sides apart."""
        return [p for m in (self.backbone, self.adapters[TEXT]) for p in m.parameters() if p.requires_grad]

    def _inside(self) -> dict[str, Tensor]:
        """Lambda and gates, means over the depths."""
        found: dict[str, list[Tensor]] = {}
        for modality in (IMAGE, TEXT):
            for adapter in self._adapters(modality):
                if isinstance(adapter, CrossModalAdapter):
                    if isinstance(adapter.attention, DifferentialAttention):
                        found.setdefault("lam", []).append(adapter.attention.lam)
                    if adapter.gate is not None:
                        found.setdefault(f"gate_{modality}", []).append(adapter.gate.share)
        return {k: torch.stack(v).mean() for k, v in found.items()}


def _uncached_autocast(device: str) -> torch.autocast:
    """The autocast in force, without its cache: the student must not read weights that were cast for the teacher."""
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False)


def class_heads(dim: int, classes: int, params: RdbParams) -> nn.ModuleList:
    """Class head of images and of texts, or one for both.

    Raises:
        UsageError: the dataset has no scene classes.
    """
    if not classes:
        raise UsageError(
            f"rdb: loss = {params.loss} needs scene classes, and this dataset has none; use --method rdb:no_cls "
            "or --set method.loss=cross+consist"
        )
    count = 1 if params.cls_share_head else 2
    return nn.ModuleList(nn.Sequential(nn.Dropout(params.dropout), nn.Linear(dim, classes)) for _ in range(count))


def _cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return functional.cross_entropy(logits, label, ignore_index=-1, reduction="none")
