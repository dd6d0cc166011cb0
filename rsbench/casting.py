"""Typed values from what a user typed, by the type of a default."""

from __future__ import annotations

from typing import Any

from rsbench.errors import UsageError

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", tuple: "whole numbers joined by +"}


def cast_like(what: str, value: Any, default: Any) -> Any:
    """The value in the type of a default.

    Args:
        what: how the field is called in the message.
        value: often text; a tuple of whole numbers is typed as ``10+20``.
        default: an example of the type.

    Raises:
        UsageError: it does not fit.
    """
    kind = type(default)
    try:
        if kind is bool:
            return _BOOLEANS[str(value).lower()]
        if kind is tuple:
            return tuple(int(v) for v in str(value).split("+"))
        if isinstance(value, bool) or (kind is int and float(value) != int(float(value))):
            raise ValueError
        return kind(float(value)) if kind is int else kind(value)
    except (KeyError, ValueError, TypeError, OverflowError):
        expected = _WORDS.get(kind, "text")
        raise UsageError(f"{what}={value!r} must be {expected}, for example {default!r}") from None
