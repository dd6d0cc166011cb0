"""Card of PMPGuard."""

from __future__ import annotations

from dataclasses import dataclass

from rsbench.methods.card import MethodCard, hyper
from rsbench.methods.checks import within

_SILENT = "not in the paper"
_NAAF = "CrossmodalGroup/NAAF"
_PIR = "jaychempan/PIR, public code of the same lab"


@dataclass(frozen=True)
class PmpGuardParams:
    """Hyper-parameters of PMPGuard."""

    tau: float = hyper(0.07, "paper, Implementation Details", help="temperature of Eq. 6 at the start; learned")
    g: float = hyper(0.5, "paper, Implementation Details", help="margin of Eq. 15")
    lam: float = hyper(1.0, f"{_SILENT} (only > 0)", unpublished=True, help="weight of Eq. 15 in Eq. 16")
    alpha: float = hyper(
        2.0, f"{_SILENT}; {_NAAF} train.py:99", unpublished=True, help="cost of a mismatched word above t_k, Eq. 9"
    )
    factor: float = hyper(
        20.0, f"{_SILENT}; {_NAAF} train.py:85", unpublished=True, help="inverse temperature of Eq. 12 and w_relev"
    )
    cga: bool = hyper(True, "paper, Eq. 1-5", help="cross-gated attention; without it words and regions stay as are")
    cga_scope: str = hyper(
        "pairwise",
        "decided: Eq. 6 compares gated samples that Eq. 5 gates by a partner",
        choices=("pairwise", "own"),
        help="gate every image with every caption, or each sample once with its own partner",
    )
    pnaa: bool = hyper(
        True, "paper, Eq. 7-15", help="positive-negative awareness; without it L = L_IA and the score is its cosine"
    )
    pnaa_input: str = hyper(
        "raw", "paper, symbols of Eq. 10-13", choices=("raw", "gated"), help="fragments that PNAA reads"
    )
    pos_mask: str = hyper(
        "neginf",
        f"decided: Eq. 12 as printed is a softmax of 0 and 1; {_NAAF} model.py:290-299",
        choices=("neginf", "binary", "multiply"),
        help="reading of Mask_pos in Eq. 12",
    )
    relev: str = hyper(
        "naaf",
        f"{_SILENT}; {_NAAF} model.py:325-343",
        unpublished=True,
        choices=("naaf", "plain"),
        help="reading of w_relev in Eq. 13",
    )
    negative: bool = hyper(True, "paper, Eq. 11", help="words without a region above t_k lower the score")
    ia_denominator: str = hyper(
        "joint", "paper, Eq. 6", choices=("joint", "symmetric"), help="row and column in one log, or two InfoNCE logs"
    )
    reduction: str = hyper(
        "mean", "decided: Eq. 6 and 15 are sums", choices=("mean", "sum"), help="over the batch, for both losses"
    )
    negatives: str = hyper(
        "hardest",
        f"{_SILENT}; {_NAAF} model.py:519-523",
        unpublished=True,
        choices=("hardest", "all"),
        help="in-batch negatives of Eq. 15",
    )
    mask_same_image: bool = hyper(
        False,
        "off for all methods here; the paper is silent",
        help="captions of the same given image are no negatives (Eq. 6, 15)",
    )
    tk_source: str = hyper(
        "online",
        f"{_SILENT}; {_NAAF} model.py:419-475",
        unpublished=True,
        choices=("online", "fixed"),
        help="refit t_k from the words of each batch, or keep tk_start",
    )
    tk_start: float = hyper(0.0, f"{_SILENT}; {_NAAF}", unpublished=True, help="t_k before the first fit")
    tk_words: int = hyper(
        200, f"{_SILENT}; {_NAAF}", unpublished=True, help="a fit needs more matched words than this in one step"
    )
    tk_rate: float = hyper(
        0.7, f"{_SILENT}; {_NAAF}", unpublished=True, help="share of the new fit: t_k = rate * new + (1 - rate) * old"
    )
    new_lr_scale: float = hyper(
        2.0,
        f"{_PIR}, optim.py:10-48",
        unpublished=True,
        help="learning rate of the gates over that of a pretrained backbone; 1 where only heads are trained",
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        within("pmpguard", "tau", self.tau, 0.01)
        within("pmpguard", "g", self.g, 0)
        within("pmpguard", "lam", self.lam, 0, open_low=True)
        within("pmpguard", "alpha", self.alpha, 0, open_low=True)
        within("pmpguard", "factor", self.factor, 0, 80, open_low=True)
        within("pmpguard", "tk_start", self.tk_start, 0, 1)
        within("pmpguard", "tk_words", self.tk_words, 1)
        within("pmpguard", "tk_rate", self.tk_rate, 0, 1, open_low=True)
        within("pmpguard", "new_lr_scale", self.new_lr_scale, 0, open_low=True)


CARD = MethodCard(
    name="pmpguard",
    title="Pseudo-matched pairs guard: cross-gated attention and positive-negative awareness",
    paper="Ouyang et al., PMPGuard: Catching Pseudo-Matched Pairs in Remote Sensing Image-Text Retrieval, AAAI 2026, "
    "arXiv 2512.18660",
    target="rsbench.methods.pmpguard:PmpGuard",
    params=PmpGuardParams,
    equations=(
        "words u_i, regions v_j of one image and one caption",
        "(1) a_ij = u_i . W_a v_j / (|u_i| |v_j|); (2) alpha = softmax_j a_ij, beta = softmax_i a_ij",
        "(3) vt_i = sum_j alpha_ij v_j, ut_j = sum_i beta_ji u_i",
        "(4) gu_i = sigmoid(Wgu [u_i ; vt_i] + bgu), gv_j = sigmoid(Wgv [v_j ; ut_j] + bgv)",
        "(5) uh_i = gu_i u_i + (1 - gu_i) vt_i, vh_j = gv_j v_j + (1 - gv_j) ut_j",
        "(6) L_IA = mean_s -log( exp C_ss / (sum_k exp C_sk + sum_k exp C_ks) ), C = cos(mean uh, mean vh)/tau over "
        "samples s, k",
        "(7-9) t_k = argmin_t alpha P(mismatched word > t) + P(matched word < t), both normal",
        "(10) s_i = max_j s_ij - t_k, s_ij = cos(u_i, v_j); (11) sneg_i = min(s_i, 0)",
        "(12) winter_ij = softmax of 20 (s_ij - t_k) over the regions above t_k; vbar_i = sum_j winter_ij v_j",
        "(13) spos_i = cos(u_i, vbar_i) + sum_j wrelev_ij s_ij; (14) S = mean_i (spos_i + sneg_i), the score at test",
        "(15) L_PA = mean_s [g - S_ss + max_k S_sk]_+ + [g - S_ss + max_k S_ks]_+; (16) L = L_IA + lam L_PA",
    ),
    variants={
        "full": {},
        "no_cga": {"cga": False},
        "no_pnaa": {"pnaa": False},
        "no_neg": {"negative": False},
        "fixed_tk": {"tk_source": "fixed"},
    },
    needs=frozenset({"tokens"}),
    paper_recipe={
        "optimizer": "adamw",
        "lr": 1e-5,
        "weight_decay": 0.01,
        "beta2": 0.98,
        "batch_size": 128,
        "epochs": 20,
        "schedule": "linear",
        "warmup_share": 0.1,
    },
    searched=(
        {"g": 0.5},
        {"g": 0.2},
        {"g": 0.5, "negatives": "all"},
        {"g": 0.2, "negatives": "all"},
        {"g": 0.2, "tau": 0.03},
        {"g": 0.2, "tau": 0.15},
    ),
    decided=(
        "No public code of the paper was found. Gaps of PNAA are filled from CrossmodalGroup/NAAF, whose attention it "
        "shares, gaps of the training from jaychempan/PIR of the same lab; both are named at each field.",
        "Words and regions are content tokens; class, start, end and padding tokens are left out everywhere. A caption "
        "without any stands with its pooled vector as the one word, and the run says so.",
        "cga_scope: gating each sample with its own partner (`own`) puts the image into its own text vector, so that "
        "copying solves the loss, and at test there is no partner. `own` scores pairwise where a gated score is asked "
        "for. Eq. 6 reads the cosine of the means of real gated fragments. W_a starts as the identity.",
        "t_k: words of captions whose given image ranks first in the batch (best cosine each) are matched, the same "
        "words against the lowest image are mismatched. Refit when a training step collects more than tk_words matched "
        "words, else the old t_k stays (NAAF resets it to 0); with 32 pairs of 11 words that takes 19 such captions. "
        "0, the root of Eq. 9 and 1 are compared. t_k is part of the checkpoint, is used at test and has no gradient.",
        "A word with no region above t_k has no attended region: its cos(u_i, vbar_i) is 0 (NAAF).",
        "Captions of the same given image count as negatives, as for every method here (`mask_same_image`).",
        "no_neg (sneg = 0) and fixed_tk (t_k = tk_start) are ours; no_cga leaves uh = u and vh = v, no_pnaa leaves "
        "L = L_IA with its cosine as score: the paper does not define its two ablations further.",
        "Clean score: the pair's own S (the own cosine of Eq. 6 without PNAA); the method divides no pairs.",
        "Paper recipe: the learning rate is that advised for the GeoRSCLIP variant (1e-5; PIR's is 6e-5 for Swin and "
        "BERT). Gates learn at twice the rate of a pretrained backbone; where only heads are trained all is new, so "
        "all learn alike.",
        "Searched: the margin with either kind of negatives, then tau. With the hardest negatives and g = 0.5 "
        "L_PA stays near 2g in the first epochs on noisy pairs: scores shrink instead of parting.",
    ),
)
"""Card of ``pmpguard``."""
