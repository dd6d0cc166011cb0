"""Checkpoint files read without unpickling, and loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.errors import WeightsError

_ELSEWHERE = "download it again, or give another --weights FILE"
_SHOWN = 4
"""Keys named in a message."""


def read_state(file: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name: safetensors, or a ``.pt`` that loads without unpickling.

    A ``state_dict`` entry is unwrapped and the prefix ``module.`` of torch's data parallel modules is taken off.

    Raises:
        WeightsError: no file, no checkpoint (an error page, a pointer, a cut download), or no tensors in it.
    """
    _check_head(file)
    found = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        entries = ", ".join(map(str, list(found)[:_SHOWN])) if isinstance(found, Mapping) else type(found).__name__
        raise WeightsError(f"{file.name} holds no tensors by name (it holds {entries}); save the model's state dict")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], name: str, hint: str) -> None:
    """Load a state dict whose names and shapes are exactly the model's.

    Args:
        model: what is filled.
        state: its tensors by name, of any floating-point type.
        name: of the file, for messages.
        hint: what to do where it does not fit.

    Raises:
        WeightsError: names that are missing or unknown, or other shapes; they are named.
    """
    own = model.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]  # as torch: a counter
    unknown = [k for k in state if k not in own]
    other = [k for k in own if k in state and own[k].shape != state[k].shape]
    shapes = [f"{k} {list(state[k].shape)} for {list(own[k].shape)}" for k in other]
    parts = [("missing", missing), ("unknown", unknown), ("of another shape", shapes)]
    wrong = [f"{len(keys)} keys {what} ({_listed(keys)})" for what, keys in parts if keys]
    if wrong:
        raise WeightsError(f"{name} does not fit the model: {', '.join(wrong)}; {hint}")
    model.load_state_dict(state, strict=False)  # a counter may be missing


def _check_head(file: Path) -> None:
    if not file.is_file():
        raise WeightsError(f"weights file {file} does not exist; give the path of a local file with --weights FILE")
    with file.open("rb") as opened:
        head = opened.read(64).lstrip().lower()
    if not head:
        raise WeightsError(f"weights file {file.name} is empty; {_ELSEWHERE}")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(f"{file.name} is a web page, not a checkpoint; {_ELSEWHERE}")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{file.name} is a Git LFS pointer, not the checkpoint itself; run git lfs pull, or {_ELSEWHERE}"
        )


def _read_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise _damaged(file, error) from error


def _read_pickle(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except RuntimeError as error:
        if "TorchScript" in str(error):
            message = f"{file.name} is a TorchScript archive; save its state dict as safetensors, or use --weights hub"
            raise WeightsError(message) from error
        raise _damaged(file, error) from error
    except EOFError as error:
        raise _damaged(file, error) from error
    except Exception as error:
        raise WeightsError(
            f"{file.name} is no checkpoint that can be read without unpickling; save its state dict as safetensors"
        ) from error


def _damaged(file: Path, error: Exception) -> WeightsError:
    lines = str(error).splitlines() or [type(error).__name__]
    return WeightsError(f"weights file {file.name} is cut off or damaged ({lines[0].strip()[:120]}); {_ELSEWHERE}")


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
