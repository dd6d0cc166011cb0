"""Card of SREM."""

from __future__ import annotations

from dataclasses import dataclass

from rsbench.errors import UsageError
from rsbench.methods.card import MethodCard, adam_steps, hyper
from rsbench.methods.checks import within

_OURS = "not in the paper"


@dataclass(frozen=True)
class SremParams:
    """Hyper-parameters of SREM."""

    tau: float = hyper(
        -2.0, f"{_OURS}; midway between m_clean and m_noisy", unpublished=True, help="energy threshold of Eq. 2"
    )
    m_clean: float = hyper(-4.0, "paper, caption of Fig. 4 (CC152K)", help="clean energies are pushed below it (Eq. 3)")
    m_noisy: float = hyper(0.0, "paper, caption of Fig. 4 (CC152K)", help="noisy energies are pushed above it (Eq. 3)")
    alpha: float = hyper(
        0.2, f"{_OURS}; margin of NCR, NCR/run.py:62-64", unpublished=True, help="margin of Eq. 5 and 6"
    )
    beta: float = hyper(10.0, _OURS, unpublished=True, help="sharpness of the selection score, Eq. 10")
    b: float = hyper(0.5, _OURS, unpublished=True, help="center of the selection score, Eq. 10")
    lambda1: float = hyper(0.1, f"{_OURS}, in [0, 1]", unpublished=True, help="weight of the energy-bounded loss")
    lambda2: float = hyper(1.0, f"{_OURS}, in [0, 1]", unpublished=True, help="weight of the complementary loss")
    warmup_epochs: int = hyper(5, "paper, Implementation Details", help="epochs on the complementary loss alone")
    cmbcl: str = hyper(
        "weight_softmax",
        "decided: Eq. 12-13 as printed do not train",
        choices=("weight_softmax", "literal", "yu_forward", "uniform", "none"),
        help="reading of the complementary loss, Eq. 9-13",
    )
    clean_set: str = hyper(
        "per_direction",
        "paper: t2i is symmetric to i2t",
        choices=("per_direction", "intersection"),
        help="clean pairs of each direction, or those clean in both",
    )
    mask_same_image: bool = hyper(
        False, "off in the paper", help="captions of the same given image are no negatives of each other"
    )
    filtration: bool = hyper(True, "paper, Eq. 1-3", help="energy filtration and energy-bounded loss")
    swapped_weight: bool = hyper(True, "paper, Eq. 4-6", help="weight the positive by the other direction's entropy")
    scale: float = hyper(20.0, "adaptation to cosine backbones: F = a*cos + d", unpublished=True, help="initial a")
    learn_affine: bool = hyper(True, "adaptation to cosine backbones", unpublished=True, help="learn a and d")
    calibrate_shift: bool = hyper(
        True,
        "adaptation to cosine backbones",
        unpublished=True,
        help="set d, without labels, so that rows of negatives have energy m_noisy",
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.m_clean >= self.m_noisy:
            raise UsageError(
                f"srem: m_clean = {self.m_clean:g} must be below m_noisy = {self.m_noisy:g} "
                "(--set method.m_clean=... --set method.m_noisy=...)"
            )
        within("srem", "alpha", self.alpha, 0, open_low=True)
        within("srem", "beta", self.beta, 0)
        within("srem", "lambda1", self.lambda1, 0, 1)
        within("srem", "lambda2", self.lambda2, 0, 1)
        within("srem", "warmup_epochs", self.warmup_epochs, 0)
        within("srem", "scale", self.scale, 0, 100, open_low=True)


CARD = MethodCard(
    name="srem",
    title="Self-reinforcing errors mitigation",
    paper="Dang et al., Noisy Correspondence Learning with Self-Reinforcing Errors Mitigation, AAAI 2024, "
    "arXiv 2312.16478",
    target="rsbench.methods.srem:Srem",
    params=SremParams,
    equations=(
        "F = a*cos + d, S = sigmoid(F), P = row softmax(F); text-to-image is the same on F^T",
        "(1) E_i = -logsumexp_j F_ij",
        "(2) clean_i = E_i < tau and argmax_j F_ij = i",
        "(3) L_u = mean_clean [E_i - m_clean]_+^2 + mean_noisy [m_noisy - E_i]_+^2",
        "(4) e_i = -sum_j P_ij log P_ij / log B",
        "(5) phi(i) = argmax_{j != i} F_ij, w_i = 1 - e_i 1[alpha - S_ii + S_i,phi(i) > 0], detached",
        "(6) L_w(i2t) = mean_clean [alpha - w_i(t2i) S_ii + S_i,phi(i)]_+, and with i2t and t2i swapped",
        "(10) Pbar_ij = exp(beta(S_ij - b)) / (1 + sum_{k != i} exp(beta(S_ik - b))), j != i; "
        "(11) without phi(i) for clean i; (12) Q = row softmax(Pbar), detached",
        "(13) L_c = mean_i sum_{j != i} -Q_ij log(1 - P_ij)  [decided reading]",
        "L = 1/2 sum_dir L_w + lambda1 sum_dir L_u + lambda2 sum_dir L_c; warm-up: L = sum_dir L_c",
    ),
    variants={
        "full": {},
        "none": {"filtration": False, "swapped_weight": False, "cmbcl": "none"},
        "u": {"swapped_weight": False, "cmbcl": "none"},
        "u+w": {"cmbcl": "none"},
        "u+w+c_uniform": {"cmbcl": "uniform"},
    },
    paper_recipe=adam_steps(epochs=55, decay_epoch=30),
    searched=(
        {"tau": -2.0, "scale": 20.0},
        *({"tau": 0.0, "scale": scale} for scale in (20.0, 14.0, 10.0, 7.0, 5.0)),
    ),
    detector="native",
    decided=(
        "cmbcl: Eq. 12-13 as printed (`literal`) mix other images' positives into the loss and do not train; the "
        "default takes the expectation of -log(1 - P) over labels drawn from Q. `uniform` is L_c* of Table 3.",
        "tau, alpha, beta, b, lambda1 and lambda2 are not published.",
        "One clean set per direction. Division for detection: clean in both directions = clean, in one = ambiguous, "
        "in none = noisy. Clean score = -(E_i2t + E_t2i)/2.",
        "Warm-up: complementary loss alone, weight 1, no exclusion by Eq. 11. Variants without complementary "
        "learning warm up on the plain hinge over all pairs, which `none` keeps throughout.",
        "Cosine backbones: d is set before the first epoch and again after warm-up so that the mean energy of a row of "
        "negatives is m_noisy; this also absorbs a batch size other than 128, so nothing is shifted by log(128/B).",
        "Searched: the midway threshold, then tau = m_noisy with five initial scales a, which play the part of 1/tau "
        "in other losses. On frozen features clean energies lie only about 1 below the noisy ones after calibration, "
        "so a threshold midway selects almost nothing.",
        "Warm-up and training losses differ in scale by about 100 (L_c is RCL's loss over B - 1): the optimizer starts "
        "anew after warm-up, else Adam's old moments make its first steps several times too long and it collapses.",
        "A warning is given when under 2 % or over 98 % of the pairs of an epoch come out clean.",
        "Decay x0.1 after 25 epochs is counted from the end of warm-up (epoch 30); clipping at 2.0 is NCR's.",
    ),
)
"""Card of ``srem``."""
