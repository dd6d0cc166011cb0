"""A method of your own in one file: InfoNCE on the pairs with the smallest loss of each batch."""

from dataclasses import dataclass

from rsbench.losses.contrastive import info_nce
from rsbench.methods.base import CLEAN, NOISY, TRAIN, WARMUP, Batch, Encoded, Loss, Method, Phase
from rsbench.methods.card import MethodCard, hyper


@dataclass(frozen=True)
class MyParams:
    tau: float = hyper(0.07, "CLIP", help="temperature")
    keep: float = hyper(0.7, "chosen by hand", unpublished=True, help="share of each batch that is trusted")
    warmup_epochs: int = hyper(2, "chosen by hand", unpublished=True, help="first epochs on all pairs")


class MyMethod(Method):
    card = MethodCard(
        name="my_method",
        title="Small-loss selection",
        paper="unpublished",
        target="my_method.py:MyMethod",
        params=MyParams,
        equations=("L = mean of InfoNCE over the int(keep * B) pairs with the smallest loss",),
        variants={"full": {}, "all": {"keep": 1.0}},
        detector="native",
    )

    def epoch_phases(self, context):
        return (Phase(WARMUP if context.epoch < self.params.warmup_epochs else TRAIN),)

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        per_pair = info_nce(self.similarity(encoded.image, encoded.text) / self.params.tau)
        keep = 1.0 if batch.phase == WARMUP else self.params.keep
        trusted = per_pair.detach().argsort()[: max(1, int(keep * len(batch)))]
        division = per_pair.new_full((len(batch),), NOISY).char()
        division[trusted] = CLEAN
        total = per_pair[trusted].mean()
        return Loss(
            total,
            terms={"infonce": total.detach()},  # named scalars for the log
            pair_loss=per_pair.detach(),  # per pair, before any reduction
            clean_score=-per_pair.detach(),  # higher = cleaner: noise detection is scored on it
            division=division if batch.phase == TRAIN else None,
        )
