"""The states of every random number generator a rank uses, as byte tensors; no pickle."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from spe_dist.checkpoint.reader import LoadedCheckpoint
from spe_dist.engine.world import World

PREFIX = "rng."


def seed_random_generators(seed: int) -> None:
    """Start every generator anew; torch's on the GPU too."""
    torch.manual_seed(seed)
    np.random.seed(seed % (1 << 32))
    random.seed(seed)


def collect_random_states(world: World) -> dict[str, Tensor]:
    """This rank's states: `rng.<kind>.rank<k>`, each uint8."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    states = {
        "torch": torch.get_rng_state(),
        "numpy": _to_bytes((kind, np.asarray(keys).tolist(), *rest)),
        "python": _to_bytes(random.getstate()),
    }
    if world.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(world.device)
    return {_name(kind, world): state for kind, state in states.items()}


def restore_random_states(checkpoint: LoadedCheckpoint, world: World) -> None:
    """Set every generator that the checkpoint knows of; the world must have the size it had."""
    _restore(checkpoint.get, world, cuda=_name("cuda", world) in checkpoint.names())


@contextmanager
def unchanged_random_states(world: World) -> Iterator[None]:
    """Set every generator back to where it was, whatever the block has drawn."""
    states = collect_random_states(world)
    try:
        yield
    finally:
        _restore(states.__getitem__, world, cuda=True)


def _restore(get: Callable[[str], Tensor], world: World, *, cuda: bool) -> None:
    torch.set_rng_state(get(_name("torch", world)))
    kind, keys, position, has_gauss, gauss = _from_bytes(get(_name("numpy", world)))
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    version, internal, next_gauss = _from_bytes(get(_name("python", world)))
    random.setstate((version, tuple(internal), next_gauss))
    if world.device.type == "cuda" and cuda:
        torch.cuda.set_rng_state(get(_name("cuda", world)), world.device)


def _name(kind: str, world: World) -> str:
    return f"{PREFIX}{kind}.rank{world.rank}"


def _to_bytes(state: object) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)


def _from_bytes(tensor: Tensor) -> list:
    return json.loads(bytes(tensor.tolist()))
