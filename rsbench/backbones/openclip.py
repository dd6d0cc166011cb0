"""``openclip``: any model of open_clip, trained whole on pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.backbones.base import CONTENT, PAD, SPECIAL, Backbone, Features, Fields, Inputs
from rsbench.backbones.card import BackboneCard
from rsbench.backbones.cards.openclip import OPENCLIP
from rsbench.backbones.openclip_weights import find_source, load_into, preprocessing, quiet, tokenise
from rsbench.backbones.pixels import as_tensor, prepare
from rsbench.backbones.resnet_tokens import attend, resnet_states, resnet_tokens
from rsbench.backbones.seeded import seeded_init
from rsbench.backbones.torchvision_ops import declare_missing_operators
from rsbench.data.dataset import Dataset
from rsbench.errors import UnknownNameError
from rsbench.progress import Progress, silent


class OpenClip(Backbone):
    """Both towers of a model of open_clip, in its joint space.

    Tokens, hidden states and blocks are given where the image tower is open_clip's own transformer with a class token
    and a projection, and the text tower is CLIP's causal one; ``hidden`` is then the output of each tower's last
    block, and its last norm and projection make ``tokens`` of it. CLIP's ResNet has no blocks; its hidden states are
    what the attention pool reads (see ``resnet_tokens``). Other models give pooled vectors only. The model's own
    logit scale and bias are taken off: temperature belongs to the method.

    Args:
        tuning: ``full``, or ``lora`` (``clip_tuning`` adds the updates).
        weights: ``hub``, ``random``, or a local file.
        seed: of random weights.
        model: open_clip's name, activation included (``ViT-B-32-quickgelu`` for weights of OpenAI's kind).
        tag: open_clip's pretrained tag for ``hub``; not read where the card has a hub file of its own.
        card: of this model or checkpoint.

    Raises:
        UnknownNameError: no such model, or no such tag.
        UsageError: the tag was trained with another activation.
        WeightsError: weights missing, damaged or of another shape.
    """

    def __init__(
        self, tuning: str, weights: str, seed: int, *, model: str, tag: str, card: BackboneCard = OPENCLIP
    ) -> None:
        super().__init__()
        self.card = card  # type: ignore[misc]  # one class serves every checkpoint
        self.tuning, self.weights, self.model = tuning, weights, model
        self.source = find_source(card, model, tag, weights)
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
        """Those of the card that the towers of this model have."""
        given = {"tokens", "hidden"} | ({"blocks"} if self._is_vit else set()) if self._gives_tokens else set()
        return self.card.capabilities[self.tuning] & given

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        """Pixels of the store, and token ids of every distinct text."""
        del cache, tokens
        ids = tokenise(self.model, dataset.texts, progress)
        return Inputs({"pixels": as_tensor(dataset.images)}, {"ids": ids})

    def encode_image(self, x: Fields) -> Features:
        """Features of uint8 ``pixels [B, H, W, 3]``; the class token (ResNet: pooled) comes first and is special."""
        if not self._gives_tokens:
            return Features(self.clip.encode_image(self._pixels(x)))
        return self.project_image(*self.image_states(x))

    def encode_text(self, x: Fields) -> Features:
        """Features of token ids ``ids [B, 77]``; start and end are special, what follows the end is padding."""
        if not self._gives_tokens:
            return Features(self.clip.encode_text(x["ids"]))
        return self.project_text(*self.text_states(x))

    def image_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Output of the last block of the image tower, the class token (ResNet: the mean) first."""
        pixels = self._pixels(x)
        hidden = self._vit_states(pixels) if self._is_vit else resnet_states(self.clip.visual, pixels)
        kind = torch.full(hidden.shape[:2], CONTENT, dtype=torch.int8, device=hidden.device)
        kind[:, 0] = SPECIAL
        return hidden, kind

    def text_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Output of the last block of the text tower."""
        found = self.clip.forward_intermediates(text=x["ids"], text_indices=1, intermediates_only=True)
        return found["text_intermediates"][-1], self.text_kind(x)

    def project_image(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Last norm and projection, pooled = the class token; of a ResNet the attention pool."""
        visual = self.clip.visual
        if not self._is_vit:
            pooled, values = attend(visual.attnpool, hidden)
            if not tokens:
                return Features(pooled)
            return Features(pooled, resnet_tokens(visual.attnpool, pooled, values), kind, hidden)
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
        """Channels of the transformer, or of a ResNet's last map."""
        if modality == "text":
            return int(self.clip.text_projection.shape[0])
        visual = self.clip.visual
        return int(visual.proj.shape[0] if self._is_vit else visual.attnpool.c_proj.in_features)

    def blocks(self, modality: str) -> Sequence[nn.Module]:
        """Residual attention blocks; hooks on them see every encoded batch."""
        if "blocks" not in self.capabilities:
            return super().blocks(modality)
        tower = self.clip.visual if modality == "image" else self.clip
        found: Sequence[nn.Module] = tower.transformer.resblocks
        return found

    def embeddings(self, modality: str) -> Sequence[nn.Parameter]:
        """Patch or word embedding, positions, and of the image tower the class token and the norm after them."""
        if "blocks" not in self.capabilities:
            return super().embeddings(modality)
        if modality == "text":
            return [self.clip.token_embedding.weight, self.clip.positional_embedding]
        visual = self.clip.visual
        parts = (visual.conv1, visual.ln_pre)
        return [visual.class_embedding, visual.positional_embedding, *(p for m in parts for p in m.parameters())]

    def text_kind(self, x: Fields) -> Tensor:
        """Kinds of token ids."""
        return token_kinds(x["ids"])

    def pretrained(self) -> Sequence[nn.Module]:
        """The whole model, unless its weights are random, or frozen under low-rank updates."""
        return () if self.weights == "random" or self.tuning == "lora" else (self.clip,)

    def facts(self) -> dict[str, Any]:
        """Model, activation, origin and hash of the weights, and the card's warning of them."""
        quick = any(type(m).__name__ == "QuickGELU" for m in self.clip.modules())
        found = {"model": self.model, "activation": "quick_gelu" if quick else "gelu", **self.source.facts()}
        warning = self.card.warning_with(self.weights)
        return found | ({"warning": warning} if warning else {})

    def _pixels(self, x: Fields) -> Tensor:
        return prepare(x["pixels"], self.look.size, self.look.mean, self.look.std, self.look.mode)

    def _vit_states(self, pixels: Tensor) -> Tensor:
        found = self.clip.visual.forward_intermediates(
            pixels, indices=1, output_fmt="NLC", output_extra_tokens=True, intermediates_only=True
        )
        return torch.cat([found["image_intermediates_prefix"][-1], found["image_intermediates"][-1]], dim=1)

    @property
    def _is_vit(self) -> bool:
        visual = self.clip.visual
        class_token = getattr(visual, "pool_type", "") == "tok" and visual.attn_pool is None
        return class_token and isinstance(visual.proj, Tensor)

    @property
    def _gives_tokens(self) -> bool:
        flat_text = isinstance(getattr(self.clip, "text_projection", None), Tensor)
        causal = getattr(self.clip, "text_pool_type", "") == "argmax"
        return flat_text and causal and (self._is_vit or hasattr(self.clip.visual, "attnpool"))

    def _joint_dim(self) -> int:
        import open_clip

        return int(open_clip.get_model_config(self.model)["embed_dim"])


def token_kinds(ids: Tensor) -> Tensor:
    """int8 ``[B, L]`` of CLIP's token ids: the end is the largest id of a row, the start its first."""
    end = ids.argmax(dim=1, keepdim=True)
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    kind = torch.full(ids.shape, CONTENT, dtype=torch.int8, device=ids.device)
    return kind.masked_fill(place > end, PAD).masked_fill((place == end) | (place == 0), SPECIAL)


def check_model(model: str) -> None:
    """Look a model up.

    Raises:
        UnknownNameError: open_clip has no such model.
    """
    declare_missing_operators()
    import open_clip

    if model not in open_clip.list_models():
        raise UnknownNameError("open_clip model", model, open_clip.list_models(), "set it with --set backbone.model=")


def _architecture(model: str) -> Any:
    """The untrained model in fp32."""
    check_model(model)
    import open_clip

    with quiet():
        built: nn.Module = open_clip.create_model(model, pretrained_text=False)
    return built
