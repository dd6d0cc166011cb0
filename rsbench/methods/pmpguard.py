"""PMPGuard: cross-gated attention and word-by-word scores against a learned boundary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rsbench.backbones.base import Backbone, Features
from rsbench.losses.contrastive import info_nce, joint_nce
from rsbench.losses.hinge import margin_ranking
from rsbench.losses.reduce import not_negative
from rsbench.matchers.awareness import Aware, Reading, awareness, pairwise_awareness
from rsbench.matchers.blocks import in_blocks
from rsbench.matchers.cosine import AffineLogits
from rsbench.matchers.cross_gate import BLOCK_ELEMENTS, CrossGate, block_rows
from rsbench.matchers.fragments import fragments, mean_fragment, parts, without_content
from rsbench.methods.base import Batch, Context, Encoded, Loss, Method, Phase, Setup
from rsbench.methods.cards.pmpguard import CARD, PmpGuardParams
from rsbench.noise.boundary import boundary

SCORE_ELEMENTS = 2**18
"""Fragment cosines held at once at test (1 MiB in fp32): a block that stays in the processor's cache."""

STATISTICS = ("mu_pos", "sd_pos", "mu_neg", "sd_neg")
"""The two normals of t_k, as buffers and as terms of the history."""


class PmpGuard(Method):
    """PMPGuard over the content tokens of a backbone."""

    card = CARD
    params: PmpGuardParams

    def __init__(self, backbone: Backbone, params: PmpGuardParams, setup: Setup) -> None:
        super().__init__(backbone, params, setup)
        self.gate = CrossGate(backbone.dim) if params.cga else None
        self.logits = AffineLogits(1 / params.tau)
        self.logits.shift.requires_grad_(False)  # a softmax does not see a shift
        self.reading = Reading(params.pos_mask, params.relev, params.factor, params.negative)
        for name, start in (("t_k", params.tk_start), *((n, 0.0) for n in STATISTICS)):
            self.register_buffer(name, torch.tensor(start))
        self.register_buffer("updates", torch.tensor(0))
        self._bare = 0

    def epoch_phases(self, context: Context) -> Sequence[Phase]:
        """One phase over all pairs; says once if captions or images without content tokens came up."""
        if self._bare:
            context.warn("pmpguard: some images or captions have no content token; their pooled vector stands in")
        return (Phase(),)

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        """``L_IA + lam * L_PA`` (Eq. 6, 15, 16), in fp32 under autocast; refits t_k while training."""
        self._bare += int((without_content(encoded.image) | without_content(encoded.text)).sum())
        with torch.autocast(encoded.image.pooled.device.type, enabled=False):
            image, text = fragments(encoded.image), fragments(encoded.text)
            same_image = batch.image if self.params.mask_same_image else None
            blocked = not_negative(len(batch), batch.image.device, same_image)
            cosines = self.aggregated(image, text)
            own = cosines.detach().diagonal()
            losses, terms, records = {"ia": self._aggregation(cosines, blocked)}, {}, {"gated": own}
            if self.params.pnaa:
                found, terms = self.aware(image, text), self._boundary_terms()
                losses["pa"] = self.params.lam * self._ranking(found.score, blocked)
                own, records["negative"] = found.score.detach().diagonal(), found.negative.detach().diagonal()
                self._refit(found, text, batch.image)
            return self._reduced(losses, terms, own, records)

    def similarity(self, image: Features, text: Features) -> Tensor:
        """S of Eq. 14 ``[N, M]`` (without PNAA the cosine of Eq. 6), in blocks of bounded memory."""
        with torch.autocast(image.pooled.device.type, enabled=False):
            image, text = fragments(image), fragments(text)
            if not self.params.pnaa:
                gated = self.gate.scores if self.gate is not None else mean_cosine
                return gated(image, text)
            rows, columns = self._score_rows(image, text)
            return in_blocks(lambda a, b: self.aware(a, b).score, image, text, rows, columns)

    def aggregated(self, image: Features, text: Features) -> Tensor:
        """Cosines ``[B, B]`` of Eq. 6, images by texts, of ``fragments``."""
        if self.gate is None:
            return mean_cosine(image, text)
        if self.params.cga_scope == "pairwise":
            return self.gate.scores(image, text)
        v, u = self.gate.own(image, text)
        return functional.normalize(v, dim=-1) @ functional.normalize(u, dim=-1).T

    def aware(self, image: Features, text: Features) -> Aware:
        """PNAA of ``fragments`` at the present t_k."""
        t_k = float(self.get_buffer("t_k"))
        if self.gate is None or self.params.pnaa_input == "raw":
            return awareness(image, text, t_k, self.reading)
        v, u = self.gate.gated(image, text)
        return pairwise_awareness(v, u, parts(image)[1], parts(text)[1], t_k, self.reading)

    def after_step(self) -> None:
        """Keep 1/tau at or below 100."""
        self.logits.bound_()

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Those of the backbone and the temperature, then the gates, faster where the backbone is pretrained."""
        scale = 1.0 if self.backbone.tuning == "heads" else self.params.new_lr_scale
        new = {id(p) for p in self.gate.parameters()} if self.gate is not None else set()
        for group in super().param_groups():
            yield {**group, "params": [p for p in group["params"] if id(p) not in new]}
            gates = [p for p in group["params"] if id(p) in new]
            yield {**group, "name": f"gate {group['name']}", "params": gates, "lr_scale": scale}

    def _aggregation(self, cosines: Tensor, blocked: Tensor) -> Tensor:
        """L_IA per pair ``[B]`` (Eq. 6)."""
        others = blocked & ~torch.eye(len(blocked), dtype=torch.bool, device=blocked.device)
        logits = self.logits(cosines).masked_fill(others, float("-inf"))
        return joint_nce(logits) if self.params.ia_denominator == "joint" else 2 * info_nce(logits)

    def _ranking(self, scores: Tensor, blocked: Tensor) -> Tensor:
        """L_PA per pair ``[B]`` (Eq. 15)."""
        return margin_ranking(scores, self.params.g, blocked, self.params.negatives == "hardest")

    def _reduced(
        self, losses: dict[str, Tensor], terms: dict[str, Tensor], own: Tensor, records: dict[str, Tensor]
    ) -> Loss:
        means = {n: v.mean() if self.params.reduction == "mean" else v.sum() for n, v in losses.items()}
        total = torch.stack(list(means.values())).sum()
        pair_loss = torch.stack([v.detach() for v in losses.values()]).sum(0)
        terms = {**{n: v.detach() for n, v in means.items()}, "tau": 1 / self.logits.scale.detach(), **terms}
        return Loss(total, terms, pair_loss, clean_score=own, records=records)

    def _boundary_terms(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(name).clone() for name in ("t_k", *STATISTICS)}

    def _score_rows(self, image: Features, text: Features) -> tuple[int, int]:
        if self.gate is not None and self.params.pnaa_input == "gated":
            return block_rows(image, text, BLOCK_ELEMENTS)
        pairs = max(1, SCORE_ELEMENTS // (parts(image)[1].shape[1] * parts(text)[1].shape[1]))
        rows = min(16, pairs)
        return rows, max(1, pairs // rows)

    @torch.no_grad()
    def _refit(self, found: Aware, text: Features, image_ids: Tensor) -> None:
        """Update t_k, while training, from the words of captions whose given image ranks first in the batch."""
        if not self.training or self.params.tk_source == "fixed":
            return
        score, words = found.score, parts(text)[1]
        lowest = score.min(0)
        first = (score.diagonal() >= score.amax(0)) & (image_ids[lowest.indices] != image_ids)
        matched = words & first[:, None]
        if int(matched.sum()) <= self.params.tk_words:
            return
        index = torch.arange(len(score), device=score.device)
        positive, negative = found.best[index, :, index][matched], found.best[lowest.indices, :, index][matched]
        normals = torch.stack((positive.mean(), positive.std(), negative.mean(), negative.std()))
        mean_pos, std_pos, mean_neg, std_neg = normals.tolist()
        fitted = boundary(mean_pos, std_pos, mean_neg, std_neg, self.params.alpha)
        for name, value in zip(STATISTICS, normals, strict=True):
            self.get_buffer(name).copy_(value)
        self.get_buffer("t_k").lerp_(self.get_buffer("t_k").new_tensor(fitted), self.params.tk_rate)
        self.get_buffer("updates").add_(1)


def mean_cosine(image: Features, text: Features) -> Tensor:
    """Cosines ``[N, M]`` of the mean region and the mean word, of ``fragments``."""
    v, u = mean_fragment(image), mean_fragment(text)
    return functional.normalize(v, dim=-1) @ functional.normalize(u, dim=-1).T
