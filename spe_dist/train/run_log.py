"""What a run tells: `metrics.jsonl`, TensorBoard and a line for people, all of the same numbers."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from spe_dist.config import Tracker
from spe_dist.methods.method_spec import Column
from spe_dist.train.curves import Curves
from spe_dist.train.line_files import AppendedFile, read_json_lines
from spe_dist.train.metric_names import HELD_OUT, curve_points
from spe_dist.train.run_folder import METRICS, TENSORBOARD
from spe_dist.train.tracking import TrackedRun

LOGGER = logging.getLogger(__name__)


class RunLog:
    """Writes the metrics of a run, from a step on: what a later step had written is cut off.

    A disk that is full, or cannot be written for a while, ends no run: lines and points wait in memory.

    Args:
        folder: folder of the run.
        first_step: the number of steps already made.
        columns: columns of the run's method, for the log.
        tracker: that is told the same, from a process of its own.
        name: name of the run there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        first_step: int,
        columns: Sequence[Column] = (),
        tracker: Tracker | None = None,
        name: str = "",
    ) -> None:
        self._columns = columns
        with explain_write_errors(folder):
            _truncate(folder / METRICS, first_step)
            self._lines = AppendedFile(folder / METRICS)
            self._curves = Curves(folder / TENSORBOARD, first_step=first_step)
        self._tracked = TrackedRun(tracker, folder, name) if tracker else None

    def write(self, metrics: Mapping[str, float | int | str | None]) -> None:
        """Write one line; `step` counts finished steps."""
        self._lines.append(json.dumps(metrics).encode() + b"\n")
        self.draw(int(metrics["step"] or 0), metrics)
        for line in format_lines(metrics, self._columns):
            LOGGER.info(line)
        if self._tracked is not None:
            self._tracked.look()

    def draw(self, step: int, metrics: Mapping[str, float | int | str | None]) -> None:
        """Add points to the curves in TensorBoard alone; `write` does it too."""
        self._curves.add(step, curve_points(metrics))

    def write_config(self, text: str) -> None:
        """Show the configuration in TensorBoard."""
        self._curves.add_text("config", f"```yaml\n{text}```")

    def close(self) -> None:
        """Write out what is waiting."""
        self._lines.close()
        self._curves.close()
        if self._tracked is not None:
            self._tracked.close()


def read_metrics(folder: Path) -> list[dict]:
    """All whole lines of a run's metrics; damaged ones are left out with a warning.

    Raises:
        UserError: there is none.
    """
    metrics = [values for _, values in read_json_lines(folder / METRICS, field="step")]
    if not metrics:
        raise UserError(f"{folder} has no metrics: name the folder of a run that has logged something")
    return metrics


_WIDTH = 100  # of a line
_FIRST = (("epoch", "epoch {:>3.0f}"), ("step", "step {:>6.0f}"))
_LOSS = (("loss", "loss {:6.3f}"),)
_LAST = (("records_per_second", "{:.0f} records/s"),)
_SHORT = {"entity_f1": "entities", "relation_f1": "relations", "relation_strict_f1": "strict"}


def format_lines(metrics: Mapping[str, float | int | str | None], columns: Sequence[Column] = ()) -> list[str]:
    """The line of `format_metrics`, and one of what was measured on held-out records, if it was."""
    lines = [format_metrics(metrics, columns)]
    held_out = [name for name in metrics if name.startswith(HELD_OUT)]
    if held_out:
        plain = {"step": metrics["step"], **{name.removeprefix(HELD_OUT): metrics[name] for name in held_out}}
        lines.append(format_metrics(plain, columns, before_loss="held out: "))
    return lines


def format_metrics(
    metrics: Mapping[str, float | int | str | None], columns: Sequence[Column] = (), *, before_loss: str = ""
) -> str:
    """One line of at most 100 columns for a terminal or a log: what there is room for.

    Args:
        metrics: metrics of a step, or of an epoch of fine-tuning.
        columns: columns of the run's method. A format that begins with its value follows the column before it.
        before_loss: says of what the loss is.
    """
    dev = [name.removeprefix("dev_") for name in metrics if name.startswith("dev_")]
    first, last = _cells(metrics, _FIRST), _cells(metrics, _LAST)
    first += _cells(metrics, _LOSS, before=before_loss)
    middle = _cells(metrics, [(column.metric, column.log) for column in columns if column.log])
    middle += _cells(metrics, [(f"dev_{name}", f"{_SHORT.get(name, name)} {{:.1%}}") for name in dev], before="dev: ")
    while middle and len("".join([*first, *middle, *last])) > _WIDTH + 2:
        middle.pop()
    return "".join([*first, *middle, *last]).strip()


def _cells(
    metrics: Mapping[str, float | int | str | None], templates: Sequence[tuple[str, str]], *, before: str = ""
) -> list[str]:
    cells: list[str] = []
    for name, template in templates:
        value = metrics.get(name)
        if isinstance(value, int | float) and not math.isnan(value):
            space = " " if template.startswith("{:") and cells else "  "
            cells.append(space + before + template.format(value))
            before = ""
    return cells


def _truncate(path: Path, first_step: int) -> None:
    if not path.exists():
        return
    lines = read_json_lines(path, field="step")
    kept = [line for line, values in lines if values["step"] <= first_step]
    if len(kept) < len(lines):
        LOGGER.warning("resuming after step %d: removed %d later lines of metrics", first_step, len(lines) - len(kept))
    if b"".join(kept) != path.read_bytes():
        write_atomically(path, b"".join(kept))
