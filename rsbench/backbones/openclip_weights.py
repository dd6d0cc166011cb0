"""Where weights of open_clip models come from, and strict loading of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsbench.backbones import hub
from rsbench.backbones.cache import file_hash
from rsbench.backbones.card import BackboneCard, HubFile
from rsbench.backbones.checkpoints import load_strictly, read_state
from rsbench.backbones.pixels import Triple
from rsbench.backbones.torchvision_ops import declare_missing_operators
from rsbench.errors import UnknownNameError, UsageError, WeightsError
from rsbench.progress import Progress

_WAYS_OUT = f"give a local file with --weights FILE, or {hub.LITE}"
_HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_ABOUT = ("input_resolution", "context_length", "vocab_size")
"""Facts that OpenAI's state dicts hold beside the weights."""
_BLOCK = 4096


@dataclass(frozen=True)
class Source:
    """Origin of weights.

    Attributes:
        origin: ``random``, ``hub:REPOSITORY/FILE``, ``open_clip:MODEL/TAG``, or a file name.
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


def find_source(card: BackboneCard, model: str, tag: str, weights: str) -> Source:
    """Find the file of a card's hub file, else of a tag of open_clip; downloaded for ``hub`` where it is not on disk.

    Raises:
        UnknownNameError: the model has no such tag.
        UsageError: the tag's weights were trained with the other activation.
        WeightsError: the file cannot be had.
    """
    if weights == "random":
        return Source("random")
    if weights != "hub":
        return Source(Path(weights).name, Path(weights))
    if card.hub:
        found = hub.fetch(card.hub[0], card.name)
        return Source(f"hub:{card.hub[0].repository}/{found.name}", found)
    config = _tag_config(model, tag)
    return Source(f"open_clip:{model}/{tag}", _tag_file(config, f"{model}/{tag}"), config)


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


def load_into(model: Any, file: Path) -> None:
    """Load a checkpoint strictly; nothing is unpickled, and no position embedding is stretched to another grid.

    Raises:
        WeightsError: no file, no checkpoint (an error page, a cut download), or keys and shapes that do not fit.
    """
    state = {k: v for k, v in read_state(file).items() if k not in _ABOUT}
    hint = (
        f"{_architecture_of(state)}; choose a backbone of that architecture (`rsbench list backbones`, or --backbone "
        "openclip --set backbone.model=NAME), or another --weights FILE"
    )
    load_strictly(model, _in_own_names(model, state), file.name, hint)


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


def _tag_file(config: Mapping[str, Any], name: str) -> Path:
    from open_clip import pretrained

    repository, _, own_name = str(config.get("hf_hub", "")).rpartition("/")
    if repository:
        return hub.fetch(HubFile(repository, (own_name,) if own_name else _HUB_NAMES), name)
    try:
        if hub.reachable(str(config.get("url", ""))):
            return Path(pretrained.download_pretrained(dict(config)))
    except Exception as error:
        raise WeightsError(f"weights of {name} are not on disk and their download failed; {_WAYS_OUT}") from error
    raise WeightsError(f"weights of {name} are not on disk and there is no network; {_WAYS_OUT}")


def _in_own_names(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Layouts of others in the names of open_clip, as its own ``load_checkpoint`` does."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for name, own in (("logit_scale", model.logit_scale), ("logit_bias", model.logit_bias)):
        if own is not None and name in state and state[name].numel() == 1:
            state[name] = state[name].reshape(own.shape)
    return state


def _architecture_of(state: Mapping[str, Tensor]) -> str:
    """What a file's names and shapes say of its image tower."""
    first = state.get("visual.conv1.weight")
    if first is None:
        return "the file has no image tower in the names of open_clip"
    if "visual.layer1.0.conv1.weight" in state:
        return "the file holds a ResNet"
    return f"the file holds a ViT of width {first.shape[0]} with patches of {first.shape[-1]} pixels"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip()[:120]
