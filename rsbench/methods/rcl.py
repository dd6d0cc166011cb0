"""RCL: learn from "this text is not the match" only, so that a mismatched positive is never pulled."""

from __future__ import annotations

from torch import Tensor

from rsbench.losses.contrastive import complementary, random_negatives
from rsbench.losses.reduce import both_directions
from rsbench.methods.base import Batch, Encoded, Loss, Method
from rsbench.methods.cards.rcl import CARD, RclParams


class Rcl(Method):
    """Complementary contrastive loss on cosines; positives rise through the softmax alone."""

    card = CARD
    params: RclParams

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        """Mean over the batch of the sums over negatives of both directions."""
        del batch
        scores = self.similarity(encoded.image, encoded.text)
        rows = both_directions(scores / self.params.tau)
        per_pair = complementary(rows, self.params.loss, self.params.q, self._kept(rows)).sum(0)
        total = per_pair.mean()
        own = scores.detach().diagonal()
        return Loss(total, {"complementary": total.detach()}, per_pair.detach(), clean_score=own)

    def _kept(self, rows: Tensor) -> Tensor | None:
        if self.params.ratio < 0:
            return None
        return random_negatives(tuple(rows.shape), max(1, int(self.params.ratio * rows.shape[-1])), rows.device)
