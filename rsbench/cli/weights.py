"""What a user must know of pretrained weights before figures are read."""

from __future__ import annotations

from collections.abc import Iterable

from rsbench.backbones.resolve import warning_of
from rsbench.cli.console import errors


def warn_of_weights(used: Iterable[tuple[str, str]]) -> None:
    """Print the warnings of backbones with their weights, each once; results record them too."""
    for text in dict.fromkeys(warning_of(backbone, weights) for backbone, weights in used):
        if text:
            errors.print(f"warning: {text}", markup=False, soft_wrap=True)
