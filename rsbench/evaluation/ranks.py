"""Ranks by counting, exact to the last tie, one pass over blocks of scores.

Rank = number of strictly greater scores + number of equal scores with a smaller index, from 0. A model that
scores everything alike therefore gains nothing, unlike under a strict comparison alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rsbench.errors import NonFiniteError, UsageError
from rsbench.progress import Progress, silent

ScoreBlock = Callable[[int, int], Tensor]
"""``score_block(start, stop)`` gives the scores ``[stop - start, M]`` of images start..stop against all captions."""

Compare = Callable[[Tensor, Tensor], Tensor]

COLUMNS = 4096
"""Columns compared at once."""

STASH_BYTES = 128 * 2**20
"""Scores kept for later by ``ranks_of_blocks``; blocks beyond it are scored a second time."""

BAND_SHARE = 0.02
"""Largest share of a block that may lie too close to a guessed score to decide; beyond it the block waits."""


@dataclass(frozen=True)
class Ranks:
    """Ranks from 0.

    Attributes:
        i2t: int64 ``[N]``, rank of the best of each image's own captions.
        t2i: int64 ``[M]``, rank of each caption's own image.
    """

    i2t: Tensor
    t2i: Tensor


@dataclass(frozen=True)
class _Guess:
    """Bounds ``[M]`` between which each own-pair score is believed to lie (captions grouped by image)."""

    low: Tensor
    high: Tensor


class _Layout:
    """Captions grouped by image: those of images a..b are the columns ``bounds[a]:bounds[b]``."""

    def __init__(self, caption_image: Tensor, n_images: int) -> None:
        _check_captions(caption_image, n_images)
        caption_image = caption_image.cpu()
        self.n_images, self.n_captions = n_images, len(caption_image)
        self.order = torch.argsort(caption_image, stable=True)
        self.image = caption_image[self.order]
        self.bounds = [0, *torch.bincount(caption_image, minlength=n_images).cumsum(0).tolist()]

    @cached_property
    def grouped(self) -> bool:
        """The captions already come in the order of their images."""
        return bool((self.order == torch.arange(self.n_captions)).all())


def _check_captions(caption_image: Tensor, n_images: int) -> None:
    if caption_image.ndim != 1 or len(caption_image) == 0 or n_images == 0:
        raise UsageError(f"ranks need images and captions, got {n_images} images and {caption_image.numel()} captions")
    low, high = int(caption_image.min()), int(caption_image.max())
    if low < 0 or high >= n_images:
        wrong = low if low < 0 else high
        raise UsageError(f"a caption belongs to image {wrong}, but images are numbered 0 to {n_images - 1}")
    counts = torch.bincount(caption_image, minlength=n_images)
    if int(counts.min()) == 0:
        raise UsageError(f"image {int(counts.argmin())} has no caption; leave images without captions out")


def _checked(scores: Tensor, start: int, stop: int, n_captions: int) -> Tensor:
    if scores.shape != (stop - start, n_captions):
        raise UsageError(
            f"scores of images {start} to {stop - 1} have shape {list(scores.shape)}, not {[stop - start, n_captions]}"
        )
    low, high = scores.aminmax()  # both are NaN as soon as one score is
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        row, column = (~torch.isfinite(scores)).nonzero()[0].tolist()
        raise NonFiniteError(
            f"the score of image {start + row} and caption {column} is {float(scores[row, column])}; "
            "ranks need finite scores: check the embeddings, or use a lower learning rate"
        )
    return scores


def _sum(mask: Tensor, dim: int) -> Tensor:
    return mask.view(torch.int8).sum(dim, dtype=torch.int32)  # booleans would be summed as int64


def _count(compare: Compare, scores: Tensor, limit: Tensor, dim: int) -> Tensor:
    """How often ``compare(scores, limit)`` holds, per column (``dim`` 0, one limit each) or row (``dim`` 1).

    Some columns at a time: masks and their sums stay in the cache, and memory stays small.
    """
    counts = [torch.zeros(scores.shape[1 - dim] * dim, dtype=torch.int32, device=scores.device)]
    for a in range(0, scores.shape[1], COLUMNS):
        part = slice(a, a + COLUMNS)
        mask = compare(scores[:, part], limit[part] if dim == 0 else limit)
        counts.append(_sum(mask, dim))
    return torch.cat(counts) if dim == 0 else torch.stack(counts).sum(0, dtype=torch.int32)


class _Counter:
    """Counts both directions from each block as it comes.

    A caption's own score is known only when the block of its own image comes. Later blocks compare with it at
    once. Earlier blocks either (a) compare with a guess and keep the few scores too close to it, or (b) keep
    the scores themselves, or (c) are scored once more at the end. Each way gives the same integers.
    """

    def __init__(self, layout: _Layout, device: torch.device, guess: _Guess | None) -> None:
        self.layout, self.device, self.guess = layout, device, guess
        self.order, self.image = layout.order.to(device), layout.image.to(device)
        self.i2t = torch.empty(layout.n_images, dtype=torch.int64, device=device)
        self.t2i = torch.zeros(layout.n_captions, dtype=torch.int32, device=device)
        self.own: Tensor | None = None
        self.close: list[tuple[Tensor, Tensor]] = []
        self.stash: list[tuple[int, Tensor]] = []
        self.stashed = 0
        self.again: list[tuple[int, int]] = []

    def grouped(self, scores: Tensor) -> Tensor:
        """Columns in the order of the layout."""
        return scores if self.layout.grouped else scores.index_select(1, self.order)

    def add(self, scores: Tensor, start: int, stop: int) -> None:
        """Take the scores of images start..stop."""
        columns = self.grouped(scores)
        first, last = self.layout.bounds[start], self.layout.bounds[stop]
        row = self.image[first:last] - start
        own = columns[row, torch.arange(first, last, device=self.device)]
        if self.own is None:
            self.own = torch.empty(self.layout.n_captions, dtype=own.dtype, device=self.device)
        self.own[first:last] = own
        span = (first, last) if self.layout.grouped else (0, self.layout.n_captions)
        self.i2t[start:stop] = _best_ranks(scores, own, row, self.order[first:last], span)
        self.t2i[:first] += _count(torch.gt, columns[:, :first], self.own[:first], 0)
        mine, index = columns[:, first:last], torch.arange(stop - start, device=self.device)
        self.t2i[first:last] += _sum(mine > own, 0) + _sum((mine == own) & (index[:, None] < row), 0)
        if last < self.layout.n_captions:
            self._ahead(columns[:, last:], start, stop, last)

    def _ahead(self, columns: Tensor, start: int, stop: int, last: int) -> None:
        """Deal with captions whose own image comes later."""
        if self.guess is not None:
            if not self._against_guess(columns, last, self.guess):
                self.again.append((start, stop))
            return
        size = columns.numel() * columns.element_size()
        if self.stashed + size > STASH_BYTES:
            self.again.append((start, stop))
            return
        self.stashed += size
        self.stash.append((last, columns.clone()))

    def _against_guess(self, columns: Tensor, last: int, guess: _Guess) -> bool:
        low, high = guess.low[last:], guess.high[last:]
        above = _count(torch.gt, columns, high, 0)
        within = _count(torch.ge, columns, low, 0) - above
        if int(within.sum()) > BAND_SHARE * columns.numel():
            return False
        narrow = within.nonzero()[:, 0]
        scores = columns.index_select(1, narrow)
        row, at = ((scores >= low[narrow]) & (scores <= high[narrow])).nonzero(as_tuple=True)
        self.close.append((narrow[at] + last, scores[row, at]))
        self.t2i[last:] += above
        return True

    def finish(self, score: ScoreBlock) -> Ranks:
        """Settle what had to wait."""
        assert self.own is not None
        for last, columns in self.stash:
            self.t2i[last:] += _count(torch.ge, columns, self.own[last:], 0)
        for where, found in self.close:
            self.t2i += torch.bincount(where[found >= self.own[where]], minlength=len(self.t2i)).int()
        for start, stop in self.again:
            last = self.layout.bounds[stop]
            columns = self.grouped(score(start, stop))[:, last:]
            self.t2i[last:] += _count(torch.ge, columns, self.own[last:], 0)
        t2i = torch.empty(len(self.t2i), dtype=torch.int64, device=self.device)
        t2i[self.order] = self.t2i.long()
        return Ranks(self.i2t.cpu(), t2i.cpu())

    def guessed_wrong(self) -> bool:
        """Some own score turned out to lie outside its guess, so that nothing counted with it holds."""
        if self.guess is None or self.own is None:
            return False
        return not bool(((self.own >= self.guess.low) & (self.own <= self.guess.high)).all())


def _best_ranks(scores: Tensor, own: Tensor, row: Tensor, index: Tensor, span: tuple[int, int]) -> Tensor:
    """Rank ``[B]`` of each image's best caption: its highest own score, at the smallest index that reaches it.

    ``own``, ``row`` and ``index`` are score, row and column of the block's own pairs. All own columns lie in
    ``span``, so that an equal score counts before it, never behind it, and by its index within.
    """
    n, (first, last) = len(scores), span
    best = torch.full((n,), -torch.inf, dtype=own.dtype, device=own.device).scatter_reduce(0, row, own, "amax")
    candidate = torch.where(own == best[row], index, last)
    chosen = torch.full((n,), last, device=own.device).scatter_reduce(0, row, candidate, "amin")
    best, within = best[:, None], scores[:, first:last]
    rank = _count(torch.ge, scores[:, :first], best, 1) + _count(torch.gt, scores[:, last:], best, 1)
    earlier = torch.arange(first, last, device=own.device) < chosen[:, None]
    return rank + _count(torch.gt, within, best, 1) + _sum((within == best) & earlier, 1)


def ranks_of_blocks(
    score_block: ScoreBlock,
    n_images: int,
    caption_image: Tensor,
    block: int = 256,
    progress: Progress = silent,
) -> Ranks:
    """Ranks in both directions from blocks of any scores.

    Memory beyond one block is bounded by ``STASH_BYTES`` (enough to score each block once up to about
    3,000 images x 20,000 captions); further blocks are asked for twice and must then be the same.

    Args:
        score_block: ``(start, stop)`` -> scores ``[stop - start, M]`` of those images against all captions. Equal
            captions must get equal scores: score distinct texts once and expand the columns.
        n_images: N.
        caption_image: int64 ``[M]``, the image of each caption in 0..N-1; any number >= 1 per image, in any order.
        block: images per block.
        progress: told after each block.

    Raises:
        UsageError: an image without captions, or scores of the wrong shape.
        NonFiniteError: a NaN or infinite score; the first one is named.
    """
    return _ranks(score_block, _Layout(caption_image, n_images), block, progress, None)


def _ranks(score: ScoreBlock, layout: _Layout, block: int, progress: Progress, guess: _Guess | None) -> Ranks:
    def checked(start: int, stop: int) -> Tensor:
        return _checked(score(start, stop), start, stop, layout.n_captions)

    counter: _Counter | None = None
    for start in range(0, layout.n_images, block):
        stop = min(start + block, layout.n_images)
        scores = checked(start, stop)
        counter = counter or _Counter(layout, scores.device, guess)
        counter.add(scores, start, stop)
        progress("ranking", stop, layout.n_images)
    assert counter is not None
    if counter.guessed_wrong():
        return _ranks(score, layout, block, progress, None)
    return counter.finish(checked)


def ranks_of_embeddings(image: Tensor, text: Tensor, caption_image: Tensor, block: int = 256) -> Ranks:
    """Ranks in both directions by dot product.

    One matrix product per block. Own scores are guessed beforehand by a row-wise dot product, which differs
    from the matrix product in the last bits only; the guess is checked against the product itself, and
    scores too close to it are settled exactly. Equal rows of ``text`` are multiplied once, so that they tie.

    Args:
        image: ``[N, D]``, normalised by the caller where cosine is meant.
        text: ``[M, D]``.
        caption_image: int64 ``[M]``, the image of each caption.
        block: images per block.

    Raises:
        UsageError: shapes that do not fit, or an image without captions.
        NonFiniteError: a NaN or infinite score; the first one is named.
    """
    if image.ndim != 2 or text.ndim != 2 or image.shape[1] != text.shape[1] or len(text) != len(caption_image):
        raise UsageError(
            f"images {list(image.shape)}, texts {list(text.shape)} and {len(caption_image)} caption images do not fit"
        )
    image, text = image.detach().float(), text.detach().float()
    layout = _Layout(caption_image, len(image))
    guess = _guess(image, text, layout)
    distinct, column = _distinct_rows(text)
    buffer = image.new_empty(min(block, len(image)), len(distinct))

    def score(start: int, stop: int) -> Tensor:
        scores = torch.mm(image[start:stop], distinct.t(), out=buffer[: stop - start])
        return scores if column is None else scores.index_select(1, column)

    return _ranks(score, layout, block, silent, guess)


def _guess(image: Tensor, text: Tensor, layout: _Layout, rows: int = 1024) -> _Guess:
    """Own-pair dot products, give or take eight roundings at the scale of the two norms."""
    low, high = [], []
    norms, eps = image.norm(dim=1), 8 * torch.finfo(image.dtype).eps
    for order, own in zip(torch.split(layout.order, rows), torch.split(layout.image, rows), strict=True):
        part, own = text[order.to(text.device)], own.to(image.device)
        value, slack = torch.linalg.vecdot(image[own], part), eps * norms[own] * part.norm(dim=1)
        low.append(value - slack)
        high.append(value + slack)
    return _Guess(torch.cat(low), torch.cat(high))


def _distinct_rows(text: Tensor, rows: int = 1024) -> tuple[Tensor, Tensor | None]:
    """Distinct rows and the row of each caption among them; ``None`` where all differ."""
    generator = torch.Generator().manual_seed(0)
    odd = (
        torch.randint(-(2**30), 2**30, (text.shape[1],), generator=generator, dtype=torch.int32).to(text.device) * 2 + 1
    )
    bits = text.contiguous().view(torch.int32)
    key = torch.cat([(part * odd).sum(1) for part in torch.split(bits, rows)])
    _, column = torch.unique(key, return_inverse=True)
    n_distinct = int(column.max()) + 1
    if n_distinct == len(text):
        return text, None
    first = torch.full((n_distinct,), len(text), device=text.device)
    first = first.scatter_reduce(0, column, torch.arange(len(text), device=text.device), "amin")
    repeated = (first[column] != torch.arange(len(text), device=text.device)).nonzero()[:, 0]
    if not torch.equal(bits[repeated], bits[first[column[repeated]]]):  # two rows that share a key
        distinct, column = torch.unique(text, dim=0, return_inverse=True)
        return distinct, column
    return text[first], column
