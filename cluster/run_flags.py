"""What a command and its ranks or tasks tell each other, through Ray's own store.

Notes lie under the command's Ray job: a second command on the same folder is another job, and neither reads the notes
of the other.
"""

from __future__ import annotations

from enum import Enum

import ray
from ray.experimental import internal_kv


class RunFlag(Enum):
    """Messages between a command and its ranks and tasks."""

    BEGUN = "ranks have made a step, or a seed has begun"
    STOP = "save and end"


def set_flag(flag: RunFlag) -> None:
    """Set a flag for the command, or for its ranks and tasks."""
    internal_kv._internal_kv_put(_key(flag), b"")


def is_set(flag: RunFlag) -> bool:
    """Whether it was left by any process of this command."""
    return bool(internal_kv._internal_kv_exists(_key(flag)))


def _key(flag: RunFlag) -> bytes:
    return f"spe_dist/{ray.get_runtime_context().get_job_id()}/{flag.name}".encode()
