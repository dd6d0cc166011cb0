"""BERT as text tower, and its word pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.backbones.base import CONTENT, PAD, SPECIAL
from rsbench.backbones.checkpoints import load_strictly, read_state
from rsbench.backbones.torchvision_ops import declare_missing_operators
from rsbench.errors import WeightsError

TOKENIZERS = ("tokenizer.json", "vocab.txt")


def text_tower(file: Path | None, options: Mapping[str, Any]) -> nn.Module:
    """BERT without its pooler; BERT-base where ``options`` do not say otherwise.

    Args:
        file: a checkpoint of BERT, with or without the heads of its pretraining. None for random weights.
        options: fields of ``BertConfig``.

    Raises:
        WeightsError: the file is missing, damaged or of another model.
    """
    declare_missing_operators()
    from transformers import BertConfig, BertModel

    tower: nn.Module = BertModel(BertConfig(**options), add_pooling_layer=False)
    if file is not None:
        load_strictly(tower, _own_keys(read_state(file)), file.name, "give weights of BERT-base (bert-base-uncased)")
    return tower


def states(tower: nn.Module, ids: Tensor, mask: Tensor | None) -> Tensor:
    """Last hidden states ``[B, L, W]`` of ids ``[B, L]``; all positions are attended to without a mask."""
    shown = torch.ones_like(ids) if mask is None else mask.long()
    found: Tensor = tower(input_ids=ids, attention_mask=shown).last_hidden_state
    return found


@dataclass(frozen=True)
class WordPieces:
    """BERT's own word pieces.

    Args:
        file: ``tokenizer.json`` or ``vocab.txt``.

    Raises:
        WeightsError: the file cannot be read.
    """

    file: Path

    def __call__(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """Ids int64 and kinds int8 ``[n, length]``; start and end are special, longer texts are cut before the end."""
        tokenizer = self._tokenizer()
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length, pad_id=tokenizer.token_to_id("[PAD]") or 0, pad_token="[PAD]")
        found = tokenizer.encode_batch(list(texts))
        ids = torch.tensor([e.ids for e in found])
        special = torch.tensor([e.special_tokens_mask for e in found]).bool()
        padding = ~torch.tensor([e.attention_mask for e in found]).bool()
        kind = torch.full(ids.shape, CONTENT, dtype=torch.int8)
        return ids, kind.masked_fill(special, SPECIAL).masked_fill(padding, PAD)

    def _tokenizer(self) -> Any:
        from tokenizers import BertWordPieceTokenizer, Tokenizer

        try:
            if self.file.suffix == ".json":
                return Tokenizer.from_file(str(self.file))
            return BertWordPieceTokenizer(str(self.file), lowercase=True)
        except Exception as error:
            raise WeightsError(f"{self.file.name} is no vocabulary of BERT; download it again") from error


def tokenizer_file(folder: Path) -> Path:
    """The vocabulary of word pieces that lies in a folder.

    Raises:
        WeightsError: it holds none.
    """
    for name in TOKENIZERS:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"folder {folder} holds no {' and no '.join(TOKENIZERS)}; copy one of bert-base-uncased into it")


def _own_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of today's BERT: files of 2018 have a prefix, heads of the pretraining and two other names."""
    found = {}
    for key, value in state.items():
        name = key.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight")
        if not name.startswith(("pooler.", "cls.")) and not name.endswith("position_ids"):
            found[name.replace("LayerNorm.beta", "LayerNorm.bias")] = value
    return found
