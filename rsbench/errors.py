"""Errors a user can mend: one clear line each, exit code 2 on the command line.

A message says what was given, what is allowed, and what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RsbenchError(Exception):
    """Base of every error that is the input's fault, not the program's."""


class UsageError(RsbenchError):
    """A flag, field or value that cannot be accepted."""


class DataError(RsbenchError):
    """Dataset files that are missing, unreadable or of the wrong shape."""


class DownloadError(DataError):
    """A download that did not yield the expected file."""


class ArchiveError(DataError):
    """An archive that is damaged or tries to write outside its folder."""


class NoiseError(RsbenchError):
    """A noise index that does not fit its dataset, or cannot be made or exported."""


class WeightsError(RsbenchError):
    """Pretrained weights that are missing or do not fit the architecture."""


class CapabilityError(RsbenchError):
    """A method asks for features that its backbone does not give."""


class DependencyError(RsbenchError):
    """An optional package that is needed here and not installed."""


class ResultError(RsbenchError):
    """A result folder that is damaged, foreign or of another version."""


class BusyError(ResultError):
    """A run that another process is working on."""


class ProcessesError(RsbenchError, OSError):
    """A run on several processes that failed in one of them, which ends them all."""


class NonFiniteError(RsbenchError):
    """A loss or a score that is NaN or infinite."""


class UnknownNameError(UsageError):
    """A name that no registry or field list knows; the nearest names are shown.

    Args:
        kind: what was looked up, for example ``"method"``.
        name: what was given.
        known: what is allowed.
        hint: what to type next.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        text = f"unknown {kind} '{name}'"
        text += f"; did you mean {' or '.join(near)}?" if near else ";"
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        text += f" known: {shown or 'none'}"
        super().__init__(f"{text}. {hint}".rstrip(" .") + ("" if not hint else "."))
        self.name, self.near = name, near
