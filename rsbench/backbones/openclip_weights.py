"""Where weights of open_clip models come from, and strict loading of them."""

from __future__ import annotations

import logging
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.backbones.cache import file_hash
from rsbench.backbones.pixels import Triple
from rsbench.backbones.torchvision_ops import declare_missing_operators
from rsbench.errors import UnknownNameError, UsageError, WeightsError
from rsbench.progress import Progress

_WAYS_OUT = "give a local file with --weights FILE, or use --backbone lite, whose weights need no download"
_HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_BLOCK = 4096


@dataclass(frozen=True)
class Source:
    """Origin of weights.

    Attributes:
        origin: ``random``, ``open_clip:MODEL/TAG``, or a file name.
        file: a local file, None for random weights.
        config: open_clip's record of a tag (mean, std, activation).
    """

    origin: str
    file: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Origin and sha256."""
        return {"origin": self.origin, "sha256": None if self.file is None else file_hash(self.file)}


@dataclass(frozen=True)
class Look:
    """How a model wants its pixels."""

    size: int
    mean: Triple
    std: Triple
    mode: str


def source_of(model: str, tag: str, weights: str) -> Source:
    """Find the weights' file, downloading it for ``hub`` where it is not on disk.

    Raises:
        UnknownNameError: the model has no such tag.
        UsageError: the tag's weights were trained with the other activation.
        WeightsError: the file cannot be had.
    """
    if weights == "random":
        return Source("random")
    if weights != "hub":
        return Source(Path(weights).name, Path(weights))
    config = _tag_config(model, tag)
    return Source(f"open_clip:{model}/{tag}", _download(config, f"{model}/{tag}"), config)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep open_clip from logging to the root logger, and from giving it a handler."""
    root = logging.getLogger()
    handlers, before = root.handlers[:], logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.handlers[:] = handlers


def load_into(model: nn.Module, file: Path) -> None:
    """Load a checkpoint strictly; nothing is unpickled.

    Raises:
        WeightsError: no file, no checkpoint (an error page, a cut download), or keys and shapes that do not fit.
    """
    import open_clip

    _check_file(file)
    try:
        keys = open_clip.load_checkpoint(model, str(file), strict=False, weights_only=True)
    except RuntimeError as error:
        _explain(file, error)
    except Exception as error:
        raise WeightsError(f"{file.name} is no checkpoint that can be read without unpickling; {_WAYS_OUT}") from error
    missing, extra = list(keys.missing_keys), list(keys.unexpected_keys)
    if missing or extra:
        shown = ", ".join((missing or extra)[:3])
        raise WeightsError(
            f"{file.name} does not fit the model: {len(missing)} keys missing, {len(extra)} unknown, such as {shown}; "
            f"choose the model with --set backbone.model=NAME, or another --weights FILE"
        )


def preprocessing(model: Any, source: Source) -> Look:
    """Size, mean, std and interpolation, from the tag where it has its own."""
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    size = model.visual.image_size
    return Look(
        int(size[0] if isinstance(size, tuple | list) else size),
        tuple(source.config.get("mean", OPENAI_DATASET_MEAN)),
        tuple(source.config.get("std", OPENAI_DATASET_STD)),
        source.config.get("interpolation", "bicubic"),
    )


def tokenise(model: str, texts: Sequence[str], progress: Progress) -> Tensor:
    """Token ids int64 ``[n, L]`` with the model's own tokenizer.

    Raises:
        WeightsError: the tokenizer is not inside open_clip and cannot be had.
    """
    import open_clip

    try:
        tokenizer = open_clip.get_tokenizer(model)
    except Exception as error:
        raise WeightsError(f"the tokenizer of {model} cannot be had ({_first_line(error)}); {_WAYS_OUT}") from error
    parts = []
    for start in range(0, len(texts), _BLOCK):
        parts.append(tokenizer(list(texts[start : start + _BLOCK])))
        progress("tokens", min(start + _BLOCK, len(texts)), len(texts))
    return torch.cat(parts)


def _tag_config(model: str, tag: str) -> Mapping[str, Any]:
    declare_missing_operators()
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    if model in open_clip.list_models() and tag not in tags:
        raise UnknownNameError(f"pretrained tag of {model}", tag, tags, "set it with --set backbone.tag=")
    config: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag)
    quick = bool((open_clip.get_model_config(model) or {}).get("quick_gelu", False))
    if bool(config.get("quick_gelu", False)) != quick:
        other = model.removesuffix("-quickgelu") if quick else f"{model}-quickgelu"
        raise UsageError(f"weights '{tag}' were trained with the other activation than {model} has; use {other}")
    return config


def _download(config: Mapping[str, Any], name: str) -> Path:
    from open_clip import pretrained

    on_disk = _in_hub_cache(config)
    if on_disk is not None:
        return on_disk
    if not reachable(config):
        raise WeightsError(f"weights of {name} are not on disk and there is no network; {_WAYS_OUT}")
    try:
        return Path(pretrained.download_pretrained(dict(config)))
    except Exception as error:
        raise WeightsError(f"weights of {name} are not on disk and their download failed; {_WAYS_OUT}") from error


def _in_hub_cache(config: Mapping[str, Any]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repository, _, own_name = str(config.get("hf_hub", "")).rpartition("/")
    if not repository:
        return None
    for name in (own_name,) if own_name else _HUB_NAMES:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def reachable(config: Mapping[str, Any]) -> bool:
    """Whether a download can be tried; the libraries' own retries would keep an offline user waiting for a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():
        return True
    address = urllib.parse.urlsplit(constants.ENDPOINT if config.get("hf_hub") else str(config.get("url", "")))
    try:
        with socket.create_connection((address.hostname or "", address.port or 443), timeout=5):
            return True
    except OSError:
        return False


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise WeightsError(f"weights file {file} does not exist; {_WAYS_OUT}")
    with file.open("rb") as opened:
        head = opened.read(64).lstrip().lower()
    if not head:
        raise WeightsError(f"weights file {file.name} is empty; {_WAYS_OUT}")
    if head.startswith((b"<!doctype", b"<html", b"version https://git-lfs")):
        raise WeightsError(f"{file.name} is a web page or a pointer, not a checkpoint; download it again")


def _explain(file: Path, error: RuntimeError) -> None:
    text = str(error)
    if "TorchScript" in text:
        message = "is a TorchScript archive; save its state dict as safetensors, or use --weights hub"
    elif "size mismatch" in text:
        message = f"has tensors of other shapes ({_first_line(error, 1)}); choose the model with --set backbone.model="
    else:
        message = f"is cut off or damaged ({_first_line(error)}); download it again"
    raise WeightsError(f"weights file {file.name} {message}") from error


def _first_line(error: Exception, line: int = 0) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[min(line, len(lines) - 1)].strip()[:120]
