"""``openclip``: any model of open_clip, trained whole on pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.backbones.base import CONTENT, PAD, SPECIAL, Backbone, Features, Fields, Inputs
from rsbench.backbones.cards import CLIP_VIT_B32, OPENCLIP
from rsbench.backbones.openclip_weights import Source, load_into, preprocessing, quiet, source_of, tokenise
from rsbench.backbones.pixels import as_tensor, prepare
from rsbench.backbones.seeded import seeded_init
from rsbench.backbones.torchvision_ops import declare_missing_operators
from rsbench.data.dataset import Dataset
from rsbench.errors import UnknownNameError
from rsbench.progress import Progress, silent


class OpenClip(Backbone):
    """Both towers of a model of open_clip, in its joint space.

    Tokens and hidden states are given where the image tower is open_clip's own transformer with a projection and
    the text tower is CLIP's causal one; other models give pooled vectors only. ``hidden`` is each tower's output
    after its last norm and before the projection, ``tokens`` is it projected. The model's own logit scale and bias
    are taken off: temperature belongs to the method.

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
        pixels = prepare(x["pixels"], self.look.size, self.look.mean, self.look.std, self.look.mode)
        if not self._gives_tokens:
            return Features(self.clip.encode_image(pixels))
        visual = self.clip.visual
        found = visual.forward_intermediates(
            pixels, indices=1, normalize_intermediates=True, output_fmt="NLC", output_extra_tokens=True
        )
        hidden = torch.cat([found["image_intermediates_prefix"][-1], found["image_intermediates"][-1]], dim=1)
        kind = torch.full(hidden.shape[:2], CONTENT, dtype=torch.int8, device=hidden.device)
        kind[:, 0] = SPECIAL
        return Features(found["image_features"], hidden @ visual.proj, kind, hidden)

    def encode_text(self, x: Fields) -> Features:
        """Features of token ids ``ids [B, 77]``; start and end are special, what follows the end is padding."""
        ids = x["ids"]
        if not self._gives_tokens:
            return Features(self.clip.encode_text(ids))
        found = self.clip.forward_intermediates(text=ids, text_indices=1, normalize=False, normalize_intermediates=True)
        hidden = found["text_intermediates"][-1]
        return Features(found["text_features"], hidden @ self.clip.text_projection, token_kinds(ids), hidden)

    def facts(self) -> dict[str, Any]:
        """Model, origin and hash of the weights, activation."""
        quick = any(type(m).__name__ == "QuickGELU" for m in self.clip.modules())
        return {"model": self.model, "activation": "quick_gelu" if quick else "gelu", **self.source.facts()}

    @property
    def _gives_tokens(self) -> bool:
        flat_text = isinstance(getattr(self.clip, "text_projection", None), Tensor)
        causal = getattr(self.clip, "text_pool_type", "") == "argmax"
        return flat_text and causal and isinstance(getattr(self.clip.visual, "proj", None), Tensor)

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
