"""Card of VSE++."""

from __future__ import annotations

from dataclasses import dataclass

from rsbench.methods.card import MethodCard, adam_steps, hyper
from rsbench.methods.checks import within


@dataclass(frozen=True)
class VseParams:
    """Hyper-parameters of VSE++."""

    margin: float = hyper(0.2, "fartashf/vsepp train.py:28-60", help="margin of the hinge on cosines")
    negatives: str = hyper(
        "hardest",
        "fartashf/vsepp train.py, --max_violation",
        choices=("hardest", "sum"),
        help="hardest in-batch negative of each direction, or all of them",
    )
    sum_epochs: int = hyper(
        0,
        "VSE++ starts with the hardest; woodfrog/vse_infty train.py:75-77 uses the sum for 1 epoch",
        help="first epochs on the sum over all negatives",
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        within("vse", "margin", self.margin, 0, open_low=True)
        within("vse", "sum_epochs", self.sum_epochs, 0)


CARD = MethodCard(
    name="vse",
    title="VSE++",
    paper="Faghri et al., VSE++: Improving Visual-Semantic Embeddings with Hard Negatives, BMVC 2018",
    target="rsbench.methods.vse:Vse",
    params=VseParams,
    equations=(
        "hardest: L = sum_i max_{j != i} [m - S_ii + S_ij]_+ + max_{j != i} [m - S_ii + S_ji]_+",
        "sum:     L = sum_i sum_{j != i} [m - S_ii + S_ij]_+ + [m - S_ii + S_ji]_+",
    ),
    variants={"full": {}, "sum": {"negatives": "sum"}},
    paper_recipe=adam_steps(epochs=30, decay_epoch=15),
    searched=tuple({"margin": m} for m in (0.2, 0.05, 0.1, 0.3, 0.4, 0.5)),
    decided=(
        "Summed over the batch as published; the factor B matters for clipping only, Adam divides it out.",
        "It has no clean score of its own: noise detection uses the similarity of the shown pair.",
    ),
)
"""Card of ``vse``."""
