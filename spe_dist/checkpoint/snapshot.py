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

    Args:
        beside: a GPU that copies on a stream of its own, beside what it computes. The originals must then stay as they
            are until `wait_for_copies`. None: copies are there at once.
    """

    def __init__(self, *, beside: torch.device | None = None) -> None:
        self._device = beside
        self._stream = torch.cuda.Stream(beside) if beside is not None and beside.type == "cuda" else None
        self._copied: torch.cuda.Event | None = None
        self._buffers: dict[str, Tensor] = {}

    def copy(self, name: str, tensor: Tensor) -> Tensor:
        """A copy of a tensor in the buffer of that name; from a GPU it arrives later (see `copies_arrived`)."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[name] = buffer
        if self._stream is None or not tensor.is_cuda:
            return buffer.copy_(tensor.detach())
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            buffer.copy_(tensor.detach(), non_blocking=True)
        tensor.record_stream(self._stream)  # who lets go of it does not free it for others before it is copied
        return buffer

    def copies_arrived(self) -> torch.cuda.Event | None:
        """An event that follows all copies made so far; None if they are there already."""
        if self._stream is None:
            return None
        self._copied = torch.cuda.Event()
        self._copied.record(self._stream)
        return self._copied

    def wait_for_copies(self) -> None:
        """Let what the GPU is given from here on come after the copies, so that it may change the originals."""
        if self._copied is not None:
            torch.cuda.current_stream(self._device).wait_event(self._copied)
            self._copied = None
