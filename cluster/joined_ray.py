"""A Ray to run on: the one that settings or environment name, or one of our own, here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from cluster.security import connect
from data_shards.pipeline.ray_start import LOCAL
from data_shards.stop_requests import stopped_on_request

_STOPPED = "stopped on request before there was anything to save; the same command starts again"


@contextmanager
def joined_ray(address: str | None, *, allow_unauthenticated: bool, cores: int) -> Iterator[bool]:
    """Joined to a Ray until the block ends.

    Args:
        address: address of a cluster; None takes $RAY_ADDRESS, or starts a Ray here.
        allow_unauthenticated: even if it asks for no token.
        cores: that a Ray started here says it has.

    Yields:
        Whether it was started here.

    Raises:
        UserError: it cannot be joined, or asks for no token.
        Stopped: as asked, where the block does not do better.
    """
    address = address or os.environ.get("RAY_ADDRESS") or LOCAL
    with stopped_on_request(_STOPPED):
        if address != LOCAL:
            connect(address, allow_unauthenticated=allow_unauthenticated)
        else:
            os.environ.setdefault("RAY_worker_niceness", "0")  # else ranks yield to whatever else runs here (15)
            connect(LOCAL, allow_unauthenticated=allow_unauthenticated, num_cpus=cores, include_dashboard=False)
        try:
            with stopped_on_request(_STOPPED):  # once more: Ray has installed a handler of its own
                yield address == LOCAL
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
