"""The processes that share one run: whose rows are whose, and how they exchange tensors."""

from __future__ import annotations

import atexit
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rsbench.errors import DependencyError, UsageError
from rsbench.training.device import choose_device
from rsbench.training.torchrun import Place, place

LONGEST_WAIT = timedelta(days=7)
"""How long one process may keep the others waiting: features of a large dataset take hours."""

BUCKET = 2**24
"""Numbers of gradients that are summed at once."""


@dataclass(frozen=True)
class World:
    """The processes of one run. A world of one exchanges nothing.

    Every method but ``rows`` must be called by all processes in the same order.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        device: of this process; None where the run chooses.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes, validates and reports."""
        return self.rank == 0

    def rows(self, n: int) -> slice:
        """The rows of n that are this process's: shares of ceil(n / size), the last ones shorter by at most one.

        All rows where there are fewer of them than processes.
        """
        if n < self.size:
            return slice(0, n)
        counts = self._counts(n)
        start = sum(counts[: self.rank])
        return slice(start, start + counts[self.rank])

    def gather(self, own: Tensor, n: int) -> Tensor:
        """Join the rows of all processes, without gradient.

        Args:
            own: ``[len(rows(n)), ...]`` of any type; all but the first axis must be equal everywhere.
            n: number of rows in all.

        Returns:
            ``[n, ...]``.

        Raises:
            ConnectionError: another process has ended.
        """
        if self.size == 1 or n < self.size or not own.numel():
            return own
        counts = self._counts(n)
        padded = own.new_zeros(counts[0], *own.shape[1:])  # shares of one length: gloo takes no others
        padded[: len(own)] = own.detach()
        found = [torch.empty_like(padded) for _ in counts]
        with _in_touch():  # as bytes: not every backend knows every type
            dist.all_gather([t.view(torch.uint8) for t in found], padded.view(torch.uint8))
        return torch.cat([t[:count] for t, count in zip(found, counts, strict=True)])

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum gradients over the processes; a parameter without one in any process keeps none.

        Raises:
            ConnectionError: another process has ended.
        """
        params = list(parameters)
        if self.size == 1 or not params:
            return
        bare = [p for p in params if p.grad is None]
        seen = torch.tensor([float(p.grad is not None) for p in params], device=params[0].device)
        for p in bare:
            p.grad = torch.zeros_like(p)
        for bucket in _buckets([*(p.grad for p in params if p.grad is not None), seen]):
            flat = torch.cat([t.reshape(-1) for t in bucket])
            with _in_touch():
                dist.all_reduce(flat)
            for tensor, summed in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                tensor.copy_(summed.view_as(tensor))
        if bare:  # only then, as it waits for the device
            counts = dict(zip(params, seen.tolist(), strict=True))
            for p in bare:
                p.grad = p.grad if counts[p] else None

    def copy(self, module: nn.Module) -> None:
        """Give all processes the parameters and buffers of the first.

        Raises:
            ConnectionError: another process has ended.
        """
        if self.size == 1:
            return
        for tensor in (*module.parameters(), *module.buffers()):
            flat = tensor.detach().reshape(-1).contiguous()
            if not flat.numel():
                continue
            with _in_touch():
                dist.broadcast(flat.view(torch.uint8), 0)
            tensor.detach().copy_(flat.view_as(tensor))

    def share(self, value: Any) -> Any:
        """The first process's value in all of them; anything that JSON holds.

        Raises:
            ConnectionError: another process has ended.
        """
        if self.size == 1:
            return value
        said = json.dumps(value).encode() if self.first else b""
        length = torch.tensor([len(said)], device=self.device)
        with _in_touch():
            dist.broadcast(length, 0)
            data = torch.zeros(int(length), dtype=torch.uint8)
            if self.first:
                data = torch.frombuffer(bytearray(said), dtype=torch.uint8)
            data = data.to(self.device)
            dist.broadcast(data, 0)
        return json.loads(bytes(data.cpu().numpy()))

    def meet(self) -> None:
        """Wait until every process is here.

        Raises:
            ConnectionError: another process has ended.
        """
        if self.size > 1:
            with _in_touch():
                dist.barrier()

    def leave(self) -> None:
        """Part; call it after the last exchange."""
        global _current
        _current = ALONE
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def _counts(self, n: int) -> list[int]:
        return [n // self.size + (r < n % self.size) for r in range(self.size)]


ALONE = World()
_current = ALONE


def current() -> World:
    """The world that this process has joined."""
    return _current


def join(device: str = "auto") -> World:
    """Meet the other processes of torchrun, over NCCL on GPUs and gloo on the CPU.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; each process takes the GPU of its own number.

    Returns:
        The world, ``ALONE`` without torchrun; ``current()`` from here on.

    Raises:
        UsageError: one GPU for all, or more processes than GPUs.
        DependencyError: accelerate is not installed.
    """
    global _current
    here = place()
    if here.size == 1:
        return ALONE
    if find_spec("accelerate") is None:
        raise DependencyError(
            "torchrun with several processes needs accelerate; install it with: pip install 'rsbench[ddp]'"
        )
    on_cpu = _check_device(device, here).type == "cpu"
    from accelerate import PartialState

    state = PartialState(cpu=on_cpu, timeout=LONGEST_WAIT, **({"backend": "gloo"} if on_cpu else {}))
    own = torch.device("cpu") if on_cpu else state.device
    _current = World(state.process_index, state.num_processes, own)
    if on_cpu:  # threads of gloo that outlive an error abort the interpreter (pytorch/pytorch#179291)
        atexit.register(_current.leave)
    return _current


def _check_device(name: str, here: Place) -> torch.device:
    device = choose_device(name)
    if device.index is not None:
        raise UsageError(f"--device {name}: under torchrun each process takes its own GPU; use --device cuda or cpu")
    if device.type == "cuda" and here.local >= torch.cuda.device_count():
        raise UsageError(
            f"torchrun starts more processes than this machine has GPUs; use --nproc_per_node "
            f"{torch.cuda.device_count()} or --device cpu"
        )
    return device


@contextmanager
def _in_touch() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # what all backends raise when the other side is gone
        reason = str(error).splitlines()[0]
        raise ConnectionError(f"another process of this run has ended ({reason})") from error


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.numel() for t in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    yield bucket
