"""What the processes of a service must know; it reaches them in a variable of their environment."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from json import dumps
from math import ceil
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

_VARIABLE = "SPE_SERVICE"


@dataclass(frozen=True)
class Limits:
    """How much a request may ask for.

    Args:
        texts: texts of a request.
        characters: characters of a text.
        body_bytes: bytes of a request.
        seconds: until a request must have come, and until its answer must be there.
        requests: at a time, of all clients.
    """

    texts: int = 256
    characters: int = 50_000
    body_bytes: int = 4 << 20
    seconds: float = 60.0
    requests: int = 1024


@dataclass(frozen=True)
class Batching:
    """How texts of several requests are read together.

    Args:
        texts: texts of a batch, at most, unless a request alone has more.
        wait_seconds: that a request waits for others.
        at_once: batches of a model that are computed at the same time.
        queue: requests that wait for a model, at most.
    """

    texts: int = 32
    wait_seconds: float = 0.002
    at_once: int = 1
    queue: int = 200


@dataclass(frozen=True)
class ServiceSettings:
    """A service.

    Args:
        models: their names; the first answers if a request names none.
        token_sha256: SHA-256 of the token that requests must bring; empty if they need none.
        limits: limits of requests.
        batching: batching of each model.
        folder: folder of the service itself; see `stopping`.
        metrics_port: where Ray publishes the metrics of this machine.
    """

    models: tuple[str, ...]
    token_sha256: str
    limits: Limits
    batching: Batching
    folder: str
    metrics_port: int

    @property
    def stopping(self) -> Path:
        """A file that is there once no more requests shall be taken."""
        return Path(self.folder, "stopping")

    def environment(self) -> dict[str, str]:
        """The variable to set before the processes are started."""
        return {_VARIABLE: dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> ServiceSettings:
        """What was set there."""
        return TypeAdapter(cls).validate_json(os.environ[_VARIABLE])


@dataclass(frozen=True)
class ReplicaSettings:
    """How a process computes.

    Args:
        device: "cpu" or "cuda"; None takes GPUs if there are any.
        precision: "fp32", "bf16" or None for the device's default.
        threads: threads of a batch, on a CPU.
        batch_texts: texts of a batch, at most.
    """

    device: str | None
    precision: Literal["bf16", "fp32"] | None
    threads: int
    batch_texts: int


def gpu_share(gpus: int, replicas: int) -> float:
    """Part of a GPU for each replica, in whole thousandths: all find room, each on one GPU; 0 without GPUs."""
    return 1000 // ceil(replicas / gpus) / 1000 if gpus else 0.0
