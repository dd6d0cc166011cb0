"""Hierarchical attention: words to sentences to one vector. Source: RDB (arXiv 2505.16756) Eq. 4-9."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rsbench.losses.reduce import widened


class ContextAttention(nn.Module):
    """``u = tanh(W h + b), alpha = softmax(u . context), sum alpha h`` (Eq. 5 and 6, 8 and 9).

    Args:
        width: r of the states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.context = nn.Parameter(torch.randn(width) / width**0.5)

    def forward(self, h: Tensor, valid: Tensor) -> Tensor:
        """Weighted sum ``[N, r]`` of states ``[N, T, r]``; bool ``valid [N, T]`` with at least one true per row."""
        found: Tensor = (self.weights(h, valid)[..., None] * h).sum(1)
        return found

    def weights(self, h: Tensor, valid: Tensor) -> Tensor:
        """Alpha ``[N, T]``, 0 where not valid."""
        scores = widened(self.inner(h).tanh() @ self.context)
        return scores.masked_fill(~valid, float("-inf")).softmax(-1)


class RecurrentLevel(nn.Module):
    """BiGRU over a sequence and its pooled vector, ``[N, T, r] -> [N, r]``.

    Args:
        width: r, even; each direction has r / 2 units.
        single: all sequences have one element, so that the pooled vector is its state and there is no attention.
    """

    def __init__(self, width: int, single: bool = False) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.pool = None if single else ContextAttention(width)
        for weight in (self.gru.weight_hh_l0, self.gru.weight_hh_l0_reverse):
            weight.requires_grad_(not single)  # they act on a state of zeros: no gradient can reach them

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Pool sequences ``x [N, T, r]`` whose first ``lengths [N]`` (at least 1) elements are theirs."""
        h = self.states(x, lengths)
        if self.pool is None:
            return h[:, 0]
        pooled: Tensor = self.pool(h, torch.arange(h.shape[1], device=h.device) < lengths[:, None])
        return pooled

    def states(self, x: Tensor, lengths: Tensor) -> Tensor:
        """States ``[N, max(lengths), r]``, zero beyond each length."""
        with torch.autocast(x.device.type, enabled=False):  # recurrent kernels take one dtype for all
            packed = pack_padded_sequence(widened(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
            found: Tensor = pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0]
        return found


class HierarchicalAttention(nn.Module):
    """Tokens of captions to one vector each, ``[B, L, r] -> [B, r]``.

    Args:
        width: r, even.
        single: captions are one sentence each, so that ``v = BiGRU_s(s_1)``.
    """

    def __init__(self, width: int, single: bool = True) -> None:
        super().__init__()
        self.word, self.sentence, self.single = RecurrentLevel(width), RecurrentLevel(width, single), single

    def forward(self, x: Tensor, valid: Tensor, sentence: Tensor | None = None) -> Tensor:
        """One vector per caption, zeros where a caption has no valid token.

        Args:
            x: ``[B, L, r]``.
            valid: bool ``[B, L]``, tokens that are no padding.
            sentence: int64 ``[B, L]``, number of each token's sentence in its caption; all 0 if None.
        """
        where = torch.zeros_like(valid, dtype=torch.int64) if sentence is None or self.single else sentence
        count = int(where.max()) + 1
        rows = torch.arange(len(x), device=x.device)[:, None]
        tokens, owner = _groups(x[valid], (rows * count + where)[valid])
        if not len(owner):
            return x.new_zeros(x.shape[0], x.shape[2])
        sentences, caption = _groups(self.word(*tokens), owner // count)
        found: Tensor = self.sentence(*sentences)
        return found.new_zeros(x.shape[0], x.shape[2]).index_copy(0, caption, found)


def _groups(x: Tensor, group: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Rows ``[n, r]`` by their group: padded sequences ``[G, T, r]`` with lengths ``[G]``, and the group numbers."""
    order = group.argsort(stable=True)
    names, row, lengths = torch.unique_consecutive(group[order], return_inverse=True, return_counts=True)
    longest = int(lengths.max()) if len(names) else 0
    place = torch.arange(len(x), device=x.device) - (lengths.cumsum(0) - lengths)[row]
    padded = x.new_zeros(len(names), longest, x.shape[1]).index_put((row, place), x[order])
    return (padded, lengths), names
