"""What a run tells: `metrics.jsonl`, TensorBoard and a line for people, all of the same numbers."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from spe_dist.train.run_folder import METRICS, TENSORBOARD

LOGGER = logging.getLogger(__name__)
_CURVES_WAIT = 60.0  # seconds, after curves could not be written

# What a machine made of a step, not what the step came to.
OF_THE_MACHINE = frozenset(
    (
        "records_per_second",
        "pieces_per_second",
        "seconds_per_step",
        "model_tflops_per_second",
        "mfu",
        "padding_saved",  # of the forwards, which are the machine's: lanes_per_forward and ranks change no result
        "waiting_share",
        "saving_share",
        "saved_step",  # at the time of writing, which a thread is doing
        "failed_saves",
        "memory_gib",
        "elapsed_seconds",
    )
)


class RunLog:
    """Writes the metrics of a run, from a step on: what a later step had written is cut off.

    A disk that is full, or cannot be written for a while, ends no run: lines wait in memory for the next one, while the
    curves, which the lines can be drawn from again, lack what could not be written.

    Args:
        folder: of the run.
        first_step: the number of steps already made.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        self._folder = folder
        with explain_write_errors(folder):
            _truncate(folder / METRICS, first_step)
            self._file = (folder / METRICS).open("ab", buffering=0)
            self._board: SummaryWriter | None = self._open_board(first_step)
        self._unwritten = b""
        self._board_not_before = 0.0

    def write(self, metrics: Mapping[str, float | int | str | None]) -> None:
        """Write one line; `step` counts finished steps."""
        self._unwritten += json.dumps(metrics).encode() + b"\n"
        self._write_lines()
        self.draw(int(metrics["step"] or 0), metrics)
        LOGGER.info(format_metrics(metrics))

    def draw(self, step: int, metrics: Mapping[str, float | int | str | None]) -> None:
        """Add points to the curves in TensorBoard alone; `write` does it too."""
        if self._board is None and time.monotonic() < self._board_not_before:
            return
        try:
            self._board = self._board or self._open_board(step - 1)
            for name, value in metrics.items():
                if name != "step" and isinstance(value, int | float):
                    self._board.add_scalar(name.replace("_", "/", 1), value, step)
        except OSError as error:  # of this line, or of what TensorBoard's thread was still to write
            LOGGER.warning("cannot write curves to %s now, trying again later: %s", self._folder, error.strerror)
            self._board_not_before = time.monotonic() + _CURVES_WAIT  # every try leaves an empty file
            self._close_board()

    def write_config(self, text: str) -> None:
        """Show the configuration in TensorBoard."""
        if self._board is not None:
            self._board.add_text("config", f"```yaml\n{text}```")

    def close(self) -> None:
        """Write out what is buffered."""
        self._write_lines()
        self._file.close()
        self._close_board()

    def _open_board(self, first_step: int) -> SummaryWriter:
        return SummaryWriter(str(self._folder / TENSORBOARD), purge_step=first_step + 1)

    def _write_lines(self) -> None:
        try:
            while self._unwritten:  # a disk that fills up takes a part
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        except OSError as error:
            LOGGER.warning("cannot write metrics to %s now, trying again later: %s", self._folder, error.strerror)

    def _close_board(self) -> None:
        board, self._board = self._board, None
        try:
            if board is not None:
                board.close()
        except OSError as error:
            LOGGER.warning("the newest points of the curves in %s are lost: %s", self._folder, error.strerror)


def read_metrics(folder: Path) -> list[dict]:
    """All whole lines of a run's metrics: one that goes on, or was killed, may have half a line at the end.

    Raises:
        UserError: there is none.
    """
    path = folder / METRICS
    metrics = [json.loads(line) for line in _whole_lines(path.read_text())] if path.exists() else []
    if not metrics:
        raise UserError(f"{folder} has no metrics: name the folder of a run that has logged something")
    return metrics


_COLUMNS = (
    ("epoch", "epoch {:>3.0f}"),
    ("step", "step {:>6.0f}"),
    ("loss", "loss {:6.3f}"),
    ("tbo_loss", "tbo {:6.3f}"),
    ("tbo_accuracy", "{:4.0%}"),
    ("spo_loss", "spo {:5.3f}"),
    ("spo_accuracy", "{:4.0%}"),
    ("cspo_loss", "cspo {:5.2f}"),
    ("cspo_accuracy", "{:4.0%}"),
    ("cspo_geometry_accuracy", "same geometry {:4.0%}"),
    ("cspo_geometry_chance", "(chance {:.0%})"),
    ("cspo_layout_accuracy", "same layout {:4.0%}"),
    ("cspo_layout_chance", "({:.0%})"),
    ("met_loss", "met {:5.3f}"),
    ("met_accuracy", "{:4.0%}"),
    ("mep_loss", "mep {:6.3f}"),
    ("mep_accuracy", "{:4.0%}"),
    ("acd_loss", "acd {:5.3f}"),
    ("acd_accuracy", "{:4.0%}"),
    ("pp_loss", "pp {:5.3f}"),
    ("pp_accuracy", "{:4.0%}"),
    ("records_per_second", "{:6.0f} records/s"),
    ("pieces_per_second", "{:8,.0f} pieces/s"),
    ("mfu", "MFU {:5.1%}"),
    ("span_loss", "span {:6.4f}"),
    ("entity_loss", "entity {:6.4f}"),
    ("relation_loss", "relation {:6.4f}"),
    ("dev_entity_f1", "dev: entities {:6.2%}"),
    ("dev_relation_f1", "relations {:6.2%}"),
    ("dev_relation_strict_f1", "strict {:6.2%}"),
)


def format_metrics(metrics: Mapping[str, float | int | str | None]) -> str:
    """One line for a terminal or a log."""
    cells = []
    for name, template in _COLUMNS:
        value = metrics.get(name)
        if isinstance(value, int | float) and not math.isnan(value):
            cells.append(template.format(value))
    return "  ".join(cells)


def _truncate(path: Path, first_step: int) -> None:
    if not path.exists():
        return
    text = path.read_text()
    kept = "".join(line for line in _whole_lines(text) if json.loads(line)["step"] <= first_step)
    if kept != text:
        write_atomically(path, kept.encode())


def _whole_lines(text: str) -> list[str]:
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
