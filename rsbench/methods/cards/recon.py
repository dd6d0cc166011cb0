"""Card of ReCon."""

from __future__ import annotations

from dataclasses import dataclass

from rsbench.methods.card import MethodCard, adam_steps, hyper
from rsbench.methods.checks import within

_PAPER = "paper, section 4.2"


@dataclass(frozen=True)
class ReconParams:
    """Hyper-parameters of ReCon."""

    tau: float = hyper(0.1, f"{_PAPER}; 0.05 in qxzha/ReCon opt.py", help="temperature of the matching probabilities")
    omega1: float = hyper(0.5, _PAPER, help="pairs with y_CM above it pass the cross-modal test")
    omega2: float = hyper(0.5, _PAPER, help="of these, pairs with y_IM below it are D_c, the others D_l; 1 = no split")
    alpha: float = hyper(0.1, f"{_PAPER}; 0.8 in qxzha/ReCon opt.py", help="sharpness of the penalty, Eq. 9")
    beta: float = hyper(0.6, _PAPER, help="memory of the pseudo label, Eq. 10")
    gamma: float = hyper(0.2, _PAPER, help="margin of the warm-up, Eq. 12")
    xi: float = hyper(5.0, _PAPER, help="weight of the cross-modal loss, Eq. 13 and 14")
    warmup_epochs: int = hyper(5, f"{_PAPER} (eta)", help="epochs on the triplet loss alone")
    relation: str = hyper(
        "paper",
        "paper, Eq. 3-4",
        choices=("paper", "symmetric", "official_block", "batch", "none"),
        help="reading of the intra-modal loss; batch needs no tokens, and is not ReCon",
    )
    im_temp: float = hyper(
        0.1, "not in the paper; equal to tau", unpublished=True, help="temperature of the relations' row softmax"
    )
    im_reduce: str = hyper(
        "sum", "not in the paper", unpublished=True, choices=("sum", "mean"), help="over the rows of a relation matrix"
    )
    penalty: bool = hyper(True, "paper, Eq. 9 and 14", help="divide L_IM of D_l by lambda")

    def __post_init__(self) -> None:
        """Check ranges."""
        within("recon", "tau", self.tau, 0.01)
        for name in ("omega1", "omega2", "beta"):
            within("recon", name, getattr(self, name), 0, 1)
        for name in ("alpha", "im_temp"):
            within("recon", name, getattr(self, name), 0.01)
        for name in ("gamma", "xi", "warmup_epochs"):
            within("recon", name, getattr(self, name), 0)

    @property
    def uses_tokens(self) -> bool:
        """Whether relations are between tokens."""
        return self.relation not in ("batch", "none")

    def needs(self) -> frozenset[str]:
        """Tokens, unless relations are between the pairs of a batch or left out."""
        return frozenset({"tokens"}) if self.uses_tokens else frozenset()


