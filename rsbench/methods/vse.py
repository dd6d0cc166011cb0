"""VSE++: triplet ranking loss with the hardest in-batch negatives."""

from __future__ import annotations

from collections.abc import Sequence

from rsbench.losses.triplet import triplet
from rsbench.methods.base import TRAIN, WARMUP, Batch, Context, Encoded, Loss, Method, Phase
from rsbench.methods.cards.vse import CARD, VseParams


class Vse(Method):
    """Triplet loss on cosines, summed over the batch as published."""

    card = CARD
    params: VseParams

    def epoch_phases(self, context: Context) -> Sequence[Phase]:
        """Warm-up on the sum over negatives where asked for, then one phase over all pairs."""
        return (Phase(WARMUP if context.epoch < self.params.sum_epochs else TRAIN),)

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        """Sum over the batch of the hinges of both directions."""
        scores = self.similarity(encoded.image, encoded.text)
        hardest = self.params.negatives == "hardest" and batch.phase != WARMUP
        per_pair = triplet(scores, self.params.margin, hardest)
        total = per_pair.sum()
        own = scores.detach().diagonal()
        return Loss(total, {"triplet": total.detach()}, per_pair.detach(), clean_score=own)
