"""Everything a run needs to go on, in a form that no topology has touched.

Whole tensors by name: `<parameter>.master`, `.exp_avg`, `.exp_avg_sq`, and the caller's own (`key_encoder.*`,
`queue.*`). What 8 ranks at stage 3 wrote, 1 rank at stage 1 reads, and the other way round. Only the states of the
random number generators belong to a rank; they come back if the world has the size it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from data_shards.errors import UserError
from spe_dist.checkpoint.random_states import PREFIX as RANDOM_STATES
from spe_dist.checkpoint.random_states import collect_random_states, restore_random_states
from spe_dist.checkpoint.reader import LoadedCheckpoint
from spe_dist.checkpoint.snapshot import HostBuffers, Snapshot
from spe_dist.engine.tensor_owners import assign_to_ranks
from spe_dist.engine.world import World
from spe_dist.versions import package_versions

if TYPE_CHECKING:
    from spe_dist.engine.deepspeed_engine import Engine

_ENTRIES = {"step", "adam_step", "weight_decays", "elapsed_seconds", "world_size"}


@dataclass(frozen=True)
class Restored:
    """What came back besides tensors.

    Args:
        step: updates made before the checkpoint, so the number of the next one.
        elapsed_seconds: seconds of training before the checkpoint.
        random_states: whether the generators go on where they were; if not, dropout differs from the first run.
    """

    step: int
    elapsed_seconds: float
    random_states: bool


def collect(
    engine: Engine,
    extra_tensors: Mapping[str, Tensor],
    *,
    step: int,
    elapsed_seconds: float,
    config: Mapping[str, Any],
    buffers: HostBuffers,
) -> Snapshot:
    """A copy of this rank's share of the training state; every rank must call this.

    Args:
        engine: holds parameters and moments.
        extra_tensors: whole and equal on all ranks; each is written by one.
        step: updates made so far; the place in the learning rate's schedule.
        elapsed_seconds: seconds of training so far.
        config: the resolved configuration; JSON.
        buffers: where the copies go.

    Raises:
        UserError: a tensor that must be equal on all ranks is not.
    """
    world = engine.world
    _require_equal_on_all_ranks(extra_tensors, world)
    tensors = dict(engine.read_state(buffers.copy))
    owners = assign_to_ranks({name: tensor.nbytes for name, tensor in extra_tensors.items()}, world.size)
    tensors |= {
        name: buffers.copy(name, tensor) for name, tensor in extra_tensors.items() if owners[name] == world.rank
    }
    tensors |= collect_random_states(world)
    metadata = {
        "step": step,
        "adam_step": engine.adam_step,
        "weight_decays": engine.weight_decays,
        "elapsed_seconds": elapsed_seconds,
        "world_size": world.size,
        "config": dict(config),
        "versions": package_versions(),
    }
    return Snapshot(tensors, metadata, buffers.copies_arrived())


def restore(engine: Engine, checkpoint: LoadedCheckpoint, extra_tensors: Mapping[str, Tensor]) -> Restored:
    """Put a checkpoint's state into a running system.

    Comes after `load_masters_into(module, checkpoint.get)`, building the engine, and `initialise_optimizer`.

    Args:
        engine: gets master weights, moments and Adam's step.
        checkpoint: what to restore.
        extra_tensors: overwritten in place.

    Raises:
        UserError: the checkpoint lacks a tensor, holds one that has no place here, or has one of another shape; or a
            parameter decays otherwise here.
    """
    missing = _ENTRIES - set(checkpoint.metadata)
    if missing:
        raise UserError(
            f"the state of {checkpoint.folder} lacks {', '.join(sorted(missing))}: it was not written by this program; "
            "restore it from a backup"
        )
    _check_names(engine, checkpoint, extra_tensors)
    _check_weight_decays(engine, checkpoint)
    engine.write_state(checkpoint.get, checkpoint.metadata["adam_step"])
    for name, target in extra_tensors.items():
        _copy(checkpoint, name, target)
    same_world = checkpoint.metadata["world_size"] == engine.world.size
    if same_world:
        restore_random_states(checkpoint, engine.world)
    return Restored(checkpoint.metadata["step"], checkpoint.metadata["elapsed_seconds"], same_world)


def _require_equal_on_all_ranks(tensors: Mapping[str, Tensor], world: World) -> None:
    """One rank writes each of these for all: had they drifted apart, the others' would be lost without a word."""
    if world.size == 1 or not tensors:
        return
    sums = torch.stack([_checksum(tensor).to(world.device) for tensor in tensors.values()])
    largest, smallest = (world.all_reduce(sums.clone(), op) for op in (dist.ReduceOp.MAX, dist.ReduceOp.MIN))
    if not torch.equal(largest, smallest):
        names = [name for name, same in zip(tensors, (largest == smallest).tolist(), strict=True) if not same]
        raise UserError(
            f"ranks hold different values of {', '.join(names[:3])}, which must be equal on all: different machines or "
            "versions of torch, or a faulty device or network; nothing was saved: resume from the last "
            "checkpoint on machines of one kind"
        )


def _checksum(tensor: Tensor) -> Tensor:
    """A number that changes with any bit of a tensor and with the order of its rows; int64, it wraps around."""
    rows = tensor.detach().reshape(len(tensor) if tensor.dim() else 1, -1)
    bits = rows.view(torch.int32) if rows.is_floating_point() else rows
    sums = torch.cat([part.sum(dim=1, dtype=torch.int64) for part in bits.split(4096)])  # each part is copied to int64
    return (sums * torch.arange(1, 2 * len(sums), 2, device=sums.device)).sum()


def _check_weight_decays(engine: Engine, checkpoint: LoadedCheckpoint) -> None:
    saved, here = checkpoint.metadata["weight_decays"], engine.weight_decays
    changed = [name for name in sorted(here) if saved.get(name) != here[name]]
    if changed:
        raise UserError(
            f"the weight decay of {changed[0]} is {saved.get(changed[0])} in {checkpoint.folder} and "
            f"{here[changed[0]]} here: resume with the configuration of the run that wrote it"
        )


def _copy(checkpoint: LoadedCheckpoint, name: str, target: Tensor) -> None:
    saved = checkpoint.get(name)
    if saved.shape != target.shape:
        raise UserError(
            f"{name} has shape {tuple(saved.shape)} in {checkpoint.folder} and {tuple(target.shape)} here: "
            "resume with the configuration of the run that wrote it"
        )
    with torch.no_grad():
        target.copy_(saved)


def _check_names(engine: Engine, checkpoint: LoadedCheckpoint, extra_tensors: Mapping[str, Tensor]) -> None:
    wanted = engine.state_names | set(extra_tensors)
    held = {name for name in checkpoint.names() if not name.startswith(RANDOM_STATES)}
    if wanted != held:
        parts = [_first_few("lacks", wanted - held), _first_few("holds, without a place here,", held - wanted)]
        raise UserError(
            f"the checkpoint {checkpoint.folder} {' and '.join(part for part in parts if part)}: "
            "resume with the configuration of the run that wrote it"
        )


def _first_few(verb: str, names: set[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{verb} {', '.join(sorted(names)[:3])}{more}"