CARD = MethodCard(
    name="recon",
    title="Relation consistency",
    paper="Zha et al., ReCon: Enhancing True Correspondence Discrimination through Relation Consistency for Robust "
    "Noisy Correspondence Learning, CVPR 2025, arXiv 2502.19962",
    target="rsbench.methods.recon:Recon",
    params=ReconParams,
    equations=(
        "g_ij = cos(image_i, text_j), p1 = row softmax(g / tau), p2 = column softmax(g / tau)",
        "(2) l_CM,i = -log p1_ii - log p2_ii",
        "(3) C_VV, C_LL, C_VL: cosines of a pair's tokens; i*(a) = argmax_b C_VL[a,b], Cp_VV[a,b] = C_LL[i*(a), i*(b)] "
        "and Cp_LL likewise from C_VV",
        "(4) L_IM = KL(C_VV || Cp_VV) + KL(C_LL || Cp_LL) between row softmaxes at im_temp, summed over rows "
        "[decided reading]",
        "(6) y_CM = posterior of the small-loss component of a two-Gaussian mixture on l_CM of all pairs",
        "(7) y_IM = log(1 + L_IM) / (1 + log(1 + L_IM)); y_IM < 0.5 exactly where L_IM < e - 1 = 1.718",
        "(8) D_c: y_CM > omega1 and y_IM < omega2; D_l: y_CM > omega1 and y_IM >= omega2; D_n: the rest",
        "(9) lambda = exp(y_IM / alpha), detached",
        "(10) yt <- beta yt + (1 - beta) (p1_ii + p2_ii)/2 once per epoch, detached",
        "(12) warm-up: sum over all in-batch negatives of [gamma - g_ii + g_ij]_+ + [gamma - g_ii + g_ji]_+",
        "(13-15) D_c: xi l_CM + L_IM; D_l: xi l_CM + L_IM / lambda; D_n: yt l_CM; mean over the batch",
    ),
    variants={
        "full": {},
        "no_lambda": {"penalty": False},
        "no_tru": {"omega2": 1.0},
        "cm_only": {"relation": "none"},
        "mean": {"im_reduce": "mean"},
        "symmetric": {"relation": "symmetric"},
        "official_block": {"relation": "official_block"},
        "official_opts": {"tau": 0.05, "alpha": 0.8},
        "batch": {"relation": "batch"},
    },
    paper_recipe=adam_steps(epochs=40, decay_epoch=30),
    searched=tuple({"tau": t} for t in (0.1, 0.05, 0.03, 0.07, 0.15, 0.2)),
    detector="native",
    decided=(
        "relation: similarities are cosines of projected tokens (the paper's g has no token form). Row softmax at "
        "im_temp 0.1 and a sum over rows are ours; at temperature 1 with a mean, L_IM never reaches the bound and D_l "
        "is always empty. `paper` is the one-way KL of Eq. 4; `symmetric` adds the other way, as the text has it.",
        "mean: the other reduction; unlike the sum it does not grow with the number of tokens, and leaves pairs on "
        "both sides of the bound where the sum leaves D_c empty.",
        "Only content tokens take part. A caption without any has L_IM = 0: only the cross-modal test divides it.",
        "official_block: the one relation in the published files, which nothing there calls. One self-attention over "
        "both token sets with learned linears reads a detached copy, and loss rows are averaged. Its output also "
        "replaces the embeddings before the similarity; here the pooled vector attends to its own modality only (the "
        "joint form would let an image read its own caption) and keeps its gradient (detached, the towers would not "
        "train). im_temp and im_reduce do not apply. Its loss has an offset that is larger for short captions.",
        "batch (`recon_batch`): relations between the pairs of a batch on pooled vectors, KL in both directions. It "
        "resembles GSC and must not be reported as ReCon; tables show it as `recon:batch`.",
        "no_lambda and no_tru have the same loss by Eq. 13-14 (L_IM at weight 1 on the whole clean part) and differ "
        "only in the division they report; the paper's rSum of 500.2 and 499.1 for them differs for another reason.",
        "official_opts: the values of tau and alpha in opt.py, a file left over from another method; its optimizer "
        "and its augmentation are not part of it.",
        "Mixture settings are NCR's (the paper gives none). A mixture that collapses calls no pair noisy, and says so.",
        "One pass over all pairs before each epoch divides them; one loader over all pairs trains. A short last batch "
        "of that pass borrows pairs of the batch before: fewer negatives would lower its losses.",
        "y_IM, and with it lambda, is that of the division. The first pseudo label is the first pass's (p1 + p2)/2.",
        "Warm-up loss: mean over the batch of each pair's sum over negatives.",
        "Clean score = log(y_CM (1 - y_IM)), the two tests of the division in one number; in warm-up -l_CM. It is a "
        "logarithm because y_CM itself rounds to 0 for the pairs believed most mismatched.",
        "The paper averages two similarity networks (SAF, SGR) at test time; here there is one cosine.",
        "Paper recipe: NCR's for Flickr30K, as the paper says; opt.py has lr 5e-4.",
    ),
)
"""Card of ``recon``."""
