"""Card of InfoNCE."""

from __future__ import annotations

from dataclasses import dataclass

from rsbench.methods.card import MethodCard, hyper
from rsbench.methods.checks import within


@dataclass(frozen=True)
class InfoNceParams:
    """Hyper-parameters of InfoNCE."""

    tau: float = hyper(
        0.07,
        "CLIP: open_clip starts logit_scale at log(1/0.07)",
        help="temperature; where it starts if learn_tau",
    )
    learn_tau: bool = hyper(
        False,
        "fixed for comparability; CLIP learns it",
        help="learn log(1/tau), at most log 100, without weight decay",
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        within("infonce", "tau", self.tau, 0.01)


CARD = MethodCard(
    name="infonce",
    title="Symmetric InfoNCE",
    paper="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021",
    target="rsbench.methods.infonce:InfoNce",
    params=InfoNceParams,
    equations=(
        "F_ij = cos(image_i, text_j) / tau",
        "L = mean_i 1/2 [ -log softmax_j(F_ij)_i - log softmax_j(F_ji)_i ]",
    ),
    variants={"full": {}, "learn_tau": {"learn_tau": True}},
    searched=tuple({"tau": t} for t in (0.07, 0.03, 0.05, 0.1, 0.15, 0.2)),
    decided=(
        "No published noisy-correspondence recipe of it was found: there is no paper recipe.",
        "1/tau is kept at or below 100, as in CLIP, so tau is at least 0.01.",
        "It has no clean score of its own: noise detection uses the similarity of the shown pair.",
    ),
)
"""Card of ``infonce``."""
