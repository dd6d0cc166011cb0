"""``swin-bert``: Swin-T on pixels and BERT-base on word pieces, trained whole."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rsbench.backbones import bert_tower, hub, timm_tower
from rsbench.backbones.base import PAD, Backbone, Features, Fields, Inputs
from rsbench.backbones.cache import file_hash
from rsbench.backbones.cards.towers import BERT_FILE, SWIN, SWIN_BERT, SWIN_FILE, WORD_PIECES
from rsbench.backbones.heads import led, projected
from rsbench.backbones.pixels import CLIP, IMAGENET, as_tensor, prepare
from rsbench.backbones.seeded import seeded_init
from rsbench.backbones.vocabulary import EXTRA_IDS, id_kinds, learn, no_words, training_words, word_ids
from rsbench.data.dataset import Dataset
from rsbench.errors import UnknownNameError, UsageError
from rsbench.progress import Progress, silent

LOOKS = {"imagenet": IMAGENET, "clip": CLIP}
_LOCAL = "a folder with image.safetensors, text.safetensors and tokenizer.json or vocab.txt with --weights FOLDER"


@dataclass(frozen=True)
class Architecture:
    """Sizes of both towers.

    Attributes:
        size: side in pixels at which images are read.
        image: further arguments of timm's Swin.
        text: fields of ``BertConfig`` that are not those of BERT-base.
    """

    size: int = 224
    image: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)


class SwinBert(Backbone):
    """Tokens of the last map and of word pieces, one linear projection for each modality (jaychempan/PIR).

    Image: the mean of the 49 normed tokens leads them as a class token would, and is the pooled one. Text: pooled =
    [CLS]. Hidden states are the towers' outputs, last norm included. Swin's blocks work on maps and windows and do not
    map ``[B, L, W]``, so that there are ``layers`` and no ``blocks``.

    Random weights come with no word pieces: the words of the training captions take their place.

    Args:
        tuning: ``full``, or ``lora`` (``swin_bert_tuning`` adds the updates).
        weights: ``hub``, ``random``, or a folder with ``image.safetensors`` (Swin), ``text.safetensors`` (BERT) and
            ``tokenizer.json`` or ``vocab.txt``.
        seed: of the projections, and of random weights.
        dim: of the joint space.
        words: word pieces of a caption, start and end included.
        look: pixels are normalised with the values of ``imagenet`` or, as in PIR, of ``clip``.
        attend_padding: give BERT no attention mask, as PIR does. Captions are then padded to ``words``, where PIR pads
            to the longest of the batch, so that here a text has one feature whatever stands beside it.

    Raises:
        UnknownNameError: no such look.
        UsageError: more words than BERT has places.
        WeightsError: weights missing, damaged or of another shape.
    """

    card = SWIN_BERT
    architecture: ClassVar[Architecture] = Architecture()
    vocabulary: Tensor

    def __init__(
        self, tuning: str, weights: str, seed: int, *, dim: int, words: int, look: str, attend_padding: bool
    ) -> None:
        super().__init__()
        if look not in LOOKS:
            raise UnknownNameError("look of swin-bert", look, LOOKS, "set it with --set backbone.look=")
        self.tuning, self.weights, self.dim, self.words = tuning, weights, dim, words
        self.look, self.attend_padding = LOOKS[look], attend_padding
        self.files = _files(weights)
        with seeded_init(seed):
            self.image_tower = timm_tower.image_tower(SWIN, self.files.get("image"), self.architecture.image)
            self.text_tower = bert_tower.text_tower(self.files.get("text"), self.architecture.text)
            self.image_head = nn.Linear(int(self.image_tower.num_features), dim)  # type: ignore[arg-type]
            self.text_head = nn.Linear(self._bert.hidden_size, dim)
        if not 3 <= words <= self._bert.max_position_embeddings:
            raise UsageError(f"backbone.words={words} must be from 3 to {self._bert.max_position_embeddings}")
        own_words = 0 if self.files else self._bert.vocab_size - EXTRA_IDS
        self.register_buffer("vocabulary", no_words(own_words))

    def fit(self, dataset: Dataset, split: str, cache: Path, progress: Progress = silent) -> None:
        """With random weights, learn the vocabulary from the captions of the training images."""
        del cache, progress
        if not self.files:
            learn(self.vocabulary, training_words(dataset, split))

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        """Pixels of the store, and word pieces of every distinct text, cut to the longest of them."""
        del cache, tokens, progress
        ids, kind = self.pieces(dataset.texts)
        length = self.words if self.attend_padding else max(int((kind != PAD).sum(dim=1).max()), 1)
        text = {"ids": ids[:, :length].contiguous(), "kind": kind[:, :length].contiguous()}
        return Inputs({"pixels": as_tensor(dataset.images)}, text)

    def encode_image(self, x: Fields) -> Features:
        """Features of uint8 ``pixels [B, H, W, 3]``; the mean comes first and is special."""
        return self.project_image(*self.image_states(x))

    def encode_text(self, x: Fields) -> Features:
        """Features of word pieces ``ids`` and ``kind [B, L]``; start and end are special."""
        return self.project_text(*self.text_states(x))

    def image_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Mean of Swin's tokens, then the tokens."""
        pixels = prepare(x["pixels"], self.architecture.size, *self.look)
        hidden = timm_tower.map_tokens(self.image_tower, pixels, channels_last=True)
        content = torch.zeros(hidden.shape[:2], dtype=torch.int8, device=hidden.device)
        return led(hidden.mean(dim=1), hidden, content)

    def text_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Last states of BERT."""
        mask = None if self.attend_padding else x["kind"] != PAD
        return bert_tower.states(self.text_tower, x["ids"], mask), x["kind"]

    def project_image(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Projection of the tower's outputs, the mean first."""
        return projected(self.image_head, hidden, kind, tokens)

    def project_text(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Projection of the tower's outputs, [CLS] first."""
        return projected(self.text_head, hidden, kind, tokens)

    def width(self, modality: str) -> int:
        """Channels of the tower."""
        return (self.image_head if modality == "image" else self.text_head).in_features

    def pretrained(self) -> Sequence[nn.Module]:
        """Both towers, unless their weights are random or stay as they are."""
        return (self.image_tower, self.text_tower) if self.files and self.tuning == "full" else ()

    def facts(self) -> dict[str, Any]:
        """Hashes of the files both towers start from, and what a text is cut into."""
        hashes = {f"{part}_sha256": self.part_hash(part) for part in self.files}
        return {"tokens_of_text": "word pieces" if self.files else "words of the training captions", **hashes}

    def pieces(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids int64 and kinds int8 ``[n, words]`` of n strings."""
        if self.files:
            return bert_tower.WordPieces(self.files["tokenizer"])(texts, self.words)
        ids = word_ids(self.vocabulary, texts, self.words, ends=True)
        return ids, id_kinds(self.vocabulary, ids)

    def layers(self, modality: str) -> Sequence[nn.Module]:
        """Swin's blocks with the merging of patches between stages; BERT's layers."""
        if modality == "text":
            return list(self.text_tower.encoder.layer)  # type: ignore[union-attr, arg-type]
        stages: Any = self.image_tower.layers
        parts = (part for stage in stages for part in (stage.downsample, *stage.blocks))
        return [part for part in parts if not isinstance(part, nn.Identity)]

    def embeddings(self, modality: str) -> Sequence[nn.Parameter]:
        """Of patches, or of word pieces and places."""
        tower: Any = self.image_tower.patch_embed if modality == "image" else self.text_tower.embeddings
        return list(tower.parameters())

    def part_hash(self, part: str) -> str:
        """sha256 of the file of ``image``, ``text`` or ``tokenizer``, else ``random``."""
        return _hash(self.files[part]) if self.files else "random"

    @property
    def _bert(self) -> Any:
        return self.text_tower.config


def _files(weights: str) -> dict[str, Path]:
    """``image``, ``text`` and ``tokenizer``; none for random weights.

    Raises:
        WeightsError: a file that cannot be had.
    """
    if weights == "random":
        return {}
    if weights == "hub":
        parts = {"image": SWIN_FILE, "text": BERT_FILE, "tokenizer": WORD_PIECES}
        return {part: hub.fetch(file, f"swin-bert ({part})", _LOCAL) for part, file in parts.items()}
    folder = Path(weights)
    own = {"image": folder / "image.safetensors", "text": folder / "text.safetensors"}
    return {**own, "tokenizer": bert_tower.tokenizer_file(folder)}


@functools.cache
def _hash(file: Path) -> str:
    return file_hash(file)
