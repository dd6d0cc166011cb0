"""Recipes: optimizer, schedule, batch, epochs and how the best epoch is chosen. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rsbench.errors import UsageError

WORDS = {
    "optimizer": ("adamw", "adam"),
    "schedule": ("cosine", "linear", "step", "constant"),
    "selection": ("val_mr", "val_mr_round2"),
}
"""Fields that take one of a few words."""

LEAST = {
    "lr": 0.0,
    "weight_decay": 0.0,
    "batch_size": 2,
    "epochs": 1,
    "warmup_steps": 0,
    "grad_clip": 0.0,
    "validate_every": 1,
    "early_stop": 0,
    "backbone_lr_scale": 0.0,
    "freeze": 0,
    "chunk_size": 0,
}
"""Smallest value of a number."""


@dataclass(frozen=True)
class Recipe:
    """How a method is trained.

    Attributes:
        name: ``common`` or ``paper``.
        optimizer: ``adamw`` or ``adam``.
        lr: peak learning rate.
        weight_decay: on matrices only.
        batch_size: pairs per step; an incomplete last batch is dropped.
        epochs: a method's warm-up counts inside.
        schedule: ``cosine`` or ``linear`` (per step, to 0), ``step`` (x ``decay_factor`` at ``decay_epochs``) or
            ``constant``.
        warmup_steps: linear warm-up of the learning rate, in steps.
        warmup_share: the same as a share of all steps, instead of ``warmup_steps``.
        beta2: decay of the second moment of Adam.
        grad_clip: global L2 norm, 0 = off.
        validate_every: epochs between validations (the last epoch is always validated).
        early_stop: stop after this many validations without a better mR, 0 = off.
        selection: ``val_mr`` (unrounded, earliest wins) or ``val_mr_round2`` (RRSITR evaluation/evaluation.py).
        backbone_lr_scale: learning rate of pretrained parameters as a share of ``lr`` (0.01 in woodfrog/vse_infty
            train_grid_hdfs.sh, ``backbone_lr_factor``).
        freeze: number of first layers of each tower that stay as they are, embeddings included
            (mlfoundations/open_clip ``lock``).
        grad_checkpoint: compute the insides of layers again in the backward pass instead of keeping
            them (Chen et al. 2016, arXiv 1604.06174); same numbers, less memory.
        ema: decay of an average of the weights over steps, which is validated and tested in their place, 0 = off
            (Polyak and Juditsky 1992; Tarvainen and Valpola 2017, arXiv 1703.01780).
        crop: smallest share of the image's area that a random crop keeps, 1 = off (0.5 in jaychempan/PIR
            dataset/__init__.py).
        flip: mirror every second image left to right; off because captions say left and right.
        chunk_size: pairs whose activations are in memory at once, while the loss still sees the batch, 0 = all
            (GradCache: Gao et al. 2021, arXiv 2101.06983).
    """

    name: str = "common"
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 128
    epochs: int = 15
    schedule: str = "cosine"
    decay_epochs: tuple[int, ...] = ()
    decay_factor: float = 0.1
    warmup_steps: int = 0
    grad_clip: float = 0.0
    validate_every: int = 1
    early_stop: int = 0
    selection: str = "val_mr"
    warmup_share: float = 0.0
    beta2: float = 0.999
    backbone_lr_scale: float = 1.0
    freeze: int = 0
    grad_checkpoint: bool = False
    ema: float = 0.0
    crop: float = 1.0
    flip: bool = False
    chunk_size: int = 0

    def __post_init__(self) -> None:
        """Check words and ranges.

        Raises:
            UsageError: which field, what is allowed.
        """
        for field, allowed in WORDS.items():
            if getattr(self, field) not in allowed:
                raise UsageError(f"recipe.{field} '{getattr(self, field)}' is unknown; use one of {', '.join(allowed)}")
        for field, least in LEAST.items():
            if not getattr(self, field) >= least:
                raise UsageError(f"recipe.{field} is {getattr(self, field)}; it must be {least:g} or more")
        for field in ("warmup_share", "beta2", "ema"):
            if not 0 <= getattr(self, field) < 1:
                raise UsageError(f"recipe.{field} is {getattr(self, field):g}; it must lie in [0, 1)")
        if not 0 < self.crop <= 1:
            raise UsageError(f"recipe.crop is {self.crop:g}; it must lie in (0, 1], 1 for whole images")


COMMON_HEADS = Recipe()
"""The house's own recipe for cached features and projection heads."""

COMMON_FULL = Recipe(
    lr=7e-6, weight_decay=0.7, batch_size=100, epochs=50, warmup_steps=200, grad_clip=50.0, selection="val_mr_round2"
)
"""RRSITR's published recipe (paper 4.2; MSFLabX/RRSITR train_*.sh, training/scheduler.py)."""

COMMON_LORA = replace(COMMON_FULL, lr=2e-4, weight_decay=1e-2)
"""The same for low-rank updates, which start from nothing: the learning rate at which RDB trains its adapters (paper
4.2), and the weight decay of ``COMMON_HEADS``."""

COMMON = {"heads": COMMON_HEADS, "lora": COMMON_LORA}
"""Tuning -> common recipe; ``COMMON_FULL`` for others."""
