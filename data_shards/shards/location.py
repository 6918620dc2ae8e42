"""Where a dataset lies: a folder, or a URL that `webdataset.gopen` opens."""

from __future__ import annotations

import os
import re
from pathlib import Path

from data_shards.errors import UserError

_URL = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*)://")


def is_remote(location: str | Path) -> bool:
    """Whether a location is a URL rather than a folder.

    Raises:
        UserError: `pipe:` locations would run a command.
    """
    text = str(location)
    if text.startswith("pipe:"):
        raise UserError(f"{text}: pipe: locations run commands and are not read; copy the shards to a folder instead")
    return bool(_URL.match(text))


def join_url(url: str, name: str) -> str:
    """The URL of something in a folder; options behind a question mark stay behind."""
    folder, question, options = url.partition("?")
    return f"{folder.rstrip('/')}/{name}{question}{options}"


def user_cache() -> Path:
    """Where this program keeps what it can fetch or make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spe_dist"


def read_remote(location: str, name: str) -> bytes:
    """The whole content of one file of a remote dataset.

    Raises:
        UserError: it cannot be fetched.
    """
    from webdataset import gopen  # costs a second to import; local folders do not need it

    url = f"{location.rstrip('/')}/{name}"
    try:
        with gopen(url, "rb") as stream:
            return stream.read()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{url} could not be fetched ({_first_line(error)}): is the location right and reachable?"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0][:200] or type(error).__name__
