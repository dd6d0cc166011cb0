"""What an epoch costs: seconds of its parts, and the most memory that training held."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

PARTS = ("filter", "train", "validate")
"""The method's own pass over the pairs before an epoch, its steps, the ranking of the validation part."""

_CLEAR, _RESET_PEAK = Path("/proc/self/clear_refs"), "5"


class Laps:
    """Seconds of the parts of one epoch.

    Args:
        device: waited for at the end of each part, as kernels run on after the call that starts them.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part, one of ``PARTS``."""
        started = time.monotonic()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[name] = round(time.monotonic() - started, 4)

    def take(self) -> dict[str, float]:
        """The parts timed since the last call."""
        found, self.seconds = self.seconds, {}
        return found


def forget_peak(device: torch.device) -> None:
    """Start the peak anew, so that a worker that has done other runs does not count theirs."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # proc(5) of Linux; elsewhere the peak of the whole process is what can be had
        _CLEAR.write_text(_RESET_PEAK)


def peak_mb(device: torch.device) -> float | None:
    """Most memory held since ``forget_peak``, in MB of 10^6 bytes; None where the system does not tell.

    On a GPU what torch allocated there; on the CPU the resident set of the process, interpreter, libraries and
    mapped features included.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
