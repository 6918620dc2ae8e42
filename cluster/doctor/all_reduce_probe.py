"""One rank of an all-reduce between nodes, in a process of its own: what hangs can be killed.

`python -m cluster.doctor.all_reduce_probe` with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT set;
arguments: backend, time limit in seconds. Every line of standard output is a JSON object, the last one says most.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import timedelta
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

_SMALL, _LARGE = 8, {"gloo": 16 << 20, "nccl": 256 << 20}  # bytes
_SMALL_TIMES, _LARGE_TIMES = 20, 5


def main(backend: str, seconds: int) -> None:
    """Join the other ranks, sum, and say how fast it was."""
    signal.alarm(seconds + 10)  # ends even if whoever started this is gone
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if backend == "nccl" else torch.device("cpu")
    _say(phase="started")
    dist.init_process_group(backend, timeout=timedelta(seconds=seconds))
    _say(phase="met")
    size = dist.get_world_size()
    _check_sum(device, size)
    latency = _seconds_of(torch.zeros(_SMALL // 4, device=device), _SMALL_TIMES)
    payload = _LARGE[backend]
    large = _seconds_of(torch.zeros(payload // 4, device=device), _LARGE_TIMES)
    # What a ring sends and receives per rank, as nccl-tests count it.
    bandwidth = 2 * (size - 1) / size * payload / large
    _say(phase="done", latency_microseconds=latency * 1e6, megabytes_per_second=bandwidth / 1e6)
    dist.destroy_process_group()


def _check_sum(device: torch.device, size: int) -> None:
    total = torch.full((1000,), float(dist.get_rank() + 1), device=device)
    dist.all_reduce(total)
    if not torch.equal(total.cpu(), torch.full((1000,), size * (size + 1) / 2)):
        raise RuntimeError(f"the sum over {size} ranks is wrong: {total[0].item()}")


def _seconds_of(tensor: torch.Tensor, times: int) -> float:
    """Median of some all-reduces, after one that warms up."""
    measured = []
    for _ in range(times + 1):
        start = time.perf_counter()
        dist.all_reduce(tensor)
        if tensor.is_cuda:
            torch.cuda.synchronize(tensor.device)
        measured.append(time.perf_counter() - start)
    return median(measured[1:])


def _say(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
