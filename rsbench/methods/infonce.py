"""Symmetric InfoNCE: every shown pair is trusted."""

from __future__ import annotations

from rsbench.backbones.base import Backbone
from rsbench.losses.contrastive import info_nce
from rsbench.matchers.cosine import AffineLogits
from rsbench.methods.base import Batch, Encoded, Loss, Method, Setup
from rsbench.methods.cards.infonce import CARD, InfoNceParams


class InfoNce(Method):
    """InfoNCE on cosines with a fixed or learned temperature."""

    card = CARD
    params: InfoNceParams

    def __init__(self, backbone: Backbone, params: InfoNceParams, setup: Setup) -> None:
        super().__init__(backbone, params, setup)
        self.logits = AffineLogits(1 / params.tau, learn=params.learn_tau)
        self.logits.shift.requires_grad_(False)  # a softmax does not see a shift

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        """Mean over the batch of half the row and half the column cross entropy."""
        del batch
        scores = self.similarity(encoded.image, encoded.text)
        per_pair = info_nce(self.logits(scores))
        total = per_pair.mean()
        own = scores.detach().diagonal()
        return Loss(total, {"infonce": total.detach()}, per_pair.detach(), clean_score=own)

    def after_step(self) -> None:
        """Keep 1/tau at or below 100."""
        self.logits.bound_()
