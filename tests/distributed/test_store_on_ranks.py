"""Checkpoints that several ranks write: all of them succeed, or all of them say why not."""

import subprocess

import pytest
import torch

from data_shards.errors import UserError
from spe_dist.checkpoint.reader import list_checkpoints
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World
from tests.distributed.ranks import run_ranks

pytestmark = pytest.mark.distributed


def open_store(folder):
    return CheckpointStore(folder, keep_last=2, keep_every=0, world=World.from_environment())


def share(rank, size=10):
    return {f"weight.{rank}": torch.full((size,), float(rank))}


def save_and_load(folder):
    world = World.from_environment()
    store = open_store(folder)
    for step in (1, 2, 3):
        store.save(step, share(world.rank) if world.rank != 1 else {}, {"step": step, "written by": world.rank})
    loaded = store.latest()
    return loaded.step, sorted(loaded.names()), loaded.metadata, float(loaded.get("weight.0")[0])


def test_every_rank_reads_what_all_wrote_even_if_one_had_nothing_to_write(tmp_path):
    results = run_ranks(save_and_load, 3, tmp_path / "run", timeout=60)
    assert results == [(3, ["weight.0", "weight.2"], {"step": 3, "written by": 0}, 0.0)] * 3
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["step-000000002", "step-000000003"]


def choose(folder):
    world = World.from_environment()
    store = open_store(folder)
    for step in (1, 2):
        store.save(step, share(world.rank), {})
    if world.is_first:
        next((folder / "step-000000002").glob("rank-00001-*")).unlink()
    loaded = store.latest()
    return loaded.step, [(skipped.name, skipped.reason) for skipped in loaded.skipped]


def test_all_ranks_fall_back_to_the_same_checkpoint(tmp_path):
    reason = "rank-00001-of-00002.safetensors is missing"
    assert run_ranks(choose, 2, tmp_path / "run", timeout=60) == [(1, [("step-000000002", reason)])] * 2


def folders_that_are_not_shared(folder):
    world = World.from_environment()
    with pytest.raises(UserError) as error:
        open_store(folder / f"machine-{world.rank}").save(1, share(world.rank), {})
    return str(error.value)


def test_folders_that_are_not_shared_are_found_out(tmp_path):
    for message in run_ranks(folders_that_are_not_shared, 2, tmp_path, timeout=60):
        assert "rank 0 does not see rank-00001-of-00002.safetensors; all machines must share this folder" in message


def fill_the_disk(folder):
    world = World.from_environment()
    store = open_store(folder)
    store.save(1, share(world.rank), {})
    with pytest.raises(UserError) as error:
        store.save(2, share(world.rank, size=10 if world.is_first else 200_000), {})
    world.barrier()
    names = [path.name for path in folder.iterdir()]
    world.barrier()
    store.save(3, share(world.rank), {})  # goes on once there is space
    return str(error.value), names, store.latest().step


def test_one_rank_with_a_full_disk_stops_all_and_leaves_the_older_checkpoint(tmp_path):
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True)
    if mount.returncode:
        pytest.skip(f"cannot mount a small file system here (needs root): {mount.stderr.decode().strip()}")
    try:
        for message, names, step in run_ranks(fill_the_disk, 2, tmp_path / "run", timeout=60):
            assert "is full (ENOSPC): free some space" in message
            assert names == ["step-000000001"]
            assert step == 3
    finally:
        subprocess.run(["umount", tmp_path], check=True)
