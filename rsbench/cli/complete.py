"""What the shell offers after Tab: names from the registry, in comma lists too. Nothing is imported for it."""

from __future__ import annotations

from collections.abc import Callable

from rsbench.registry import BACKBONES, DATASETS, LAUNCHERS, METHODS, NOISE_KINDS, Registry

KINDS = {
    "methods": METHODS,
    "datasets": DATASETS,
    "backbones": BACKBONES,
    "noise": NOISE_KINDS,
    "launchers": LAUNCHERS,
}
"""Plural on the command line -> registry."""

TABLES = "benchmarks"
"""Published tables: a kind of name without a registry."""


def names_of(*registries: Registry) -> Callable[[str], list[str]]:
    """A completion for one name, or for the last one of a comma list.

    Args:
        registries: whose names are offered.
    """

    def complete(incomplete: str) -> list[str]:
        given, comma, start = incomplete.rpartition(",")
        known = dict.fromkeys(name for registry in registries for name in registry.names())
        return [given + comma + name for name in known if name.startswith(start)]

    return complete


def kinds(incomplete: str) -> list[str]:
    """A completion for the kinds of ``rsbench list``."""
    return [kind for kind in (*KINDS, TABLES) if kind.startswith(incomplete)]
