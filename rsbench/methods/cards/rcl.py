"""Card of RCL."""

from __future__ import annotations

from dataclasses import dataclass

from rsbench.errors import UsageError
from rsbench.methods.card import MethodCard, adam_steps, hyper
from rsbench.methods.checks import within


@dataclass(frozen=True)
class RclParams:
    """Hyper-parameters of RCL."""

    tau: float = hyper(0.05, "penghu-cs/RCL RCL-SGRAF/opts.py", help="temperature, fixed")
    loss: str = hyper(
        "log",
        "penghu-cs/RCL RCL-SGRAF/opts.py and train_f30k.sh",
        choices=("log", "tan", "abs", "exp", "gce"),
        help="f(p) of a negative's probability",
    )
    q: float = hyper(0.2, "penghu-cs/RCL RCL-SGRAF/model.py: read from --margin", help="exponent of gce")
    ratio: float = hyper(
        -1.0, "penghu-cs/RCL RCL-SGRAF/opts.py", help="share of the batch drawn as negatives per row; -1 = all"
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        within("rcl", "tau", self.tau, 0, open_low=True)
        within("rcl", "q", self.q, 0, 1, open_low=True)
        if self.ratio != -1 and not 0 < self.ratio < 1:
            raise UsageError(f"rcl: ratio = {self.ratio:g} is not allowed; use -1 (all negatives) or a share in (0, 1)")


CARD = MethodCard(
    name="rcl",
    title="Robust cross-modal learning with complementary contrastive loss",
    paper="Hu et al., Cross-Modal Retrieval With Partially Mismatched Pairs, TPAMI 2023",
    target="rsbench.methods.rcl:Rcl",
    params=RclParams,
    equations=(
        "P1 = row softmax(S / tau), P2 = row softmax(S^T / tau)",
        "L = mean_i sum_{j != i} f(P1_ij) + mean_i sum_{j != i} f(P2_ij)",
        "f(p): log -log(1-p); tan tan(p); abs p; exp exp(p-1); gce (1-(1-p)^q)/q",
    ),
    variants={"full": {}, **{name: {"loss": name} for name in ("log", "tan", "abs", "exp", "gce")}},
    paper_recipe=adam_steps(epochs=30, decay_epoch=15),
    searched=tuple({"tau": t} for t in (0.05, 0.03, 0.07, 0.1, 0.15, 0.2)),
    decided=(
        "S is the cosine of pooled vectors; tau is not learned (a learned tau moves the bound of the loss).",
        "The code adds 1e-10 inside the log; here log(1-p) is computed exactly, which differs only where 1-p < 1e-9.",
        "The paper recipe is the Flickr30K one; COCO: 20 epochs, decay at 10, lr 5e-4.",
        "It has no clean score of its own: noise detection uses the similarity of the shown pair.",
    ),
)
"""Card of ``rcl``."""
