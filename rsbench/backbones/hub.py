"""Files of the Hugging Face hub: on disk already, or downloaded. Imports no torch."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request
from pathlib import Path

from rsbench.backbones.card import HubFile
from rsbench.errors import WeightsError

LITE = "use --backbone lite, whose weights need no download"
"""What always works without a network."""
LOCAL = "a local file with --weights FILE"
"""What most backbones take instead."""


def on_disk(file: HubFile) -> Path | None:
    """The file in the hub's cache (``HF_HOME``), or None."""
    from huggingface_hub import try_to_load_from_cache

    for name in file.names:
        found = try_to_load_from_cache(file.repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def fetch(file: HubFile, what: str, local: str = LOCAL) -> Path:
    """The file in the hub's cache, downloaded where it is not there.

    Args:
        file: repository and names.
        what: whose weights they are, for messages.
        local: what may be given instead.

    Raises:
        WeightsError: it cannot be had; the message tells the ways out.
    """
    found = on_disk(file)
    if found is not None:
        return found
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _absent(file, what, "and HF_HUB_OFFLINE is set", local)
    if not reachable(constants.ENDPOINT):
        raise _absent(file, what, "and there is no network", local)
    return _download(file, what, local)


def reachable(address: str) -> bool:
    """Whether a download can be tried; the libraries' own retries would keep an offline user waiting for a minute."""
    if urllib.request.getproxies():
        return True
    parts = urllib.parse.urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=5):
            return True
    except OSError:
        return False


def ways_out(file: HubFile, local: str = LOCAL) -> str:
    """What a user without a network can do."""
    return (
        f"give {local}, or fill the hub's cache (HF_HOME) where there is a network: "
        f"hf download {file.repository} {file.names[0]}; or {LITE}"
    )


def _download(file: HubFile, what: str, local: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for name in file.names:
        try:
            return Path(hf_hub_download(file.repository, name))
        except EntryNotFoundError:
            continue
        except Exception as error:
            raise _absent(file, what, f"and their download failed ({type(error).__name__})", local) from error
    raise _absent(file, what, "and the hub has no such file", local)


def _absent(file: HubFile, what: str, why: str, local: str) -> WeightsError:
    return WeightsError(f"weights of {what} are not on disk {why}; {ways_out(file, local)}")
