"""The training state as it stands at a step, in host memory, while training goes on changing the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Snapshot:
    """One rank's share of a checkpoint that is still to be written.

    Args:
        tensors: whole tensors by name, on the host.
        metadata: what JSON can hold.
        copied: on CUDA, what happens on the device when the last copy has arrived; None if all are there.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    copied: torch.cuda.Event | None = None

    def wait(self) -> None:
        """Wait until every tensor may be read; for the thread that writes, so that training need not."""
        if self.copied is not None:
            self.copied.synchronize()


class HostBuffers:
    """Host memory for copies of tensors, taken once and used again by every snapshot; pinned for tensors of a GPU.

    Only one snapshot can live at a time: the next one overwrites it.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def copy(self, name: str, tensor: Tensor) -> Tensor:
        """A copy of a tensor in the buffer of that name; from a GPU it arrives later (see `copies_arrived`)."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[name] = buffer
        return buffer.copy_(tensor.detach(), non_blocking=True)

    def copies_arrived(self, device: torch.device) -> torch.cuda.Event | None:
        """An event that follows all copies made so far; what the device computes later comes after it."""
        if device.type != "cuda":
            return None
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(device))
        return arrived
