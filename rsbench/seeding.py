"""Seeds hashed from named parts, so that noise, split, initialisation and loader vary one by one."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: str | int) -> int:
    """A seed in [0, 2**63) from named parts, for example ``derive_seed("loader", seed, epoch)``."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
