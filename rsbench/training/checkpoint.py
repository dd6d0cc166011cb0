"""One atomic file per checkpoint: all tensors, and a JSON state in its header. Nothing is unpickled."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rsbench.errors import ResultError
from rsbench.files import temporary


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None = None) -> None:
    """Write tensors and a JSON state so that the file is either whole or not there.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    tmp = temporary(path)
    # clone: safetensors refuses tensors that share memory
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    whole = tmp / path.name  # in a folder of its own: the library writes a temporary file beside it
    try:
        tmp.mkdir(exist_ok=True)  # a killed process of the same number may have left it
        save_file(plain, whole, metadata={"state": json.dumps(state or {})})
        with open(whole, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(whole, path)
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):  # a full disk is the machine's fault, not the run's
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote.

    Raises:
        ResultError: the file is damaged.
    """
    try:
        with safe_open(path, "pt") as handle:
            state = json.loads((handle.metadata() or {}).get("state", "{}"))
            return {k: handle.get_tensor(k) for k in handle.keys()}, state  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ResultError(f"{path} is damaged ({error}); delete it and run the same command again") from None


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")}


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors with a prefix."""
    return {f"{prefix}.{k}": v for k, v in tensors.items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimizer as flat tensors ``<parameter>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, values in state.items() for k, v in values.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the state of ``optimizer_tensors`` back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
