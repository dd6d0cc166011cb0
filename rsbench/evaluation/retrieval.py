"""Recalls, mR, rSum and median ranks."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import cast

from torch import Tensor

from rsbench.errors import UsageError
from rsbench.evaluation.figures import Metrics
from rsbench.evaluation.ranks import Ranks, ScoreBlock, ranks_of_blocks


def _recall(ranks: Tensor, k: int) -> float:
    return 100 * int((ranks < k).sum()) / len(ranks)


def _median(ranks: Tensor) -> float:
    """From 1; the mean of the two middle ones for an even number. Works at any size, unlike ``quantile``."""
    ordered = ranks.sort().values
    return float(ordered[(len(ranks) - 1) // 2] + ordered[len(ranks) // 2]) / 2 + 1


def metrics(ranks: Ranks, caption_image: Tensor) -> Metrics:
    """Metrics of one matrix.

    A t2i query is a caption, its target an image id; an i2t query hits with any of the image's own captions.

    Args:
        ranks: from 0, ``i2t [N]`` and ``t2i [M]``.
        caption_image: int64 ``[M]``, the table that the ranks were counted with.

    Returns:
        Recalls and mR (mean of the six) in percent, rSum (their sum), median ranks from 1.

    Raises:
        UsageError: ranks and table are of different sizes.
    """
    if len(ranks.t2i) != len(caption_image) or len(ranks.i2t) <= int(caption_image.max()):
        raise UsageError(
            f"{len(ranks.i2t)} image and {len(ranks.t2i)} caption ranks "
            f"do not fit a table of {len(caption_image)} captions"
        )
    recalls = {f"{d}_r{k}": _recall(r, k) for d, r in (("i2t", ranks.i2t), ("t2i", ranks.t2i)) for k in (1, 5, 10)}
    six = list(recalls.values())
    return cast(
        "Metrics",
        recalls
        | {"mr": sum(six) / 6, "rsum": sum(six), "i2t_medr": _median(ranks.i2t), "t2i_medr": _median(ranks.t2i)},
    )


def mean_metrics(folds: Sequence[Metrics]) -> Metrics:
    """Every metric averaged; rSum is then the sum of the six averaged recalls, as it should be."""
    plain = [cast("dict[str, float]", f) for f in folds]
    return cast("Metrics", {key: fmean(f[key] for f in plain) for key in plain[0]})


def fold_metrics(
    score_block: ScoreBlock, n_images: int, caption_image: Tensor, folds: int = 5, block: int = 256
) -> Metrics:
    """COCO 1K: images in ``folds`` equal runs, each ranked among its own images and captions, metrics averaged.

    Args:
        score_block: as for ``ranks_of_blocks``.
        n_images: N, a multiple of ``folds``.
        caption_image: int64 ``[M]``.
        folds: number of folds.
        block: images per block.

    Raises:
        UsageError: the images do not divide into equal folds.
    """
    if folds < 1 or n_images % folds:
        raise UsageError(f"{n_images} images cannot be cut into {folds} equal folds; choose a divisor of {n_images}")
    size, found = n_images // folds, []
    for first in range(0, n_images, size):
        columns = ((caption_image >= first) & (caption_image < first + size)).nonzero()[:, 0]
        owner = caption_image[columns] - first

        def score(start: int, stop: int, first: int = first, columns: Tensor = columns) -> Tensor:
            scores = score_block(first + start, first + stop)
            return scores.index_select(1, columns.to(scores.device))

        found.append(metrics(ranks_of_blocks(score, size, owner, block), owner))
    return mean_metrics(found)
