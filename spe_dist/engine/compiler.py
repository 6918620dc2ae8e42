"""On CPU, DeepSpeed compiles a communication operation when it starts: look for the tools before it dies of it."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from data_shards.errors import UserError

LOGGER = logging.getLogger(__name__)


def require_compiler() -> None:
    """Check that a C++ compiler and ninja can be found.

    Raises:
        UserError: one of them is missing; says what to install.
    """
    named = os.environ.get("CXX")
    if not any(shutil.which(program) for program in ([named.split()[0]] if named else ["g++", "c++"])):
        where = f"CXX names {named}, which is not there" if named else "neither g++ nor c++ is on PATH"
        raise UserError(
            f"DeepSpeed on CPU needs a C++ compiler, but {where}: install one (for example `apt-get install g++`)"
        )
    if shutil.which("ninja") is None:
        raise UserError(
            "DeepSpeed on CPU needs ninja, but it is not on PATH: `pip install ninja` and put the environment's bin "
            "folder on PATH (activating the environment does)"
        )


def extension_folder(name: str) -> Path:
    """Where torch builds an extension: below $TORCH_EXTENSIONS_DIR, which is set to a folder of ours if it is not.

    Each environment has its own: the paths of its headers are in the build, so two would make each other build anew.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spe_dist" / "torch_extensions"
    environment = hashlib.sha256(sys.prefix.encode()).hexdigest()[:8]
    ours = cache / f"torch-{torch.__version__}-{environment}"
    return Path(os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(ours))) / name


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Let one process of those that share the folder build or load an extension.

    torch does so by a file `lock`, which a process that is killed leaves behind: all later ones would wait for ever.
    The system's lock goes with its process; who has it knows that nobody else of ours is in there.

    Args:
        name: name of the extension.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = extension_folder(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder.with_name(f".{name}.lock").open("a")
    except OSError as error:
        raise UserError(
            f"cannot write {folder} ({error.strerror}), where what torch compiles is kept: set HOME, or "
            "TORCH_EXTENSIONS_DIR, to a folder that you can write"
        ) from error
    with file:
        with suppress(OSError):  # a file system without locks, as homes on a network may be
            fcntl.flock(file, fcntl.LOCK_EX)
        stale = folder / "lock"
        if stale.exists():
            LOGGER.warning("removed %s, left by a killed process", stale)
            stale.unlink(missing_ok=True)
        if not next(folder.glob("*.so"), None):
            LOGGER.info("compiling %s of DeepSpeed, once for this environment: a minute or more", name)
        yield
