"""Files that are on the disk when a function returns, and names for what can go wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from data_shards.files import sync

_FULL = {"ENOSPC": "No space left on device", "EDQUOT": "Disk quota exceeded"}


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file, as readable as other files are, and wait until it is on the disk."""
    path.touch()
    mode = path.stat().st_mode  # by umask; the library makes files of their owner alone
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    with suppress(OSError):  # a file system without modes
        path.chmod(mode)
    sync(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file and wait until it is on the disk."""
    path.write_text(text, encoding="utf-8")
    sync(path)


def failure_of(action: Callable[[], object], folder: object, doing: str = "write a checkpoint to") -> str | None:
    """Run something that reads or writes `folder`; a failure becomes one line, so that ranks can tell each other."""
    try:
        action()
    except (OSError, SafetensorError) as error:
        # By text, because the safetensors library wraps the number in an exception of its own.
        full = next((name for name, text in _FULL.items() if text in str(error)), None)
        if full:
            return (
                f"the disk of {folder} is full ({full}): free some space, or keep fewer checkpoints "
                "(train.keep_last, train.keep_every), and resume"
            )
        return f"cannot {doing} {folder}: {error}"
    return None
