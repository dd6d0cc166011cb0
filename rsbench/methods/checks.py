"""Range checks of hyper-parameters, for the ``__post_init__`` of a method's dataclass. No torch."""

from __future__ import annotations

from rsbench.errors import UsageError


def within(
    method: str,
    name: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    *,
    open_low: bool = False,
) -> None:
    """Check that a value lies in [low, high], or in (low, high] if ``open_low``; None means unbounded.

    Raises:
        UsageError: it does not.
    """
    too_low = low is not None and (value < low or (open_low and value == low))
    if not too_low and (high is None or value <= high):
        return
    lower = "" if low is None else f"{'above' if open_low else 'at least'} {low:g}"
    upper = "" if high is None else f"at most {high:g}"
    raise UsageError(
        f"{method}: {name} = {value:g} is not allowed; it must be {' and '.join(filter(None, (lower, upper)))} "
        f"(--set method.{name}=...)"
    )
