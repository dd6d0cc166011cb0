"""Device and precision of a run."""

from __future__ import annotations

import torch
from torch import Tensor

from rsbench.backbones.base import Fields, Inputs
from rsbench.errors import UsageError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """``auto`` is the first GPU where there is one, else the CPU.

    Raises:
        UsageError: the device does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device '{name}' is no device name; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device '{name}' is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device '{name}': this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast region of a precision; a no-op for fp32."""
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32")


def make_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Gradient scaler, active for fp16 only."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


RESIDENT_SHARE = 0.5
"""Share of the device's free memory that inputs may take; the rest is for the model and its activations."""


def resident(inputs: Inputs, device: torch.device) -> Inputs:
    """The inputs on the device where they fit into ``RESIDENT_SHARE`` of its free memory, else as they are.

    Numbers are the same either way: rows are gathered on the device instead of from the memory-mapped store.
    """
    tensors = [*inputs.image.values(), *inputs.text.values()]
    if sum(t.nbytes for t in tensors) > RESIDENT_SHARE * free_bytes(device):
        return inputs
    return Inputs(_moved(inputs.image, device), _moved(inputs.text, device))


def free_bytes(device: torch.device) -> int:
    """Free memory of a GPU; 0 for the CPU, whose store is in its page cache anyway."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _moved(fields: Fields, device: torch.device) -> dict[str, Tensor]:
    return {k: v.to(device) for k, v in fields.items()}
