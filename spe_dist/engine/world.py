"""Who am I among the ranks, and how do the ranks talk to each other."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from data_shards.errors import UserError

_FIRST_LINE_SECONDS, _NEXT_LINE_SECONDS = 15.0, 60.0  # of waiting for the other ranks


@dataclass(frozen=True)
class World:
    """This process among all that train together.

    Args:
        rank: number of this process, 0 … size - 1.
        size: number of processes.
        local_rank: number of this process on its machine; it picks the GPU.
        group: that the methods below talk through; None for the one that training uses.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    group: dist.ProcessGroup | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_environment(cls) -> World:
        """The world that torchrun or Ray Train describes in the environment; a world of one without them."""
        return cls(
            rank=int(os.environ.get("RANK", "0")),
            size=int(os.environ.get("WORLD_SIZE", "1")),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        )

    @property
    def device(self) -> torch.device:
        """The device this rank computes on."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    @property
    def backend(self) -> str:
        """The communication library for tensors on `device`."""
        return "nccl" if self.device.type == "cuda" else "gloo"

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and prints for all."""
        return self.rank == 0

    def with_own_group(self) -> World:
        """The same ranks with a gloo group of their own, for another thread than the one that trains.

        Every rank must call this.
        """
        return replace(self, group=dist.new_group(backend="gloo")) if self.size > 1 else self

    def with_host_group(self) -> World:
        """The same ranks with a group for tensors on the host, so that no rank waits for its GPU in a collective.

        Every rank must call this.
        """
        return self if self.backend == "gloo" else self.with_own_group()

    def all_reduce(self, tensor: Tensor, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
        """Reduce a tensor over all ranks, in place; every rank must call this."""
        if self.size > 1:
            dist.all_reduce(tensor, op=op, group=self.group)
        return tensor

    def all_gather_objects(self, item: Any) -> list[Any]:
        """The items of all ranks in rank order; every rank must call this."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item, group=self.group)
        return items

    def broadcast_object(self, item: Any) -> Any:
        """The item of rank 0, on every rank; every rank must call this."""
        if self.size == 1:
            return item
        items = [item]
        dist.broadcast_object_list(items, src=0, group=self.group)
        return items[0]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier(group=self.group)


def start_process_group(world: World) -> None:
    """Connect the ranks, unless a launcher has done so already (Ray Train does).

    Raises:
        UserError: several ranks, but nobody says where rank 0 listens; or torchrun cannot keep attempts apart, or has
            told the ranks no port.
    """
    # DeepSpeed reads these itself, and looks for MPI where one is missing.
    for key, value in (("RANK", world.rank), ("WORLD_SIZE", world.size), ("LOCAL_RANK", world.local_rank)):
        os.environ.setdefault(key, str(value))
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    if dist.is_initialized():
        return
    if world.size == 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", str(_free_port()))
    elif "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
        raise UserError(
            f"WORLD_SIZE is {world.size} but MASTER_ADDR or MASTER_PORT is not set: "
            "start the ranks with torchrun or Ray"
        )
    if os.environ["MASTER_PORT"] == "0":  # every rank would wait for a server that nobody starts
        raise UserError(
            "MASTER_PORT is 0, where no rank can find the others: give torchrun --standalone on one machine, or "
            "--rdzv-backend c10d --rdzv-endpoint HOST:PORT, instead of --master-port 0"
        )
    # A world of one must not bind a device: later groups are then split from it, and NCCL cannot split one rank.
    bind = world.device if world.device.type == "cuda" and world.size > 1 else None
    with _waiting_told(world):
        store = _store_of_this_attempt(world)
        dist.init_process_group(world.backend, store=store, rank=world.rank, world_size=world.size, device_id=bind)


@contextmanager
def _waiting_told(world: World) -> Iterator[None]:
    """Say what this rank waits for while the block lasts: torch itself says nothing before its time limit."""
    connected, address = threading.Event(), f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"

    def tell() -> None:
        seconds, pause = 0.0, _FIRST_LINE_SECONDS
        while not connected.wait(pause):
            seconds += pause
            # Not logged: the log of the run is not open yet, and this may be the last thing that happens.
            sys.stderr.write(
                f"rank {world.rank} has waited {seconds:.0f} s for all {world.size} ranks to connect at {address}: is "
                "every one started, with the same MASTER_ADDR and MASTER_PORT, and does it reach that address?\n"
            )
            pause = _NEXT_LINE_SECONDS

    threading.Thread(target=tell, name="waiting-for-ranks", daemon=True).start()
    try:
        yield
    finally:
        connected.set()


def _store_of_this_attempt(world: World) -> dist.Store | None:
    """Under torchrun, a part of its store where ranks of an earlier attempt have left nothing; else None.

    torchrun's store outlives the ranks, and the ranks that it starts again would read where the dead ones listened
    (pytorch issue 135712). Its count of restarts tells attempts apart, but every machine has a count of its own.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    several_machines = int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1
    if several_machines and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0:
        raise UserError(
            "torchrun on several machines with --max-restarts would mix up restarted ranks: "
            "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment of torchrun, on every machine"
        )
    store, _, _ = next(dist.rendezvous("env://", world.rank, world.size))
    return dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
