"""Find a method's card, resolve its hyper-parameters, build it. Imports torch only to build, or for a user's file."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import math
import re
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rsbench.errors import CapabilityError, UnknownNameError, UsageError
from rsbench.methods.card import MethodCard
from rsbench.registry import METHODS, resolve

if TYPE_CHECKING:
    from rsbench.backbones.base import Backbone
    from rsbench.methods.base import Method, Setup

_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<cls>[A-Za-z_]\w*))?")
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def load_card(name: str) -> MethodCard:
    """The card of a registered method, of ``path/to/file.py`` or of ``path/to/file.py:Class``.

    Raises:
        UnknownNameError: no such registered name.
        UsageError: the file is missing, fails to load, or holds no method.
    """
    if _FILE.fullmatch(name):
        return _class_in_file(name).card
    found = METHODS.load(name)
    card = found if isinstance(found, MethodCard) else getattr(found, "card", None)
    if not isinstance(card, MethodCard):
        raise UsageError(f"entry point of method '{name}' must name a MethodCard, or a Method class with a card")
    return card


def card_digest(name: str) -> str | None:
    """sha256 of the file that defines a method which is not built in; None for built-in ones."""
    match = _FILE.fullmatch(name)
    if match:
        return _digest(_existing(match["path"]))
    module = METHODS.entry(name).target.partition(":")[0]
    if module.startswith("rsbench."):
        return None
    spec = importlib.util.find_spec(module)
    return _digest(Path(spec.origin)) if spec and spec.origin else None


def resolve_params(card: MethodCard, variant: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Every hyper-parameter of a method: defaults, then the variant's, then the given ones.

    Args:
        card: of the method.
        variant: named variant; ``full`` is always there.
        overrides: field -> value; strings are cast to the field's type.

    Raises:
        UnknownNameError: no such variant or field.
        UsageError: a value of the wrong type, or outside what is allowed.
    """
    variants = {"full": {}, **card.variants}
    if variant not in variants:
        raise UnknownNameError(f"variant of {card.name}", variant, variants, f"see `rsbench describe {card.name}`")
    fields = {f.name: f for f in dataclasses.fields(card.params)}
    types = typing.get_type_hints(card.params)
    values = dict(variants[variant])
    for name, value in overrides.items():
        if name not in fields:
            raise UnknownNameError(f"parameter of {card.name}", name, fields, f"see `rsbench describe {card.name}`")
        values[name] = _cast(f"{card.name}: {name}", value, types[name])
    for name, value in values.items():
        choices = fields[name].metadata.get("choices", ())
        if choices and value not in choices:
            raise UsageError(f"{card.name}: {name} = {value!r} is unknown; use one of {', '.join(map(str, choices))}")
    return dataclasses.asdict(card.params(**values))


def build_method(name: str, variant: str, params: Mapping[str, Any], backbone: Backbone, setup: Setup) -> Method:
    """Build a method over a fitted backbone.

    Args:
        name: as for ``load_card``.
        variant: named variant.
        params: overrides of its hyper-parameters; a fully resolved mapping is fine.
        backbone: the fitted backbone.
        setup: sizes of the run.

    Raises:
        CapabilityError: the backbone does not give what the method needs.
    """
    card = load_card(name)
    values = resolve_params(card, variant, params)
    check_needs(card, values, backbone.card.name, backbone.tuning, backbone.capabilities)
    return method_class(name)(backbone, card.params(**values), setup)


def check_needs(
    card: MethodCard, values: Mapping[str, Any], backbone: str, tuning: str, capabilities: frozenset[str]
) -> None:
    """Refuse a backbone that lacks what a method needs with its hyper-parameters, before any work starts.

    Raises:
        CapabilityError: naming what is missing.
    """
    missing = card.needs_of(values) - capabilities
    if missing:
        raise CapabilityError(
            f"method '{card.name}' needs {', '.join(sorted(missing))}, which backbone '{backbone}' with tuning "
            f"'{tuning}' does not give; choose another with --backbone (see `rsbench list backbones`)"
        )


def method_class(name: str) -> type[Method]:
    """The torch class behind a name, as for ``load_card``."""
    if _FILE.fullmatch(name):
        return _class_in_file(name)
    found = METHODS.load(name)
    cls: type[Method] = resolve(found.target) if isinstance(found, MethodCard) else found
    return cls


def _cast(what: str, value: Any, kind: Any) -> Any:
    """Bring a value, often typed text, to the type of its field."""
    allowed = [k for k in typing.get_args(kind) or (kind,) if k is not type(None)]
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        if type(None) in typing.get_args(kind):
            return None
        if str not in allowed:
            raise UsageError(f"{what} = none is not allowed; it takes {_spoken(allowed)}")
    for target in allowed:
        found = _as(value, target)
        if found is not None:
            return found
    raise UsageError(f"{what} = {value!r} is not allowed; it takes {_spoken(allowed)}")


def _as(value: Any, kind: Any) -> Any:
    """The value as ``kind``, or None where that would change its meaning."""
    if kind is bool:
        return value if isinstance(value, bool) else _WORDS.get(str(value).lower())
    if isinstance(value, bool):
        return None
    try:
        if kind is int:
            return value if isinstance(value, int) else int(value) if isinstance(value, str) else None
        if kind is float:
            return float(value) if math.isfinite(float(value)) else None
    except (TypeError, ValueError, OverflowError):
        return None
    if not isinstance(kind, type):  # a parametrised generic: kept as given, cannot be typed as text
        return None if isinstance(value, str) else value
    return value if isinstance(value, kind) else None


def _spoken(kinds: list[Any]) -> str:
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    return " or ".join(words.get(k, str(k)) for k in kinds)


def _existing(path: str) -> Path:
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"method file '{path}' does not exist; give the path of a .py file or a registered name")
    return file


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _class_in_file(name: str) -> type[Method]:
    match = _FILE.fullmatch(name)
    assert match is not None
    file = _existing(match["path"])
    module = _module_of(str(file.resolve()), _digest(file))
    return _pick(module, match["path"], match["cls"])


@functools.lru_cache(maxsize=32)
def _module_of(path: str, digest: str) -> ModuleType:
    name = f"rsbench_user_{digest[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type hints look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"method file '{path}' fails to load: {type(error).__name__}: {error}") from error
    return module


def _pick(module: ModuleType, path: str, wanted: str | None) -> type[Method]:
    from rsbench.methods.base import Method

    found = {
        n: c
        for n, c in vars(module).items()
        if isinstance(c, type) and issubclass(c, Method) and c.__module__ == module.__name__
    }
    if wanted is not None and wanted not in found:
        raise UnknownNameError(f"Method class in {path}", wanted, found)
    if wanted is None and len(found) != 1:
        seen = f"it has {', '.join(found)}; name one as {path}:CLASS" if found else "it has none"
        raise UsageError(f"method file '{path}' must define one subclass of Method; {seen}")
    cls: type[Method] = found[wanted] if wanted is not None else next(iter(found.values()))
    if not isinstance(getattr(cls, "card", None), MethodCard):
        raise UsageError(f"{path}: class {cls.__name__} needs a class attribute card = MethodCard(...)")
    return cls
