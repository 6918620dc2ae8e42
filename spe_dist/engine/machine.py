"""This machine's cores and GPUs beside what a run asks for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from data_shards.counted import counted
from data_shards.errors import UserError
from spe_dist.config import ClusterConfig

_DEVICES = Path("/dev")
_GPU = re.compile(r"nvidia\d+")
_HIDDEN = ("", "-1")  # of CUDA_VISIBLE_DEVICES: somebody does not want them used


@dataclass(frozen=True)
class Machine:
    """What there is to compute with.

    Args:
        cores: cores of the processor.
        gpus: that torch can use.
        gpu_devices: that the system has; 0 where they are hidden on purpose.
    """

    cores: int
    gpus: int
    gpu_devices: int

    @classmethod
    def here(cls, devices: Path = _DEVICES) -> Machine:
        """This machine, as this process may use it."""
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in _HIDDEN
        found = [] if hidden or not devices.is_dir() else [one for one in devices.iterdir() if _GPU.fullmatch(one.name)]
        return cls(os.cpu_count() or 1, torch.cuda.device_count(), len(found))

    def require_gpus(self, cluster: ClusterConfig) -> None:
        """Check that there is a GPU for every worker of a run on this machine alone.

        Raises:
            UserError: there is not.
        """
        workers = cluster.min_workers or cluster.workers
        if cluster.gpus_per_worker * workers > self.gpus:
            raise UserError(
                f"{_many(workers, 'worker')} with a GPU each, but torch can use {_many(self.gpus, 'GPU')} of this "
                "machine: lower --cluster.workers, set --cluster.gpus-per-worker 0, or name a cluster that has them "
                "with --cluster.address"
            )

    def require_gpus_of_ranks(self, ranks: int) -> None:
        """Check that every rank that torchrun starts here has a GPU, or that all compute on the CPU.

        Raises:
            UserError: there are fewer GPUs than ranks.
        """
        if 0 < self.gpus < ranks:
            raise UserError(
                f"torchrun starts {ranks} ranks on a machine with {_many(self.gpus, 'GPU')}: "
                f"--nproc-per-node {self.gpus} gives each its own"
            )

    def crowded(self, cluster: ClusterConfig) -> str | None:
        """A line for people if a run on this machine alone has more workers than cores."""
        asked = cluster.workers * cluster.cpus_per_worker
        if asked <= self.cores:
            return None
        return (
            f"warning: {_many(cluster.workers, 'worker')} with {_many(cluster.cpus_per_worker, 'core')} each on a "
            f"machine with {_many(self.cores, 'core')}: they take turns, which is slower than --cluster.workers "
            f"{max(1, self.cores // cluster.cpus_per_worker)}"
        )

    def unused_gpus(self, used: int, setting: str = "") -> str | None:
        """A line for people if there are GPUs that a run does not use.

        Args:
            used: GPUs that it uses, of those that torch can use.
            setting: what makes it use all of them, if it does not.
        """
        if self.gpus > used:
            return f"note: the run uses {used or 'none'} of the {_many(self.gpus, 'GPU')} of this machine: {setting}"
        if self.gpu_devices and not self.gpus:
            return f"note: this machine has {_many(self.gpu_devices, 'GPU')}, but {_why_not()}"
        return None


def _why_not() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA: install a build with it to compute there"
    return (
        f"torch {torch.__version__} cannot use it: see whether nvidia-smi works, and whether the driver is new enough "
        f"for CUDA {torch.version.cuda}"
    )


def _many(count: int, what: str) -> str:
    return counted(count, what) if count else f"no {what}s"


def find_device(name: str | None) -> torch.device:
    """The device of a name; without one, a GPU if there is one.

    Raises:
        UserError: it is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # no such name; a torch without CUDA
        raise UserError(f"device {name!r} is not available here: {str(error).splitlines()[0]}") from error
    return device
