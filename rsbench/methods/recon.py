"""ReCon: a cross-modal and an intra-modal test divide the pairs in three, each trained with a loss of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rsbench.backbones.base import CONTENT, Backbone, Features, Fields, concatenate
from rsbench.losses.contrastive import info_nce
from rsbench.losses.division import small_loss_posterior
from rsbench.losses.reduce import widened
from rsbench.losses.relation import (
    attention_discrepancy,
    batch_discrepancy,
    bounded,
    comparable,
    token_discrepancy,
    unbounded,
)
from rsbench.losses.triplet import triplet
from rsbench.methods.base import (
    AMBIGUOUS,
    CLEAN,
    NOISY,
    TRAIN,
    UNDECIDED,
    WARMUP,
    Batch,
    Context,
    Encoded,
    Loss,
    Method,
    Phase,
    ScoreFn,
    Setup,
)
from rsbench.methods.cards.recon import CARD, ReconParams


def content(features: Features) -> tuple[Tensor, Tensor]:
    """Tokens ``[B, L, D]`` and which of them are content, bool ``[B, L]``."""
    assert features.tokens is not None and features.kind is not None
    return features.tokens, features.kind == CONTENT


def matched(scores: Tensor, tau: float) -> Tensor:
    """``(p1_ii + p2_ii) / 2``, the mean probability of the shown pair in its row and its column, ``[B]`` (Eq. 10).

    Args:
        scores: g ``[B, B]``.
        tau: temperature.
    """
    logits = widened(scores) / tau
    own = logits.diagonal()
    return ((own - logits.logsumexp(1)).exp() + (own - logits.logsumexp(0)).exp()) / 2


def cross_modal(scores: Tensor, tau: float) -> Tensor:
    """l_CM ``[B]``: the negative log probability of the shown pair in its row plus that in its column (Eq. 2)."""
    return 2 * info_nce(widened(scores) / tau)


def divide(y_cm: Tensor, y_im: Tensor, omega1: float, omega2: float) -> Tensor:
    """D_c, D_l and D_n as ``CLEAN``, ``AMBIGUOUS`` and ``NOISY``, int8 ``[P]`` (Eq. 8).

    Args:
        y_cm: posterior of the small-loss component, ``[P]``.
        y_im: bounded discrepancy, ``[P]``.
        omega1: bound of y_cm.
        omega2: bound of y_im.
    """
    division = torch.full_like(y_cm, CLEAN, dtype=torch.int8)
    division[y_im >= omega2] = AMBIGUOUS
    division[~(y_cm > omega1)] = NOISY
    return division


def moved(label: Tensor, matching: Tensor, beta: float) -> Tensor:
    """The next pseudo label ``[P]`` (Eq. 10); ``matching`` itself where there is none yet (NaN)."""
    return (beta * label + (1 - beta) * matching).where(~label.isnan(), matching)


def weights(division: Tensor, y_im: Tensor, label: Tensor, p: ReconParams) -> tuple[Tensor, Tensor]:
    """Weights of l_CM and of L_IM for each pair, ``[B]`` each (Eq. 9, 11, 13-15).

    Args:
        division: of ``divide``.
        y_im: bounded discrepancy, constant.
        label: pseudo label, read in D_n only.
        p: hyper-parameters.
    """
    noisy = division == NOISY
    own = label.where(noisy, p.xi)
    penalised = (division == AMBIGUOUS) & p.penalty
    return own, (-y_im / p.alpha).exp().where(penalised, 1.0).masked_fill(noisy, 0.0)


class RelationAttention(nn.Module):
    """The self-attention of ``relation=official_block``.

    The key has no bias: it would add one number to all logits of a row, which their softmax does not see.

    Args:
        dim: D of the tokens.

    Source: qxzha/ReCon models/SGRAF.py, class SelfAttention.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.temperature = dim**0.5

    def discrepancy(self, image: Tensor, text: Tensor, image_real: Tensor, text_real: Tensor) -> Tensor:
        """L_IM ``[B]`` of unit tokens ``[B, N, D]`` and ``[B, M, D]``, which get no gradient."""
        tokens = nn.functional.normalize(torch.cat((image, text), dim=1).detach(), dim=-1)
        logits = self.query(tokens) @ self.key(tokens).mT / self.temperature
        return attention_discrepancy(logits, image_real, text_real)

    def forward(self, features: Features) -> Features:
        """The features with each pooled vector replaced by what it gathers of itself and its content tokens."""
        tokens, real = content(features)
        seen = nn.functional.normalize(torch.cat((features.pooled[:, None], tokens), dim=1), dim=-1)
        logits = (self.query(seen[:, :1]) @ self.key(seen).mT)[:, 0] / self.temperature
        blocked = ~nn.functional.pad(real, (1, 0), value=True)
        attention = widened(logits).masked_fill(blocked, float("-inf")).softmax(-1)[:, None]
        pooled = self.out((attention.to(seen.dtype) @ self.value(seen))[:, 0])
        return Features(pooled, features.tokens, features.kind, features.hidden)


