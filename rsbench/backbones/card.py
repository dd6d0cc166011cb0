"""What is known of a backbone before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PATH = "path"
"""Listed among a card's weights: a local file is accepted too."""
FOLDER = "folder"
"""Listed among a card's weights: a local folder is accepted too."""


@dataclass(frozen=True)
class HubFile:
    """A weights file on the Hugging Face hub.

    Attributes:
        repository: ``owner/name``.
        names: paths inside it, in the order of preference; one of them is enough.
    """

    repository: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.repository}/{self.names[0]}"


@dataclass(frozen=True)
class BackboneCard:
    """A backbone's facts and defaults. Raise ``revision`` when its numbers change.

    Attributes:
        target: ``module:Class`` of the torch module.
        capabilities: tuning -> what it gives beyond pooled vectors: ``tokens``, ``hidden``, ``blocks``.
            The first tuning is the default.
        weights: kinds of weights accepted: ``bundled``, ``hub``, ``random``, or a local file or folder where ``path``
            or ``folder`` is listed. The first is the default.
        params: settable fields with defaults; checked by ``--set backbone.NAME=VALUE``.
        later: names of params younger than the first results: a spec leaves them out at their default, so that older
            runs keep their hash.
        aligned: whether images and texts share a space before any training (zero-shot rows).
        warning: printed and recorded whenever it is used (for example a known leakage).
        hub: files that weights ``hub`` read, where they are known before torch is imported.
    """

    name: str
    title: str
    target: str
    capabilities: Mapping[str, frozenset[str]]
    weights: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    later: frozenset[str] = frozenset()
    source: str = ""
    aligned: bool = False
    warning: str = ""
    revision: int = 1
    hub: tuple[HubFile, ...] = ()

    def spelled(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Resolved params as a spec holds them: without ``later`` ones at their default."""
        return {k: v for k, v in params.items() if k not in self.later or v != self.params[k]}

    def warning_with(self, weights: str) -> str:
        """The warning, unless the weights are random ones, which have seen nothing."""
        return "" if weights == "random" else self.warning

    @property
    def default_tuning(self) -> str:
        """The tuning used when neither the user nor the dataset names one."""
        return next(iter(self.capabilities))
