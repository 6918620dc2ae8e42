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
from torch import Tensor

from data_shards.errors import UserError
from spe_dist.checkpoint.loaded import LoadedCheckpoint
from spe_dist.checkpoint.random_states import PREFIX as RANDOM_STATES
from spe_dist.checkpoint.random_states import collect_random_states, restore_random_states
from spe_dist.engine.assignment import assign_to_ranks
from spe_dist.versions import package_versions

if TYPE_CHECKING:
    from spe_dist.engine.deepspeed_engine import Engine


@dataclass(frozen=True)
class Restored:
    """What came back besides tensors.

    Args:
        step: updates made before the checkpoint, so the number of the next one.
        random_states: whether the generators go on where they were; if not, dropout differs from the first run.
    """

    step: int
    random_states: bool


def collect(
    engine: Engine,
    extra_tensors: Mapping[str, Tensor],
    *,
    step: int,
    config: Mapping[str, Any],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """This rank's share of the training state, ready for `CheckpointStore.save`; every rank must call this.

    Args:
        engine: holds parameters and moments.
        extra_tensors: whole and equal on all ranks; each is written by one.
        step: updates made so far.
        config: the resolved configuration; JSON.

    Returns:
        Tensors, and the metadata that rank 0 writes.
    """
    world = engine.world
    tensors = dict(engine.read_state())
    owners = assign_to_ranks({name: tensor.nbytes for name, tensor in extra_tensors.items()}, world.size)
    # Copied, because an asynchronous device may still be changing them and a view would drag its whole storage along.
    tensors |= {
        name: tensor.detach().to("cpu", copy=True)
        for name, tensor in extra_tensors.items()
        if owners[name] == world.rank
    }
    tensors |= collect_random_states(world)
    metadata = {
        "step": step,
        "adam_step": engine.adam_step,
        "world_size": world.size,
        "config": dict(config),
        "versions": package_versions(),
    }
    return tensors, metadata


def restore(engine: Engine, checkpoint: LoadedCheckpoint, extra_tensors: Mapping[str, Tensor]) -> Restored:
    """Put a checkpoint's state into a running system.

    Comes after `load_masters_into(module, checkpoint.get)`, building the engine, and `initialise_optimizer`.

    Args:
        engine: gets master weights, moments and Adam's step.
        checkpoint: what to restore.
        extra_tensors: overwritten in place.

    Raises:
        UserError: the checkpoint lacks a tensor, holds one that has no place here, or has one of another shape.
    """
    _check_names(engine, checkpoint, extra_tensors)
    engine.write_state(checkpoint.get, checkpoint.metadata["adam_step"])
    for name, target in extra_tensors.items():
        _copy(checkpoint, name, target)
    same_world = checkpoint.metadata["world_size"] == engine.world.size
    if same_world:
        restore_random_states(checkpoint, engine.world)
    return Restored(checkpoint.metadata["step"], same_world)


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