class Recon(Method):
    """ReCon over cosines of pooled vectors, with relations between tokens.

    Memory per pair: y_CM, y_IM, the partition and the pseudo label of the last division.
    """

    card = CARD
    params: ReconParams
    log_y_cm: Tensor
    y_im: Tensor
    label: Tensor
    partition: Tensor

    def __init__(self, backbone: Backbone, params: ReconParams, setup: Setup) -> None:
        super().__init__(backbone, params, setup)
        self.attention = RelationAttention(backbone.dim) if params.relation == "official_block" else None
        for name in ("log_y_cm", "y_im", "label"):
            self.register_buffer(name, torch.full((setup.n_pairs,), float("nan")))
        self.register_buffer("partition", torch.full((setup.n_pairs,), UNDECIDED, dtype=torch.int8))
        self._warned: set[str] = set()

    def encode_images(self, x: Fields) -> Features:
        """Features of images, through the attention where there is one."""
        features = super().encode_images(x)
        return features if self.attention is None else self.attention(features)

    def encode_texts(self, x: Fields) -> Features:
        """Features of texts, through the attention where there is one."""
        features = super().encode_texts(x)
        return features if self.attention is None else self.attention(features)

    def epoch_phases(self, context: Context) -> Sequence[Phase]:
        """Warm-up epochs, then a division before each epoch and one phase over all pairs."""
        if context.epoch < self.params.warmup_epochs:
            return (Phase(WARMUP),)
        self._divide(context)
        return (Phase(TRAIN),)

    def loss(self, encoded: Encoded, batch: Batch) -> Loss:
        """Triplet loss in warm-up, then each partition's own loss; in fp32 under autocast."""
        scores = self.similarity(encoded.image, encoded.text)
        with torch.autocast(scores.device.type, enabled=False):
            if batch.phase == WARMUP:
                return self._warmup(scores)
            return self._divided(scores, self._discrepancy(encoded.image, encoded.text), batch.pair)

    def _warmup(self, scores: Tensor) -> Loss:
        per_pair = triplet(scores, self.params.gamma, hardest=False)
        total = per_pair.mean()
        l_cm = cross_modal(scores.detach(), self.params.tau)
        return Loss(total, {"triplet": total.detach()}, per_pair.detach(), -l_cm, records={"l_cm": l_cm})

    def _divided(self, scores: Tensor, l_im: Tensor, pair: Tensor) -> Loss:
        p, l_cm = self.params, cross_modal(scores, self.params.tau)
        log_y_cm, y_im, division = self.log_y_cm[pair], self.y_im[pair], self.partition[pair]
        own, inner = weights(division, y_im.to(l_cm.dtype), self.label[pair].to(l_cm.dtype), p)
        per_pair = own * l_cm + inner * l_im
        parts = {"cross_modal": own * l_cm, "intra_modal": inner * l_im, "discrepancy": l_im}
        named = (("clean", CLEAN), ("ambiguous", AMBIGUOUS), ("noisy", NOISY))
        parts |= {f"share_{name}": (division == value).float() for name, value in named}
        records = {"y_cm": log_y_cm.exp(), "y_im": y_im, "l_cm": l_cm.detach(), "pseudo_label": self.label[pair]}
        terms = {name: value.detach().mean() for name, value in parts.items()}
        return Loss(per_pair.mean(), terms, per_pair.detach(), log_y_cm + (-y_im).log1p(), division, records)

    def _discrepancy(self, image: Features, text: Features) -> Tensor:
        """L_IM ``[B]`` in the chosen reading."""
        p = self.params
        if p.relation == "none":
            return torch.zeros_like(widened(image.pooled[:, 0]))
        if p.relation == "batch":
            return batch_discrepancy(image.pooled, text.pooled, p.im_temp)
        (v, v_real), (l, l_real) = content(image), content(text)  # noqa: E741
        if self.attention is not None:
            return self.attention.discrepancy(widened(v), widened(l), v_real, l_real)
        return token_discrepancy(v, l, v_real, l_real, p.im_temp, p.im_reduce, p.relation == "symmetric")

    def _divide(self, context: Context) -> None:
        """Test every pair, move its pseudo label, and divide (card section 3)."""
        l_cm, l_im, matching, compared = context.score(self._scorer()).unbind(1)
        mixture = small_loss_posterior(l_cm)
        y_im = bounded(l_im)
        division = divide(mixture.posterior, y_im, self.params.omega1, self.params.omega2)
        self.label.copy_(moved(self.label.cpu(), matching, self.params.beta))
        self.log_y_cm.copy_(mixture.log_posterior)
        self.y_im.copy_(y_im)
        self.partition.copy_(division)
        if mixture.fallback:
            self._warn_once(context, f"{mixture.fallback}, so the cross-modal test called no pair noisy in some epoch")
        lost = int((compared == 0).sum())
        if lost:
            self._warn_once(
                context, f"{lost} of {len(compared)} pairs have no content token on one side: their L_IM is 0"
            )
        self._report(context, division, l_im)

    def _scorer(self) -> ScoreFn:
        """What is asked of every pair: l_CM, L_IM, pbar, and whether it has tokens to compare, ``[B, 4]``.

        A short last batch borrows pairs of the batch before, as its losses depend on the number of negatives.
        """
        before: list[Encoded] = []

        def score(encoded: Encoded, batch: Batch) -> Tensor:
            image, text = encoded.image, encoded.text
            if before and len(before[0].image) > len(batch):
                rest = slice(len(batch), None)
                image = concatenate([image, before[0].image[rest]])
                text = concatenate([text, before[0].text[rest]])
            before[:] = [encoded]
            return self._tests(image, text)[: len(batch)]

        return score

    def _tests(self, image: Features, text: Features) -> Tensor:
        scores = self.similarity(image, text)
        with torch.autocast(scores.device.type, enabled=False):
            l_cm, pbar = cross_modal(scores, self.params.tau), matched(scores, self.params.tau)
            l_im, compared = self._discrepancy(image, text), torch.ones_like(l_cm)
            if self.params.uses_tokens:
                compared = comparable(content(image)[1], content(text)[1]).to(l_cm.dtype)
            return torch.stack((l_cm, l_im.to(l_cm.dtype), pbar, compared), dim=1)

    def _report(self, context: Context, division: Tensor, l_im: Tensor) -> None:
        """Log the share of each partition, and say so once where one is empty."""
        p = self.params
        clean, ambiguous, noisy = (float((division == v).float().mean()) for v in (CLEAN, AMBIGUOUS, NOISY))
        low, middle, high = l_im.quantile(torch.tensor((0.05, 0.5, 0.95))).tolist()
        context.log(
            f"recon: epoch {context.epoch + 1}: D_c {clean:.1%}, D_l {ambiguous:.1%}, D_n {noisy:.1%} of the pairs; "
            f"L_IM 5/50/95 %: {low:.3g}, {middle:.3g}, {high:.3g} (D_l from {unbounded(p.omega2):.4g})"
        )
        if noisy in (0, 1):
            self._warn_once(
                context, f"{'every' if noisy else 'no'} pair came out as D_n in some epoch (cross-modal test)"
            )
        if p.relation == "none" or p.omega2 == 1 or noisy == 1:
            return
        if ambiguous and clean:
            return
        empty, way = ("D_c", "a higher") if ambiguous else ("D_l", "a lower")
        other = " (D_l took 100 % of the rough clean part)" if ambiguous else ""
        self._warn_once(
            context,
            f"{empty} was empty, 0 % of the pairs, in some epoch{other}: the relation test divides nothing with "
            f"relation={p.relation}; see the shares in the log, and {self._remedy(way)}",
        )

    def _remedy(self, way: str) -> str:
        p = self.params
        if p.relation == "official_block":
            return "try another method.omega2 (method.im_temp does not apply)"
        mean = p.relation in ("paper", "symmetric") and p.im_reduce == "sum" and way == "a higher"
        return f"try {way} method.im_temp{' or method.im_reduce=mean' if mean else ''}"

    def _warn_once(self, context: Context, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            context.warn(f"recon: {message}")
