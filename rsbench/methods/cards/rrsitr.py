"""Card of RRSITR."""

from __future__ import annotations

from dataclasses import dataclass

from rsbench.errors import UsageError
from rsbench.methods.card import MethodCard, hyper
from rsbench.methods.checks import within

_PAPER, _CODE = "paper 4.2; MSFLabX/RRSITR train_*.sh", "MSFLabX/RRSITR"


@dataclass(frozen=True)
class RrsitrParams:
    """Hyper-parameters of RRSITR."""

    gamma1: float = hyper(5.0, _PAPER, help="losses below it are clean")
    gamma2: float = hyper(18.0, _PAPER, help="losses below it are ambiguous, from it on noisy; tied to batch 100")
    lambda1: float = hyper(0.8, _PAPER, help="weight of the ambiguous pairs, Eq. 10")
    lambda2: float = hyper(0.9, _PAPER, help="weight of the robust triplet loss, Eq. 10")
    sigma: float = hyper(0.6, _PAPER, help="smallest margin, Eq. 9")
    alpha: float = hyper(0.9, _PAPER, help="share of the global similarity at inference, Eq. 11")
    tau: float = hyper(
        0.0499866,
        f"not in the paper; exp(-2.996) in {_CODE} training/train.py and model/model.py",
        unpublished=True,
        help="temperature of both similarities, fixed",
    )
    rtl_scope: str = hyper(
        "noisy",
        f"paper text, Fig. 2; {_CODE} loss/CLIP.py. Eq. 8 sums over all",
        choices=("noisy", "all"),
        help="pairs that get the robust triplet loss",
    )
    margin_detach: bool = hyper(False, f"{_CODE} loss/CLIP.py", help="no gradient through the adaptive margin")
    exclude_same_image: bool = hyper(
        False, f"{_CODE} loss/CLIP.py", help="captions of the same given image are no hardest negatives"
    )
    mask_padding: str = hyper(
        "empty",
        f"{_CODE} model/model.py counts all 77 positions",
        choices=("empty", "never", "always"),
        help="padded text positions left out of the local similarity: those with zero hidden state (none on CLIP), "
        "none, or all",
    )
    local: bool = hyper(
        True, "paper Eq. 3, 4, 11; off in Table 4 #1", help="local similarity, Eq. 3, in the loss and at inference"
    )
    pace: str = hyper(
        "easy_first",
        "paper Eq. 14; others in Table 4 #2, #4-6, definitions ours",
        choices=("easy_first", "hard_first", "random", "flat", "off"),
        help="weights inside the clean and the ambiguous set; flat: w = 1; off: no sets, plain mean of l",
    )
    ambiguous: bool = hyper(
        True, "paper 3.3; off in Table 4 #7", help="have an ambiguous set; else losses from gamma1 on are noisy"
    )
    adaptive_margin: bool = hyper(
        True, "paper Eq. 9; off in Table 4 #8", help="let the margin grow with the violation; else it is sigma"
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.gamma1 > self.gamma2:
            raise UsageError(
                f"rrsitr: gamma1 = {self.gamma1:g} must not exceed gamma2 = {self.gamma2:g} "
                "(--set method.gamma1=... --set method.gamma2=...)"
            )
        within("rrsitr", "gamma1", self.gamma1, 0, open_low=True)
        within("rrsitr", "lambda1", self.lambda1, 0)
        within("rrsitr", "lambda2", self.lambda2, 0)
        within("rrsitr", "sigma", self.sigma, 0)
        within("rrsitr", "alpha", self.alpha, 0, 1)
        within("rrsitr", "tau", self.tau, 0.01)

    @property
    def noisy_from(self) -> float:
        """Loss from which a pair is noisy."""
        return self.gamma2 if self.ambiguous else self.gamma1

    def needs(self) -> frozenset[str]:
        """Tokens, where there is a local similarity."""
        return frozenset({"tokens"}) if self.local else frozenset()


CARD = MethodCard(
    name="rrsitr",
    title="Robust remote sensing image-text retrieval",
    paper="Song et al., Robust Remote Sensing Image-Text Retrieval with Noisy Correspondence, CVPR 2026; "
    "official code MSFLabX/RRSITR",
    target="rsbench.methods.rrsitr:Rrsitr",
    params=RrsitrParams,
    equations=(
        "(2) Sg_ij = cos(image_i, text_j);  (3) Sl_ij = sqrt( sum_{patches e, tokens a} cos(v_ie, t_ja)^2 )",
        "(4) l_i = -log softmax_j(Sg_ij/tau)_i - log softmax_j(Sg_ji/tau)_i + the same of Sl",
        "clean: l < gamma1; ambiguous: gamma1 <= l < gamma2; noisy: l >= gamma2; anew in every step",
        "(14) w(l, gamma) = cos(pi/2 * l/gamma), detached; "
        "(7) R(w, gamma) = -2/pi * gamma * (w arccos w - sqrt(1 - w^2))",
        "(6) LS1 = 1/B sum_clean [w l + R](gamma1);  LS2 = 1/B sum_ambiguous [w l + R](gamma2)",
        "(9) mu_i = sigma (1 + [max_{j != i} Sg_ij - Sg_ii]_+), zeta_i the same over Sg_ji",
        "(8) Lsoft = 1/B sum_noisy [mu_i - Sg_ii + max_{j != i} Sg_ij]_+ + [zeta_i - Sg_ii + max_{j != i} Sg_ji]_+",
        "(10) L = LS1 + lambda1 LS2 + lambda2 Lsoft;  (11) score = alpha Sg + (1 - alpha) Sl",
    ),
    variants={
        "full": {},
        "no_local": {"local": False},
        "no_spl": {"pace": "flat"},
        "no_rtl": {"lambda2": 0.0},
        "baseline": {"local": False, "pace": "off", "lambda2": 0.0},
        "spl_hard_to_easy": {"pace": "hard_first"},
        "spl_random": {"pace": "random"},
        "no_ambiguous": {"ambiguous": False},
        "fixed_margin": {"adaptive_margin": False},
    },
    needs=frozenset({"tokens"}),
    paper_recipe={
        "optimizer": "adamw",
        "lr": 7e-6,
        "weight_decay": 0.7,
        "batch_size": 100,
        "epochs": 50,
        "schedule": "cosine",
        "warmup_steps": 200,
        "grad_clip": 50.0,
        "selection": "val_mr_round2",
    },
    searched=tuple({"tau": t} for t in (0.0499866, 0.07, 0.1, 0.2, 0.3, 0.5)),
    detector="native",
    decided=(
        "Clean and ambiguous sets are disjoint, each sum is divided by the whole batch size (as in the code).",
        "The triplet loss is for noisy pairs alone (`rtl_scope`); w = 0 of noisy pairs refers to LS1 and LS2 only.",
        "tau is not in the paper; the code fixes it at exp(-2.996) for both similarities and learns none.",
        "Adam with weight decay 0.7 is AdamW, as in the code (`--set recipe.optimizer=adam` for the other reading).",
        "Margins carry gradient (`margin_detach`); 'v_j != v_i' leaves out the diagonal alone (`exclude_same_image`).",
        "Image side of Sl: patch tokens only. Text side: every position, start and end token included. CLIP's padded "
        "positions attend to the caption and count, as in the code; on cached features they hold nothing, would add a "
        "constant that grows with the padding, and are left out (`mask_padding`).",
        "On cached features the pooled text vector is a token like CLIP's end token, whose projection is the pooled "
        "vector; it counts.",
        "R is masked to 0 for noisy pairs as in the code; it changes the reported loss, never the gradient.",
        "The definitions of `no_spl`, `baseline`, `spl_hard_to_easy`, `spl_random` and `no_ambiguous` are ours; the "
        "paper names them only.",
        "Chance level of l is 4 ln B (2 ln B without the local part). gamma2 = 18 lies just below it for B = 100; a "
        "warning is given where gamma2 is above it, or below three quarters of it.",
        "Searched: tau alone. On frozen features Sl spreads so widely that at the paper's tau most pairs start noisy; "
        "a larger tau lets more of them in. From about 0.5 on no pair falls below gamma1 any more.",
        "A batch of one pair has no negative: its triplet loss is 0.",
        "Clean score = -l_i.",
    ),
)
"""Card of ``rrsitr``."""
