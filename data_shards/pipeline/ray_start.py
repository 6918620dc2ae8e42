"""Start a Ray here or join one; what keeps it from that is one line, and Ray itself says nothing."""

from __future__ import annotations

import logging
import os
import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_shards.errors import UserError

LOCAL = "local"
_SESSION = len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1")
_SOCKET_PATH = 107  # characters that a socket's path may have
_SHORT_FOLDER = "/tmp"


def init_ray(address: str, **settings: Any) -> None:
    """`ray.init`, quietly.

    Args:
        address: address of a cluster, as `ray.init` takes it; `LOCAL` starts a Ray here.
        settings: for `ray.init`.

    Raises:
        UserError: no Ray can be started here, or the cluster cannot be joined.
    """
    _check_address(address)
    warnings.filterwarnings("ignore", module=r"ray\b")  # advice to whoever writes Ray programs
    if address == LOCAL:
        _choose_temporary_folder()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning about a coming change
    import ray

    try:
        with _terminal_kept_from_children():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except Exception as error:
        reason = _explain(error, address)
        if reason is None:
            raise
        ray.shutdown()
        raise UserError(reason) from error


def _check_address(address: str) -> None:
    scheme, separator, _ = address.partition("://")
    if separator:
        what = "Ray's dashboard" if scheme in ("http", "https") else f"another service of Ray ({scheme}://)"
        submit = (
            f", or submit this command: ray job submit --address {address} -- …" if scheme.startswith("http") else ""
        )
        raise UserError(
            f"the Ray address {address} is that of {what}: give that of the head itself, HOST:PORT as `ray start "
            f"--head` prints it (the port is 6379 unless it was chosen), in RAY_ADDRESS or --cluster.address{submit}"
        )


def _choose_temporary_folder() -> None:
    """Ray keeps its sockets in $RAY_TMPDIR or $TMPDIR, and those of batch jobs are often too long for that."""
    length = len(os.fsencode(_temporary_folder()))
    if length + _SESSION <= _SOCKET_PATH:
        return
    chosen = "RAY_TMPDIR" in os.environ
    if chosen or not os.access(_SHORT_FOLDER, os.W_OK):
        raise UserError(
            f"{'RAY_TMPDIR' if chosen else 'TMPDIR'} is too long for Ray's sockets ({length} characters; "
            f"{_SOCKET_PATH - _SESSION} are possible): set RAY_TMPDIR to a folder with a shorter path"
        )
    os.environ["RAY_TMPDIR"] = _SHORT_FOLDER


def _temporary_folder() -> str:
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or _SHORT_FOLDER


@contextmanager
def _terminal_kept_from_children() -> Iterator[None]:
    """Keep a hangup from the processes of a Ray that is started here: they would end before the ranks have saved.

    They are in the terminal's process group; Ray itself keeps Ctrl-C from them in the same way.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _explain(error: Exception, address: str) -> str | None:
    """One line that says why Ray did not start or could not be joined; None if the reason is unknown."""
    text = str(error).strip()
    if address == LOCAL:
        return _explain_start(error, text)
    return _explain_joining(error, text, address)


def _explain_start(error: Exception, text: str) -> str | None:
    if "home directory" in text:  # a user without a name, as in containers
        return "Ray keeps its token in the home folder, and this user has none: set HOME to a folder that you can write"
    if isinstance(error, OSError) and error.filename:
        name = "HOME" if Path(error.filename).is_relative_to(Path.home()) else "RAY_TMPDIR"
        return f"Ray cannot write {error.filename} ({error.strerror}): set {name} to a folder that you can write"
    if type(error) is Exception:  # Ray has no class for a node that does not come up
        return (
            f"Ray did not start on this machine in time ({text.partition('.')[0]}): is the machine busy with "
            f"something else? Its logs are in {_temporary_folder()}/ray/session_latest/logs"
        )
    return None


def _explain_joining(error: Exception, text: str, address: str) -> str | None:
    import ray.exceptions

    if isinstance(error, RuntimeError) and text.startswith("Version mismatch"):
        (there, here), (python_there, python_here) = (
            re.findall(rf"{name}: (\S+)", text) for name in ("Ray", "Python")
        )  # fmt: skip
        return (
            f"the Ray cluster at {address} runs Ray {there} on Python {python_there}, here are Ray {here} and Python "
            f"{python_here}: use the same versions on both sides"
        )
    if isinstance(error, (ConnectionError, ValueError, ray.exceptions.AuthenticationError)):
        return f"cannot join the Ray cluster at {address}: {text.splitlines()[0] if text else type(error).__name__}"
    return None
