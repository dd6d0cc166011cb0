"""SREM: energy-guided filtration, swapped entropy weights and biased complementary labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rsbench.backbones.base import Backbone
from rsbench.losses.biased import biased_complementary, selection, spread
from rsbench.losses.energy import (
    energy,
    energy_bound,
    hardest_negative,
    margin_weight,
    normalised_entropy,
    own_is_first,
    weighted_hinge,
)
from rsbench.losses.reduce import both_directions, masked_mean, not_negative, widened
from rsbench.matchers.cosine import AffineLogits
from rsbench.methods.base import NOISY, TRAIN, WARMUP, Batch, Context, Encoded, Loss, Method, Phase, Setup
from rsbench.methods.cards.srem import CARD, SremParams

LEAST_CLEAN, MOST_CLEAN = 0.02, 0.98
"""Shares of clean pairs outside of which an epoch is reported as collapsing."""

CALIBRATION_BATCHES = 8
"""Batches that set the first shift."""


@dataclass
class Rows:
    """What SREM reads of a batch, image-to-text rows first, then text-to-image rows; all ``[2, B]`` unless said.

    Attributes:
        logits: ``[2, B, B]``.
        scores: their sigmoid, ``[2, B, B]``.
        blocked: bool ``[B, B]``, entries that are no negatives.
        energy: E.
        entropy: e, detached.
        positive: S_ii.
        hardest: S at phi, -inf in a row without negatives.
        phi: int64, column of the hardest negative.
        first: bool, the shown pair is the first maximum of its row.
    """

    logits: Tensor
    scores: Tensor
    blocked: Tensor
    energy: Tensor
    entropy: Tensor
    positive: Tensor
    hardest: Tensor
    phi: Tensor
    first: Tensor


def read_rows(logits: Tensor, same_image: Tensor | None = None) -> Rows:
    """Everything row-wise that the objective needs.

    Args:
        logits: F ``[B, B]``, images by texts.
        same_image: ids of the given images ``[B]`` if same-image entries are no negatives, else None.
    """
    g = both_directions(widened(logits))
    blocked = not_negative(g.shape[-1], g.device, same_image)
    top, phi = hardest_negative(g, blocked)
    scores = g.sigmoid()
    return Rows(
        logits=g,
        scores=scores,
        blocked=blocked,
        energy=energy(g),
        entropy=normalised_entropy(g.detach()),
        positive=scores.diagonal(dim1=-2, dim2=-1),
        hardest=top.sigmoid().where(top.isfinite(), top),
        phi=phi,
        first=own_is_first(g, top, phi),
    )


def clean_rows(rows: Rows, params: SremParams) -> Tensor:
    """Clean sets of both directions, bool ``[2, B]`` (Eq. 2); every pair where there is no filtration."""
    if not params.filtration:
        return torch.ones_like(rows.first)
    clean = (rows.energy < params.tau) & rows.first
    return clean if params.clean_set == "per_direction" else clean.all(0, keepdim=True).expand(2, -1)


def complementary_rows(rows: Rows, used: Tensor, params: SremParams) -> Tensor:
    """Complementary loss of each row ``[2, B]`` (Eq. 9-13 in the chosen reading).

    Args:
        rows: the batch.
        used: bool ``[2, B]``, rows whose hardest negative already serves the hinge (Eq. 11).
        params: gives the reading, beta and b.
    """
    q = rows.logits
    if params.cmbcl != "uniform":
        chance = selection(rows.scores, rows.blocked, params.beta, params.b)
        serving = torch.zeros_like(rows.logits, dtype=torch.bool).scatter(-1, rows.phi[..., None], used[..., None])
        q = spread(chance, rows.blocked | serving)
    return biased_complementary(params.cmbcl, rows.logits, rows.scores, q, ~rows.blocked)


@dataclass
class Part:
    """One term of the objective.

    Attributes:
        factor: its weight in the total.
        value: scalar, summed over both directions, each reduced over its own set.
        per_row: ``[2, B]``, before reduction.
    """

    factor: float
    value: Tensor
    per_row: Tensor


def objective(logits: Tensor, params: SremParams, warmup: bool = False, same_image: Tensor | None = None) -> Loss:
    """SREM's loss on a matrix of logits (paper Eq. 1-13).

    Args:
        logits: F ``[B, B]``, images by texts; the diagonal holds the shown pairs.
        params: hyper-parameters.
        warmup: complementary loss alone.
        same_image: see ``read_rows``.
    """
    rows = read_rows(logits, same_image)
    filters = params.filtration and not warmup
    clean = clean_rows(rows, params) if filters else torch.ones_like(rows.first)
    weight = torch.ones_like(rows.entropy)
    if params.swapped_weight and not warmup:
        weight = margin_weight(rows.entropy, rows.positive, rows.hardest, params.alpha)
    parts = _parts(rows, clean, weight.flip(0), params, warmup)
    return Loss(
        total=torch.stack([p.factor * p.value for p in parts.values()]).sum(),
        terms={name: p.value.detach() for name, p in parts.items()},
        pair_loss=sum((p.factor * p.per_row.detach() for p in parts.values()), torch.zeros_like(rows.entropy)).sum(0),
        clean_score=-rows.energy.detach().mean(0),
        # clean in both directions -> CLEAN 0, in one -> AMBIGUOUS 1, in none -> NOISY 2
        division=(NOISY - clean.sum(0)).to(torch.int8) if filters else None,
        records=_records(rows, clean, weight, parts if filters else {}),
    )


def _parts(rows: Rows, clean: Tensor, swapped: Tensor, params: SremParams, warmup: bool) -> dict[str, Part]:
    """Terms of the objective by name: hinge, energy, complementary."""
    parts: dict[str, Part] = {}
    complements = params.cmbcl != "none"
    ranks = not (warmup and complements)
    if ranks:
        hinge = weighted_hinge(swapped, rows.positive, rows.hardest, params.alpha)
        parts["hinge"] = Part(0.5, masked_mean(hinge, clean).sum(), hinge * clean)
    if params.filtration and not warmup:
        bound = energy_bound(rows.energy, clean, params.m_clean, params.m_noisy)
        value = masked_mean(bound, clean) + masked_mean(bound, ~clean)
        parts["energy"] = Part(params.lambda1, value.sum(), bound)
    if complements:
        biased = complementary_rows(rows, clean & ranks, params)
        parts["complementary"] = Part(1.0 if warmup else params.lambda2, biased.mean(-1).sum(), biased)
    return parts


def _records(rows: Rows, clean: Tensor, weight: Tensor, parts: dict[str, Part]) -> dict[str, Tensor]:
    """Per-pair values for histograms and for the noise-gradient ratio (``pull`` = |dL_w/dS_ii|, unnormalised)."""
    values = {"energy": rows.energy.detach(), "entropy": rows.entropy, "weight": weight}
    if "hinge" in parts:
        active = parts["hinge"].per_row.detach() > 0
        values |= {"clean": clean.to(weight.dtype), "pull": weight.flip(0) * active}
    return {f"{name}_{way}": value[i] for name, value in values.items() for i, way in enumerate(("i2t", "t2i"))}


class Srem(Method):
    """SREM over affine cosine logits ``F = a*cos + d`` whose shift is calibrated without labels."""

    card = CARD
    params: SremParams

    def __init__(self, backbone: Backbone, params: SremParams, setup: Setup) -> None:
        super().__init__(backbone, params, setup)
        self.logits = AffineLogits(params.scale, learn=params.learn_affine)

    def epoch_phases(self, context: Context) -> Sequence[Phase]:
        """Warm-up epochs, then one phase over all pairs; warns when the last epoch's clean share collapsed."""
        self._guard(context)
        return (Phase(WARMUP if context.epoch < self.params.warmup_epochs else TRAIN),)

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        """SREM's objective on the batch, in fp32 under autocast."""
        scores = self.similarity(encoded.image, encoded.text)
        with torch.autocast(scores.device.type, enabled=False):
            warmup = batch.phase == WARMUP
            same_image = batch.image if self.params.mask_same_image else None
            loss = objective(self.logits(widened(scores)), self.params, warmup, same_image)
            if warmup and self.params.calibrate_shift:
                loss.records["negatives"] = self._negatives(scores.detach(), same_image)
        return loss

    def after_step(self) -> None:
        """Keep a at or below 100."""
        self.logits.bound_()

    def calibrate(self, context: Context) -> None:
        """Set d so that a row of negatives has energy m_noisy on average (card section 7).

        Before the first epoch from a few batches, after warm-up from the statistics of its last epoch:
        d gets no gradient in warm-up, where the loss does not change under a shift.
        """
        if context.epoch == 0 and self.params.cmbcl == "literal" and self.params.warmup_epochs:
            context.warn("srem: warm-up does not learn with cmbcl=literal; use the default weight_softmax")
        if not self.params.calibrate_shift:
            return
        negatives = context.records.get("negatives")
        if negatives is None:
            negatives = context.score(self._score_negatives, max_batches=CALIBRATION_BATCHES)
        mean = float(negatives.nanmean())
        if mean != mean:
            context.warn("srem: no row had a negative, so the shift d was not calibrated")
            return
        before, after = float(self.logits.shift.detach()), -self.params.m_noisy - mean
        with torch.no_grad():
            self.logits.shift.fill_(after)
        context.log(f"srem: shift d {before:.3f} -> {after:.3f} at a = {float(self.logits.scale.detach()):.3f}")
        self._log_energies(context, before - after)

    def _log_energies(self, context: Context, raised: float) -> None:
        found = context.records.get("clean_score")
        if found is None or found.isnan().all():
            return
        cuts = torch.tensor((0.05, 0.25, 0.5, 0.75, 0.95))
        shown = ", ".join(f"{v:.2f}" for v in (raised - found).nanquantile(cuts).tolist())
        context.log(f"srem: energies of the last epoch after the shift, 5/25/50/75/95 %: {shown}")

    def _score_negatives(self, encoded: Encoded, batch: Batch) -> Tensor:
        scores = self.similarity(encoded.image, encoded.text)
        return self._negatives(scores, batch.image if self.params.mask_same_image else None)

    @torch.no_grad()
    def _negatives(self, scores: Tensor, same_image: Tensor | None) -> Tensor:
        """``logsumexp_{j != i} a*c_ij``, mean of both directions, ``[B]``; NaN without negatives."""
        logits = both_directions(self.logits.scale * widened(scores))
        blocked = not_negative(len(scores), scores.device, same_image)
        found = logits.masked_fill(blocked, float("-inf")).logsumexp(-1).mean(0)
        return found.where(found.isfinite(), float("nan"))

    def _guard(self, context: Context) -> None:
        """Warn when almost no pair, or almost every pair, of the last epoch came out clean."""
        found = [context.records[k] for k in ("clean_i2t", "clean_t2i") if k in context.records]
        share = float(torch.stack(found).nanmean()) if found else 0.5
        if not LEAST_CLEAN <= share <= MOST_CLEAN:
            context.log(f"srem: {100 * share:.1f} % of the pairs came out clean in epoch {context.epoch}")
            context.warn(
                f"srem: under 2 % or over 98 % of the pairs came out clean in some epoch (tau {self.params.tau:g}), "
                "so the filtration does not separate. Try method.tau nearer to m_noisy, or a smaller method.lambda1"
            )
