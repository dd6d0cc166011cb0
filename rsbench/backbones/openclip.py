"""``openclip``: any model of open_clip, trained whole on pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.backbones.base import CONTENT, PAD, SPECIAL, Backbone, Features, Fields, Inputs
from rsbench.backbones.cards.openclip import CLIP_VIT_B32, OPENCLIP
from rsbench.backbones.openclip_weights import Source, load_into, preprocessing, quiet, source_of, tokenise
from rsbench.backbones.pixels import as_tensor, prepare
from rsbench.backbones.seeded import seeded_init
from rsbench.backbones.torchvision_ops import declare_missing_operators
from rsbench.data.dataset import Dataset
from rsbench.errors import UnknownNameError
from rsbench.progress import Progress, silent


class OpenClip(Backbone):
    """Both towers of a model of open_clip, in its joint space.

    Tokens, hidden states and blocks are given where the image tower is open_clip's own transformer with a class token
    and a projection, and the text tower is CLIP's causal one; other models give pooled vectors only. ``hidden`` is
    the output of each tower's last block; its last norm and projection make ``tokens`` of it. The model's own logit
    scale and bias are taken off: temperature belongs to the method.

    Args:
        tuning: ``full``.
        weights: ``hub``, ``random``, or a local file.
        seed: of random weights.
        model: open_clip's name, activation included (``ViT-B-32-quickgelu`` for weights of OpenAI's kind).
        tag: open_clip's pretrained tag for ``hub``.

    Raises:
        UnknownNameError: no such model, or no such tag.
        UsageError: the tag was trained with another activation.
        WeightsError: weights missing, damaged or of another shape.
    """

    card = OPENCLIP

    def __init__(self, tuning: str, weights: str, seed: int, *, model: str, tag: str) -> None:
        super().__init__()
        self.tuning, self.weights, self.model = tuning, weights, model
        self.source: Source = source_of(model, tag, weights)
        with seeded_init(seed):
            self.clip = _architecture(model)
        if self.source.file is not None:
            load_into(self.clip, self.source.file)
        self.look = preprocessing(self.clip, self.source)
        self.own_scale = float(self.clip.logit_scale.detach().exp())
        self.clip.logit_scale = self.clip.logit_bias = None
        self.dim = self._joint_dim()

    @property
    def capabilities(self) -> frozenset[str]:
        """Those of the card where the towers have tokens, else none."""
        return self.card.capabilities[self.tuning] if self._gives_tokens else frozenset()

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        """Pixels of the store, and token ids of every distinct text."""
        del cache, tokens
        ids = tokenise(self.model, dataset.texts, progress)
        return Inputs({"pixels": as_tensor(dataset.images)}, {"ids": ids})

    def encode_image(self, x: Fields) -> Features:
        """Features of uint8 ``pixels [B, H, W, 3]``; the class token comes first and is special."""
        if not self._gives_tokens:
            return Features(self.clip.encode_image(self._pixels(x)))
        return self.project_image(*self.image_states(x))

    def encode_text(self, x: Fields) -> Features:
        """Features of token ids ``ids [B, 77]``; start and end are special, what follows the end is padding."""
        if not self._gives_tokens:
            return Features(self.clip.encode_text(x["ids"]))
        return self.project_text(*self.text_states(x))

    def image_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Output of the last block of the image tower, the class token first."""
        found = self.clip.visual.forward_intermediates(
            self._pixels(x), indices=1, output_fmt="NLC", output_extra_tokens=True, intermediates_only=True
        )
        hidden = torch.cat([found["image_intermediates_prefix"][-1], found["image_intermediates"][-1]], dim=1)
        kind = torch.full(hidden.shape[:2], CONTENT, dtype=torch.int8, device=hidden.device)
        kind[:, 0] = SPECIAL
        return hidden, kind

    def text_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Output of the last block of the text tower."""
        found = self.clip.forward_intermediates(text=x["ids"], text_indices=1, intermediates_only=True)
        return found["text_intermediates"][-1], self.text_kind(x)

    def project_image(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Last norm and projection; pooled = the class token."""
        visual = self.clip.visual
        if not tokens:
            return Features(visual.ln_post(hidden[:, 0]) @ visual.proj)
        normed = visual.ln_post(hidden)
        return Features(normed[:, 0] @ visual.proj, normed @ visual.proj, kind, hidden)

    def project_text(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Last norm and projection; pooled = the end, which is the last special token."""
        place = torch.arange(kind.shape[1], device=kind.device)
        end = place.where(kind == SPECIAL, -1).argmax(dim=1)
        rows, norm, matrix = torch.arange(len(end), device=end.device), self.clip.ln_final, self.clip.text_projection
        if not tokens:
            return Features(norm(hidden[rows, end]) @ matrix)
        normed = norm(hidden)
        return Features(normed[rows, end] @ matrix, normed @ matrix, kind, hidden)

    def width(self, modality: str) -> int:
        """Channels of the transformer."""
        return int((self.clip.visual.proj if modality == "image" else self.clip.text_projection).shape[0])

    def blocks(self, modality: str) -> Sequence[nn.Module]:
        """Residual attention blocks; hooks on them see every encoded batch."""
        tower = self.clip.visual if modality == "image" else self.clip
        found: Sequence[nn.Module] = tower.transformer.resblocks
        return found

    def text_kind(self, x: Fields) -> Tensor:
        """Kinds of token ids."""
        return token_kinds(x["ids"])

    def pretrained(self) -> Sequence[nn.Module]:
        """The whole model, unless its weights are random."""
        return () if self.weights == "random" else (self.clip,)

    def facts(self) -> dict[str, Any]:
        """Model, origin and hash of the weights, activation."""
        quick = any(type(m).__name__ == "QuickGELU" for m in self.clip.modules())
        return {"model": self.model, "activation": "quick_gelu" if quick else "gelu", **self.source.facts()}

    def _pixels(self, x: Fields) -> Tensor:
        return prepare(x["pixels"], self.look.size, self.look.mean, self.look.std, self.look.mode)

    @property
    def _gives_tokens(self) -> bool:
        visual = self.clip.visual
        flat_text = isinstance(getattr(self.clip, "text_projection", None), Tensor)
        causal = getattr(self.clip, "text_pool_type", "") == "argmax"
        class_token = getattr(visual, "pool_type", "") == "tok" and visual.attn_pool is None
        return flat_text and causal and class_token and isinstance(visual.proj, Tensor)

    def _joint_dim(self) -> int:
        if self._gives_tokens:
            return int(self.clip.visual.proj.shape[1])
        import open_clip

        return int(open_clip.get_model_config(self.model)["embed_dim"])


class ClipVitB32(OpenClip):
    """CLIP ViT-B/32 of OpenAI with its QuickGELU, or another checkpoint of this architecture."""

    card = CLIP_VIT_B32

    def __init__(self, tuning: str, weights: str, seed: int) -> None:
        super().__init__(tuning, weights, seed, model="ViT-B-32-quickgelu", tag="openai")


def token_kinds(ids: Tensor) -> Tensor:
    """int8 ``[B, L]`` of CLIP's token ids: the end is the largest id of a row, the start its first."""
    end = ids.argmax(dim=1, keepdim=True)
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    kind = torch.full(ids.shape, CONTENT, dtype=torch.int8, device=ids.device)
    return kind.masked_fill(place > end, PAD).masked_fill((place == end) | (place == 0), SPECIAL)


def _architecture(model: str) -> Any:
    """The untrained model in fp32.

    Raises:
        UnknownNameError: open_clip has no such model.
    """
    declare_missing_operators()
    import open_clip

    if model not in open_clip.list_models():
        raise UnknownNameError("open_clip model", model, open_clip.list_models(), "set it with --set backbone.model=")
    with quiet():
        built: nn.Module = open_clip.create_model(model, pretrained_text=False)
    return built
