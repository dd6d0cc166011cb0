"""What each pair left behind during one epoch, and the running means of the loss terms."""

from __future__ import annotations

import torch
from torch import Tensor

from rsbench.errors import NonFiniteError
from rsbench.methods.base import UNDECIDED, Batch, Loss

CHECK_EVERY_GPU = 25
"""Steps between finiteness checks on a GPU, where each one waits for the device."""


class EpochRecords:
    """Collects per-pair values and loss terms on the device of training.

    Args:
        n_pairs: P.
        device: where the buffers live.
        epoch: told in errors.
    """

    def __init__(self, n_pairs: int, device: torch.device, epoch: int) -> None:
        self.n_pairs, self.device, self.epoch, self.steps = n_pairs, device, epoch, 0
        self._pairs: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._division: Tensor | None = None

    def _buffer(self, name: str) -> Tensor:
        if name not in self._pairs:
            self._pairs[name] = torch.full((self.n_pairs,), float("nan"), device=self.device)
        return self._pairs[name]

    def add(self, batch: Batch, loss: Loss) -> None:
        """Keep one step.

        Raises:
            NonFiniteError: the loss is NaN or infinite; names epoch, step, terms and a hint.
        """
        values = {"pair_loss": loss.pair_loss, **loss.records}
        if loss.clean_score is not None:
            values["clean_score"] = loss.clean_score
        for name, value in values.items():
            self._buffer(name)[batch.pair] = value.detach().float()
        if loss.division is not None:
            if self._division is None:
                self._division = torch.full((self.n_pairs,), UNDECIDED, dtype=torch.int8, device=self.device)
            self._division[batch.pair] = loss.division
        for name, term in {"loss": loss.total, **loss.terms}.items():
            value = term.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self.steps += 1
        if self.device.type == "cpu" or self.steps % CHECK_EVERY_GPU == 0:
            self.check(loss)

    def check(self, loss: Loss) -> None:
        """Stop on a loss that is not finite."""
        if not torch.isfinite(self._sums["loss"]):
            terms = ", ".join(f"{k}={float(v):.4g}" for k, v in loss.terms.items())
            raise NonFiniteError(
                f"the loss is {float(loss.total.detach()):.4g} at epoch {self.epoch + 1}, step {self.steps} ({terms}); "
                "try a lower rate (--set recipe.lr=...), clipping (--set recipe.grad_clip=1) or --precision fp32"
            )

    def means(self) -> dict[str, float]:
        """Mean of each loss term over the steps of the epoch."""
        return {k: float(v) / max(1, self.steps) for k, v in self._sums.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Per-pair values on the CPU: float32 ``[P]`` by name (NaN = not visited), int8 ``division`` if divided."""
        found = {k: v.cpu() for k, v in self._pairs.items()}
        if self._division is not None:
            found["division"] = self._division.cpu()
        return found
