"""Files of dataset repositories on the Hugging Face hub, through its own client."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from rsbench.data.card import Asset
from rsbench.errors import DownloadError
from rsbench.progress import Progress


def fetch_hub(asset: Asset, folder: Path, progress: Progress) -> Path:
    """Fetch a hub file, going on where an earlier attempt stopped.

    Args:
        asset: with ``hub``; ``HF_ENDPOINT`` names a mirror.
        folder: where the client keeps the file and its notes.
        progress: called per block with bytes.

    Raises:
        DownloadError: no such repository or file, a login is needed, or the connection failed.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = hf_hub_download(
            asset.hub,
            asset.filename,
            repo_type="dataset",
            local_dir=folder,
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            tqdm_class=_bar(asset.filename, progress),
        )
    except GatedRepoError as error:
        page = f"https://huggingface.co/datasets/{asset.hub}"
        raise DownloadError(f"{asset.url}: wants a login; accept its terms at {page}, then: hf auth login") from error
    except LocalEntryNotFoundError as error:
        raise DownloadError(f"{asset.url}: cannot be fetched, the hub does not answer") from error
    except (HfHubHTTPError, OSError) as error:
        raise DownloadError(f"{asset.url}: cannot be fetched ({_first_line(error)})") from error
    return Path(found)


def _bar(filename: str, progress: Progress) -> Any:
    """A bar class of the client that draws nothing and reports instead, also where the client's bars are off."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})  # type: ignore[no-untyped-call]
            self.done = int(kwargs.get("initial", 0))  # a bar that is switched off does not count

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            self.done += int(n or 0)
            progress(f"downloading {filename}", self.done, int(self.total or self.done + 1))
            return shown

    return Bar


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
