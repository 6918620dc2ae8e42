"""A run's curves for TensorBoard, equal to its metrics whatever clock a start has and however the last one ended."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from torch.utils.tensorboard.summary import text

from spe_dist.train.line_files import AppendedFile

_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\..*")


class Curves:
    """A file of events. TensorBoard's own writer names it by the clock alone and keeps two minutes of points in memory.

    Args:
        folder: folder of all starts of a run, made if missing.
        first_step: the number of steps already made; points of later ones, by earlier starts, are void.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = AppendedFile(folder / _name_after(folder))
        writer = SourceMetadata(writer="spe_dist")
        self._write(Event(file_version="brain.Event:2", source_metadata=writer))
        self._write(Event(step=first_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, points: Mapping[str, float]) -> None:
        """Add a point to each of several curves."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in points.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def add_text(self, name: str, markdown: str) -> None:
        """Show a text beside the curves."""
        self._write(Event(summary=text(name, markdown)))

    def close(self) -> None:
        """Write what a full disk has not taken so far."""
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        self._file.append(length + _checksum(length) + data + _checksum(data))


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))


def _name_after(folder: Path) -> str:
    """TensorBoard reads files in the order of their names: a later start needs a later name, even if its clock lags."""
    stamps = [int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    stamp = max([int(time.time()), *(earlier + 1 for earlier in stamps)])
    return f"events.out.tfevents.{stamp:010d}.{socket.gethostname()}.{os.getpid()}"
