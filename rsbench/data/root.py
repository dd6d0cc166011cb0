"""Where prepared data lives."""

from __future__ import annotations

import os
from pathlib import Path

from rsbench.data.local import register_local


def data_root(path: Path | None = None) -> Path:
    """The data root: the argument, else ``RSBENCH_DATA``, else ``~/.cache/rsbench``.

    Below it: ``datasets/<name>/`` (packed stores), ``features/`` (caches), ``noise/`` (imported indices),
    ``downloads/`` and the file ``last_prepared``. Own datasets packed there are known by name from now on.
    """
    given = path or os.environ.get("RSBENCH_DATA") or Path("~/.cache/rsbench")
    root = Path(given).expanduser().absolute()
    register_local(root)
    return root
