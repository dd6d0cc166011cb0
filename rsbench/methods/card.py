"""What is known of a method before torch is imported: its paper, hyper-parameters and variants."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def hyper(
    default: Any, source: str, *, unpublished: bool = False, choices: tuple[Any, ...] = (), help: str = ""
) -> Any:
    """A hyper-parameter: a dataclass field with its source.

    Args:
        default: value of the paper, or the decided reading.
        source: where the value comes from (paper section, or file of a public repository).
        unpublished: the paper is silent; the value is ours.
        choices: allowed values, empty for any of the type.
        help: one line for ``rsbench describe``.
    """
    meta = {"source": source, "unpublished": unpublished, "choices": choices, "help": help}
    return dataclasses.field(default=default, metadata=meta)


def adam_steps(epochs: int, decay_epoch: int) -> dict[str, Any]:
    """The recipe of VSE++ and its descendants: Adam 2e-4, batch 128, x0.1 at one epoch, clipped at 2.

    Source: fartashf/vsepp train.py:28-60; XLearning-SCU/2021-NeurIPS-NCR NCR/run.py:62-64.
    """
    return {
        "optimizer": "adam",
        "lr": 2e-4,
        "weight_decay": 0.0,
        "batch_size": 128,
        "epochs": epochs,
        "schedule": "step",
        "decay_epochs": (decay_epoch,),
        "decay_factor": 0.1,
        "grad_clip": 2.0,
    }


@dataclass(frozen=True)
class MethodCard:
    """A method's facts. Raise ``revision`` when its numbers change.

    Attributes:
        target: ``module:Class`` of the torch module.
        params: frozen dataclass whose fields are made by ``hyper``.
        variants: name -> field overrides; the published ablations.
        needs: capabilities of the backbone beyond pooled vectors. Where they depend on hyper-parameters, ``params``
            has a method ``needs()`` that returns them.
        paper_recipe: training fields as published (see ``rsbench.training.recipe``).
        searched: the one field that the common recipe searches, and its six settings
            (the paper's value among them); each setting is a mapping of field overrides.
        detector: ``native`` if the loss yields a clean score of its own, else ``similarity``.
        networks: networks whose similarities are averaged at test time.
        uses_prior: prior knowledge beyond the noisy pairs (a clean meta set, the noise rate), or "".
        equations: the formulas in plain text, for ``rsbench describe``.
        decided: readings of unclear points, for ``rsbench describe``.
    """

    name: str
    title: str
    paper: str
    target: str
    params: type
    equations: tuple[str, ...]
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    paper_recipe: Mapping[str, Any] = field(default_factory=dict)
    searched: tuple[Mapping[str, Any], ...] = ()
    detector: str = "similarity"
    networks: int = 1
    uses_prior: str = ""
    decided: tuple[str, ...] = ()
    revision: int = 1

    def needs_of(self, values: Mapping[str, Any]) -> frozenset[str]:
        """Capabilities that the method needs with these hyper-parameters (a complete set of fields)."""
        own = getattr(self.params, "needs", None)
        return self.needs if own is None else own(self.params(**values))
