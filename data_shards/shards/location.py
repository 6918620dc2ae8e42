"""Where a dataset lies: a folder, or a URL that `pyarrow.fs` (s3, gs, abfs, hdfs, file) or `webdataset.gopen` opens."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from data_shards.errors import UserError

_OF_ARROW = {"s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file"}  # schemes of `pyarrow.fs`
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


def without_secrets(url: str) -> str:
    """A URL for people: it may carry keys before an @ or behind a question mark."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def user_cache() -> Path:
    """Where this program keeps what it can fetch or make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spe_dist"


def read_remote(location: str, name: str) -> bytes:
    """The whole content of one file of a remote dataset.

    Raises:
        UserError: it cannot be fetched.
    """
    url = join_url(location, name)
    try:
        return _read_by_arrow(url) if urlsplit(url).scheme.lower() in _OF_ARROW else _read_by_webdataset(url)
    except Exception as error:  # of one of many clients, each with errors of its own
        reason = (str(error).split("\n", maxsplit=1)[0] or type(error).__name__).replace(url, without_secrets(url))
        raise UserError(
            f"{without_secrets(url)} could not be fetched ({reason[:200]}): is the location right and reachable?"
        ) from error


def _read_by_arrow(url: str) -> bytes:
    from pyarrow import fs

    files, path = fs.FileSystem.from_uri(url)
    with files.open_input_stream(path, compression=None) as stream:
        return bytes(stream.read())


def _read_by_webdataset(url: str) -> bytes:
    from webdataset import gopen  # costs a second to import; local folders do not need it

    with gopen(url, "rb") as stream:
        return bytes(stream.read())
