"""A Ray to run on: the one that settings or environment name, or one of our own, here."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from cluster.security import connect


@contextmanager
def joined_ray(address: str | None, *, allow_unauthenticated: bool, cores: int) -> Iterator[bool]:
    """Joined to a Ray until the block ends.

    Args:
        address: of a cluster; None takes $RAY_ADDRESS, or starts a Ray here.
        allow_unauthenticated: even if it asks for no token.
        cores: that a Ray started here says it has.

    Yields:
        Whether it was started here.

    Raises:
        UserError: it cannot be joined, or asks for no token.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    # The driver prints a run's metrics itself; what ranks say is in the run folder's logs.
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address:
        connect(address, allow_unauthenticated=allow_unauthenticated, **quiet)
    else:
        os.environ.setdefault("RAY_worker_niceness", "0")  # else ranks yield to whatever else runs here (15)
        local: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False, **quiet}
        connect("local", allow_unauthenticated=allow_unauthenticated, **local)
    try:
        yield not address
    finally:
        ray.shutdown()


def process_environment(threads: int, *, gpus: int) -> dict[str, str]:
    """Variables of a process that computes: threads, pip's programs (ninja) on PATH, no GPU that was not asked for."""
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    return environment | ({} if gpus else {"CUDA_VISIBLE_DEVICES": ""})
