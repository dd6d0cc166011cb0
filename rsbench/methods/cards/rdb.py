"""Card of RDB."""

from __future__ import annotations

from dataclasses import dataclass

from rsbench.errors import UsageError
from rsbench.methods.card import MethodCard, hyper
from rsbench.methods.checks import within

_OURS = "not in the paper"
_HARMA = "seekerhuang/HarMA models/mga.py"
_DIFF = "microsoft/unilm Diff-Transformer/multihead_diffattn.py"


@dataclass(frozen=True)
class RdbParams:
    """Hyper-parameters of RDB."""

    mu: float = hyper(0.2, "paper 4.2", help="margin of the triplet loss, Eq. 10")
    loss: str = hyper(
        "full",
        "paper, Table 3",
        choices=("full", "cross", "cross+cls", "cross+consist"),
        help="terms of DTCL; cross alone is plain, without Eq. 14",
    )
    weights: str = hyper(
        "learned", "paper, Eq. 14", choices=("learned", "equal"), help="learned weights of the terms, or plain sum"
    )
    adapter: str = hyper(
        "cross_modal",
        "paper 3.2",
        choices=("cross_modal", "plain", "none"),
        help="CMAA, the plain adapter of Eq. 1 on both sides, or none",
    )
    placement: str = hyper(
        "post_encoder",
        "decided: the literal reading of 3.1; the figure is no text",
        unpublished=True,
        choices=("post_encoder", "per_block"),
        help="one adapter after each tower, or one after every block (needs a backbone with blocks)",
    )
    shared: str = hyper(
        "linear",
        "decided: no formula in the paper; harma: seekerhuang/HarMA models/mga.py:28-63",
        unpublished=True,
        choices=("linear", "harma", "none"),
        help="layer shared by both modalities",
    )
    r: int = hyper(
        128, f"{_HARMA}:87-90", unpublished=True, help="width of the adapters, at most that of the narrower tower"
    )
    dropout: float = hyper(0.2, "paper 4.2; its place is ours", help="after GELU and before the class heads")
    da_heads: int = hyper(1, "paper, Eq. 2", help="heads of the differential attention")
    da_subln: bool = hyper(False, f"off as printed; {_DIFF}", help="norm of each head and factor 1 - lam_init")
    lam_init: float = hyper(
        0.8,
        f"{_OURS}; limit of 0.8 - 0.6 exp(-0.3 depth) of {_DIFF}, which per_block uses",
        unpublished=True,
        help="constant part of lambda, Eq. 3 (post_encoder)",
    )
    ema: bool = hyper(True, "paper 3.3", help="teacher = averaged copy of the text branch; else the text branch itself")
    ema_decay: float = hyper(0.999, _OURS, unpublished=True, help="decay of the averaged copy, per step")
    consist_reduce: str = hyper(
        "sum",
        "decided: squared Euclidean distance",
        unpublished=True,
        choices=("sum", "mse"),
        help="over the dimensions in Eq. 13",
    )
    sigma: float = hyper(1.0, _OURS, unpublished=True, help="initial sigma of Eq. 14")
    hardest: bool = hyper(False, "paper, Eq. 10: the sum over all negatives", help="hardest negatives only")
    cls_share_head: bool = hyper(
        False, f"{_OURS}; 'for each modality'", unpublished=True, help="one class head for images and texts"
    )
    freeze: bool = hyper(
        True, "paper 3.1", help="freeze what is pretrained; heads on cached features are not, and are trained"
    )
    mask_same_image: bool = hyper(
        False,
        "off for all methods of this suite; the paper's 'texts that do not match' may mean on",
        unpublished=True,
        help="captions of the same given image are no negatives of each other",
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        within("rdb", "mu", self.mu, 0, open_low=True)
        within("rdb", "r", self.r, 2)
        within("rdb", "dropout", self.dropout, 0, 0.9)
        within("rdb", "da_heads", self.da_heads, 1)
        within("rdb", "lam_init", self.lam_init, 0, 1)
        within("rdb", "ema_decay", self.ema_decay, 0, 1)
        within("rdb", "sigma", self.sigma, 1e-3)
        if self.r % (2 * self.da_heads):
            raise UsageError(
                f"rdb: r = {self.r} must be a multiple of 2 * da_heads = {2 * self.da_heads} (--set method.r=...)"
            )

    @property
    def wants_classes(self) -> bool:
        """Whether a term of the loss needs the scene class of the given image."""
        return self.loss in ("full", "cross+cls")

    def needs(self) -> frozenset[str]:
        """Hidden states for adapters, and blocks for one after every block."""
        if self.adapter == "none":
            return frozenset()
        return frozenset({"hidden", "blocks"} if self.placement == "per_block" else {"hidden"})


CARD = MethodCard(
    name="rdb",
    title="Representation discrepancy bridging",
    paper="Ning et al., Representation Discrepancy Bridging Method for Remote Sensing Image-Text Retrieval, 2025, "
    "arXiv 2505.16756",
    target="rsbench.methods.rdb:Rdb",
    params=RdbParams,
    equations=(
        "(1) z = dropout(GELU(W_down E)), c = g a + (1 - g)(W_sh a + b_sh), g = sigmoid(q), E + W_up c, W_up = 0 first",
        "(2) image: a = (softmax(Q1 K1^T / sqrt d) - lam softmax(Q2 K2^T / sqrt d)) V of z",
        "(3) lam = exp(lq1 . lk1) - exp(lq2 . lk2) + lam_init",
        "(4-6) text, sentence i: h_t = BiGRU_w(z)_t, u_t = tanh(W h_t + b), s_i = sum_t softmax_t(u_t . u_w) h_t",
        "(7-9) text, sentences: the same over s_1..s_n with BiGRU_s and u_s gives a = v",
        "(10) L_cross = mean_i sum_{j != i} [mu - S_ii + S_ij]_+ + [mu - S_ii + S_ji]_+; (11) S = cos(y_I, y_T)",
        "(12) L_cls = mean CE(head_I(y_I), class) + mean CE(head_T(y_T), class), class of the given image",
        "(13) L_consist = mean_i |y_Ii - y_Ti|^2 of normalised y; y_T from the averaged text branch, no gradient",
        "(14) L = sum_k L_k / (2 sigma_k^2) + log(1 + sigma_k^2)",
    ),
    variants={
        "full": {},
        "no_dtcl": {"loss": "cross"},
        "cross+cls": {"loss": "cross+cls"},
        "cross+consist": {"loss": "cross+consist"},
        "full_ft": {"adapter": "none", "freeze": False, "loss": "cross"},
        "no_cls": {"loss": "cross+consist"},
        "symmetric_adapter": {"adapter": "plain"},
        "no_shared": {"shared": "none"},
        "equal_weights": {"weights": "equal"},
    },
    paper_recipe={
        "optimizer": "adam",
        "lr": 2e-4,
        "weight_decay": 0.0,
        "batch_size": 32,
        "epochs": 30,
        "schedule": "step",
        "decay_epochs": (20,),
        "decay_factor": 0.7,
    },
    searched=tuple({"mu": m} for m in (0.2, 0.05, 0.1, 0.3, 0.4, 0.5)),
    decided=(
        "One adapter after each tower (literal reading of 3.1); `per_block` has 12 + 12 after the blocks, the shared "
        "layer tied per depth and lam_init by depth.",
        "The text vector is added to every valid token; pooled features read the end token alone (on cached features "
        "the leading pooled state), so this is the same as adding it there.",
        "Cached features (`toy`, `lite` heads): the towers are frozen by being cached, and the adapters work on their "
        "outputs; the small heads start at random, so they are trained beside the adapters. `freeze` acts on "
        "pretrained weights only. At step 0 the features equal the plain backbone's.",
        "r is at most the width of the narrower tower (64 on `toy`), rounded down to a multiple of 2 * da_heads.",
        "Captions count as one sentence, since tokens carry no sentence borders: v = BiGRU_s(s_1), and the "
        "sentence-level attention has nothing to choose from. The module itself takes a sentence number per token.",
        "Shared layer: one linear layer r -> r; gate: one scalar per modality, q = 0.6 (both without a formula in the "
        "paper). Without a shared layer there is nothing to gate. `symmetric_adapter` is Eq. 1 alone on both sides.",
        "Residual connection on, though not printed; no norm in the differential attention (`da_subln`).",
        "'weight decay of 0.7 after every 20 epochs' is a learning-rate factor, with weight decay 0.",
        "E10: all in-batch negatives, mean over the pairs. Captions of the same image stay negatives, as for every "
        "method here (`mask_same_image`).",
        "E12: images whose class is unknown are left out; 0 for a batch without any. Under noise the class is that of "
        "the given image.",
        "E13: the averaged copy holds what is trained of the backbone, the text adapter and the shared layer; it runs "
        "without dropout. `ema=off` takes the live text branch, detached.",
        "loss=cross is plain, without Eq. 14. full_ft has an unpublished loss: cross is taken, to differ from no_dtcl "
        "by the adapters alone.",
        "One fixed split with several seeds instead of five folds. Images are resized only, as in the recipe of all "
        "methods here. Inference: live weights, no averaged copy.",
        "RDB is not made for noisy pairs: noise detection uses the similarity of the shown pair.",
        "symmetric_adapter, no_shared and equal_weights are ours. no_cls is cross+consist, for datasets without "
        "classes.",
    ),
)
"""Card of ``rdb``."""
