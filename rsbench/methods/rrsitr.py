"""RRSITR: self-paced contrastive learning on global and local similarity, triplet loss with adaptive margins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rsbench.backbones.base import Features
from rsbench.losses.contrastive import info_nce
from rsbench.losses.self_paced import divide, easy_first, hard_first, regulariser
from rsbench.losses.triplet import robust_triplet
from rsbench.matchers.blocks import in_blocks
from rsbench.matchers.cosine import cosine
from rsbench.matchers.local import block_rows, local_similarity
from rsbench.methods.base import AMBIGUOUS, CLEAN, NOISY, Batch, Context, Encoded, Loss, Method, Phase
from rsbench.methods.cards.rrsitr import CARD, RrsitrParams

NEAR_CHANCE = (0.75, 1.0)
"""Shares of the chance level between which gamma2 means what it means in the paper (18 of 18.42)."""

MOST_NOISY = 0.98
"""Share of noisy pairs from which an epoch is reported: nothing but the triplet loss trains."""


def chance_level(batch_size: int, local: bool) -> float:
    """Loss of a pair that is no more alike than any other: 4 ln B, or 2 ln B without the local part."""
    return (4 if local else 2) * math.log(batch_size)


def pair_losses(similarity: Tensor, tau: float) -> Tensor:
    """Row plus column cross entropy of each pair, ``[B]`` (Eq. 4: both directions added, no factor 1/2).

    Args:
        similarity: ``[B, B]``, images by texts.
        tau: temperature.
    """
    return 2 * info_nce(similarity / tau)


def paced(loss: Tensor, division: Tensor, params: RrsitrParams) -> tuple[Tensor, Tensor]:
    """Weights and regulariser of every pair, ``[B]`` each, detached; both 0 for noisy pairs (Eq. 7 and 14).

    Args:
        loss: l ``[B]``.
        division: int8 ``[B]``.
        params: gives the pace.
    """
    zero, kept = torch.zeros_like(loss.detach()), division != NOISY
    gamma = zero.add(params.gamma2).masked_fill(division == CLEAN, params.gamma1)
    if params.pace == "easy_first":
        weight = easy_first(loss, gamma)
        return weight.where(kept, 0.0), regulariser(weight, loss, gamma).where(kept, 0.0)
    if params.pace == "hard_first":
        return hard_first(loss, gamma).where(kept, 0.0), zero
    return (torch.rand_like(zero) if params.pace == "random" else torch.ones_like(zero)).where(kept, 0.0), zero


def objective(sg: Tensor, sl: Tensor | None, params: RrsitrParams, same_image: Tensor | None = None) -> Loss:
    """RRSITR's loss on matrices of similarities (paper Eq. 4-10).

    Args:
        sg: global similarities ``[B, B]``, images by texts; the diagonal holds the shown pairs.
        sl: local similarities ``[B, B]``, or None without the local part.
        params: hyper-parameters.
        same_image: ids of the given images ``[B]`` if same-image entries are no hardest negatives, else None.
    """
    parts = {"global": pair_losses(sg, params.tau)}
    if sl is not None:
        parts["local"] = pair_losses(sl, params.tau)
    loss = torch.stack(list(parts.values())).sum(0)
    divides = params.pace != "off"
    division = divide(loss, params.gamma1, params.noisy_from) if divides else torch.zeros_like(loss, dtype=torch.int8)
    weight, constant = paced(loss, division, params)
    triplet = robust_triplet(sg, params.sigma, params.adaptive_margin, params.margin_detach, same_image)
    penalised = triplet if params.rtl_scope == "all" else triplet.where(division == NOISY, 0.0)
    paces = weight * loss + constant
    sums = {
        "LS1": paces.where(division == CLEAN, 0.0).mean(),
        "LS2": paces.where(division == AMBIGUOUS, 0.0).mean(),
        "Lsoft": penalised.mean(),
    }
    return Loss(
        total=sums["LS1"] + params.lambda1 * sums["LS2"] + params.lambda2 * sums["Lsoft"],
        terms={k: v.detach() for k, v in sums.items()} | _means(parts, division if divides else None),
        pair_loss=loss.detach(),
        clean_score=-loss.detach(),
        division=division if divides else None,
        records={"weight": weight, "triplet": triplet.detach(), **{k: v.detach() for k, v in parts.items()}},
    )


def _means(parts: dict[str, Tensor], division: Tensor | None) -> dict[str, Tensor]:
    """Mean loss of each branch, and the shares of the three sets."""
    found = {f"loss_{name}": value.detach().mean() for name, value in parts.items()}
    if division is not None:
        sets = (("clean", CLEAN), ("ambiguous", AMBIGUOUS), ("noisy", NOISY))
        found |= {f"share_{name}": (division == value).float().mean() for name, value in sets}
    return found


class Rrsitr(Method):
    """RRSITR over cosines of pooled vectors and Frobenius norms of token cosines."""

    card = CARD
    params: RrsitrParams

    def similarity(self, image: Features, text: Features) -> Tensor:
        """``alpha * Sg + (1 - alpha) * Sl`` (Eq. 11), in blocks of bounded memory; Sg alone without the local part."""
        if not self.params.local:
            return cosine(image, text)
        rows = block_rows(image, text)
        return in_blocks(self._fused, image, text, rows, rows)

    def _fused(self, image: Features, text: Features) -> Tensor:
        alpha, local = self.params.alpha, local_similarity(image, text, self.params.mask_padding)
        return alpha * cosine(image, text) + (1 - alpha) * local

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        """RRSITR's objective on the batch, in fp32 under autocast."""
        image, text, params = encoded.image, encoded.text, self.params
        with torch.autocast(image.pooled.device.type, enabled=False):
            local = local_similarity(image, text, params.mask_padding) if params.local else None
            same_image = batch.image if params.exclude_same_image else None
            return objective(cosine(image, text), local, params, same_image)

    def calibrate(self, context: Context) -> None:
        """State the chance level of the loss beside the thresholds; warn where gamma2 is far from it."""
        params, batch_size = self.params, self.setup.batch_size
        if context.epoch or params.pace == "off":
            return
        chance = chance_level(batch_size, params.local)
        said = (
            f"rrsitr: a pair at chance level has loss {4 if params.local else 2} ln B = {chance:.2f} at batch size "
            f"{batch_size}; gamma1 = {params.gamma1:g}, gamma2 = {params.gamma2:g}"
        )
        low, high = (share * chance for share in NEAR_CHANCE)
        if low <= params.noisy_from <= high:
            context.log(said)
            return
        side = "above it, so that such a pair is not noisy" if params.noisy_from > high else "far below it"
        context.warn(f"{said}: pairs are noisy from {params.noisy_from:g}, {side} (--set method.gamma2=...)")

    def epoch_phases(self, context: Context) -> Sequence[Phase]:
        """One phase over all pairs; warns when in the epoch before almost all of them were noisy."""
        weight = context.records.get("weight")
        share = 0.0 if weight is None else float((weight[weight.isfinite()] == 0).float().mean())
        if share > MOST_NOISY:
            trained = "only the triplet loss" if self.params.lambda2 else "nothing"
            context.log(f"rrsitr: {100 * share:.1f} % of the pairs were noisy in epoch {context.epoch}")
            context.warn(
                f"rrsitr: over {100 * MOST_NOISY:.0f} % of the pairs were noisy in some epoch, so that {trained} "
                "trained; try a larger method.tau (smaller losses) or a larger method.gamma2"
            )
        return super().epoch_phases(context)
