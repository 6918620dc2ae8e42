"""What a run asks of this machine, and what it leaves unused."""

import pytest
import torch

from data_shards.errors import UserError
from spe_dist.config import ClusterConfig
from spe_dist.engine.machine import Machine


def test_a_gpu_for_each_worker_is_asked_for_and_there_or_not():
    cluster = ClusterConfig(workers=4, gpus_per_worker=1)
    Machine(8, gpus=4, gpu_devices=4).require_gpus(cluster)
    with pytest.raises(UserError, match=r"4 workers with a GPU each, but torch can use 2 GPUs .*--cluster\.address"):
        Machine(8, gpus=2, gpu_devices=2).require_gpus(cluster)
    with pytest.raises(UserError, match="torch can use no GPUs of this machine"):
        Machine(8, gpus=0, gpu_devices=2).require_gpus(cluster)


def test_the_fewest_workers_are_enough_to_start():
    Machine(8, gpus=2, gpu_devices=2).require_gpus(ClusterConfig(workers=4, min_workers=2, gpus_per_worker=1))


def test_torchrun_cannot_start_more_ranks_than_gpus_but_for_the_cpu():
    Machine(8, gpus=0, gpu_devices=0).require_gpus_of_ranks(4)
    Machine(8, gpus=4, gpu_devices=4).require_gpus_of_ranks(4)
    with pytest.raises(UserError, match=r"torchrun starts 4 ranks on a machine with 1 GPU: --nproc-per-node 1"):
        Machine(8, gpus=1, gpu_devices=1).require_gpus_of_ranks(4)


def test_more_workers_than_cores_are_said():
    machine = Machine(4, gpus=0, gpu_devices=0)
    assert machine.crowded(ClusterConfig(workers=2, cpus_per_worker=2)) is None
    told = machine.crowded(ClusterConfig(workers=3, cpus_per_worker=2))
    assert "3 workers with 2 cores each on a machine with 4 cores" in told and "--cluster.workers 2" in told


@pytest.mark.parametrize(
    ("gpus", "devices", "used", "said"),
    [
        pytest.param(0, 0, 0, None, id="no GPU"),
        pytest.param(2, 2, 2, None, id="all used"),
        pytest.param(1, 1, 0, "the run uses none of the 1 GPU of this machine: SETTING", id="none used"),
        pytest.param(8, 8, 2, "the run uses 2 of the 8 GPUs of this machine: SETTING", id="some used"),
        pytest.param(0, 2, 0, f"this machine has 2 GPUs, but torch {torch.__version__}", id="torch cannot"),
    ],
)
def test_gpus_that_are_there_and_not_used_are_said_in_one_line(gpus, devices, used, said):
    line = Machine(8, gpus=gpus, gpu_devices=devices).unused_gpus(used, "SETTING")
    assert line is None if said is None else said in line and "\n" not in line


def test_gpus_are_counted_by_their_device_files_unless_somebody_hides_them(tmp_path, monkeypatch):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert Machine.here(tmp_path).gpu_devices == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Machine.here(tmp_path).gpu_devices == 0
