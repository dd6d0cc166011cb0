"""The noise kinds ``none`` and ``shuffle``.

A noise kind is a function ``(dataset, split, spec) -> int64 [P, 2]``: the training pairs (image, caption) as
shown, row r being the noisy form of row r of ``dataset.pairs(split, "train")``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rsbench.data.dataset import Dataset, Ints
from rsbench.noise.index import NoiseSpec
from rsbench.noise.slots import row_slots, slot_images
from rsbench.seeding import derive_seed

NoiseKind = Callable[[Dataset, str, NoiseSpec], Ints]


def none(dataset: Dataset, split: str, spec: NoiseSpec) -> Ints:
    """The dataset's own training pairs ``[P, 2]``."""
    del spec
    return dataset.pairs(split, "train")


def shuffle(dataset: Dataset, split: str, spec: NoiseSpec) -> Ints:
    """Permute ``int(rate * units)`` units among themselves; fixed points are allowed, as published.

    Unit ``caption`` chooses pairs and permutes their captions (XLearning-SCU/2021-NeurIPS-NCR, MSFLabX/RRSITR).
    Unit ``image`` chooses image slots and permutes their images, so that all captions of a slot move together
    (penghu-cs/RCL, QinYang79/DECL). Where images differ in their number of captions, an image then occurs as
    often as its new slot has captions.

    Returns:
        int64 ``[P, 2]``.
    """
    shown = dataset.pairs(split, "train")
    seed = derive_seed(
        "noise", dataset.fingerprint, split, spec.kind, spec.unit, repr(float(spec.rate)), spec.source, spec.seed
    )
    if spec.unit == "caption":
        shown[:, 1] = shown[permuted(len(shown), spec.rate, seed), 1]
    else:
        images, slots = slot_images(shown), row_slots(shown)
        shown[:, 0] = images[permuted(len(images), spec.rate, seed)][slots]
    return shown


def permuted(units: int, rate: float, seed: int) -> Ints:
    """``[units]``, the unit shown in the place of each: ``int(rate * units)`` chosen ones permuted, the rest in place.

    Sorts raw words of PCG64 instead of calling ``Generator.permutation``: numpy freezes the streams of its bit
    generators but not the methods on top, and an index must be the same under every numpy version.
    """
    bits = np.random.PCG64(seed)
    chosen = np.argsort(bits.random_raw(units), kind="stable")[: int(rate * units)]
    places = np.arange(units)
    places[chosen] = chosen[np.argsort(bits.random_raw(len(chosen)), kind="stable")]
    return places
