"""`spe report RUN --out FOLDER`: a run's curves as a picture, a table, and JSON of its rows and the settings."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
import yaml

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from launcher.arguments import parse_arguments
from spe_dist.train.run_folder import CONFIG, VERSIONS
from spe_dist.train.run_log import read_metrics
from spe_dist.versions import this_machine

_ROWS = 12
_PANELS = (
    ("Token boundary", "loss", ("tbo_loss",), "accuracy", ("tbo_accuracy",)),
    ("Span permutation", "loss", ("spo_loss",), "accuracy", ("spo_accuracy",)),
    (
        "Contrast, against the queue (dashed: against the step's own keys)",
        "loss",
        ("cspo_loss",),
        "accuracy",
        ("cspo_accuracy", "cspo_step_accuracy"),
    ),
    (
        "Contrast, among views that look alike (dashed: chance)",
        "same geometry",
        ("cspo_geometry_accuracy", "cspo_geometry_chance"),
        "same layout",
        ("cspo_layout_accuracy", "cspo_layout_chance"),
    ),
    (
        "Masked entity typing (dashed: masked or replaced)",
        "loss",
        ("met_loss",),
        "accuracy",
        ("met_accuracy", "met_hidden_accuracy"),
    ),
    ("Masked entity prediction", "loss", ("mep_loss",), "accuracy", ("mep_accuracy",)),
    ("Adversarial context discrimination", "loss", ("acd_loss",), "accuracy", ("acd_accuracy",)),
    (
        "Permutation prediction (dashed: without the identity)",
        "loss",
        ("pp_loss",),
        "accuracy",
        ("pp_accuracy", "pp_moved_accuracy"),
    ),
)
_COLUMNS = {
    "step": "step",
    "tbo_loss": "TBO loss",
    "tbo_accuracy": "TBO accuracy",
    "spo_loss": "SPO loss",
    "spo_accuracy": "SPO accuracy",
    "cspo_loss": "CSPO loss",
    "cspo_accuracy": "CSPO accuracy",
    "cspo_step_accuracy": "among the step's keys",
    "cspo_step_chance": "chance",
    "cspo_geometry_accuracy": "same geometry",
    "cspo_geometry_chance": "chance",
    "cspo_layout_accuracy": "same layout",
    "cspo_layout_chance": "chance",
    "met_loss": "MET loss",
    "met_accuracy": "MET accuracy",
    "met_hidden_accuracy": "of hidden ones",
    "mep_loss": "MEP loss",
    "mep_accuracy": "MEP accuracy",
    "acd_loss": "ACD loss",
    "acd_accuracy": "ACD accuracy",
    "pp_loss": "PP loss",
    "pp_accuracy": "PP accuracy",
    "pp_moved_accuracy": "without the identity",
    "records_per_second": "records/s",
}


@dataclass(frozen=True)
class Report:
    """Write NAME.png (curves), NAME.md (a table of a dozen steps) and NAME.json (its rows, machine and settings)."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    out: Path
    """Folder for the three files."""


def main(argv: list[str]) -> None:
    """Run `spe report`.

    Raises:
        UserError: there is no such run, or it has not logged anything.
    """
    command: Report = parse_arguments(Report, argv, prog="spe report", description=__doc__)
    metrics = read_metrics(command.run)
    name = command.run.resolve().name
    rows = _rows(metrics)
    data = _data(command.run, rows)
    with explain_write_errors(command.out):
        command.out.mkdir(parents=True, exist_ok=True)
        write_atomically(command.out / f"{name}.json", (json.dumps(data, indent=1) + "\n").encode())
        write_atomically(command.out / f"{name}.md", table(rows).encode())
        _draw(metrics, command.out / f"{name}.png")
    print(f"{command.out / name}.json, .md and .png\n\n{table(rows)}")


def _rows(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    chosen = sorted({round(i * (len(metrics) - 1) / (_ROWS - 1)) for i in range(_ROWS)})
    columns = [name for name in _COLUMNS if name in metrics[-1]]
    return [{name: metrics[i].get(name) for name in columns} for i in chosen]


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of metrics as a Markdown table."""
    lines = ["| " + " | ".join(_COLUMNS[name] for name in rows[0]) + " |", "|" + "---:|" * len(rows[0])]
    lines += ["| " + " | ".join(_cell(name, value) for name, value in row.items()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name in ("step", "records_per_second"):
        return f"{value:,.0f}"
    return f"{value:.3f}" if name.endswith("loss") else f"{value:.1%}"


def _data(run: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "machine": this_machine(),
        **json.loads((run / VERSIONS).read_text()),
        "config": yaml.safe_load((run / CONFIG).read_text()),
        "rows": rows,
    }


def _draw(metrics: list[dict[str, Any]], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
        from PIL import Image
    except ImportError as error:
        raise UserError("drawing needs matplotlib: pip install 'spe_dist[plots]'") from error
    panels = [panel for panel in _PANELS if panel[2][0] in metrics[-1]]
    figure = Figure(figsize=(10, 3.2 * ((len(panels) + 1) // 2)), layout="constrained")
    for axes, (title, left, left_names, right, right_names) in zip(
        figure.subplots((len(panels) + 1) // 2, 2, squeeze=False).flat, panels, strict=False
    ):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylabel(left, color="tab:blue")
        _lines(axes, metrics, left_names, "tab:blue")
        other = axes.twinx()
        other.set_ylabel(right, color="tab:orange")
        _lines(other, metrics, right_names, "tab:orange")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    # Lines and text need few colours, and a palette makes the file a quarter as large.
    Image.open(drawn).convert("RGB").quantize(32).save(path, optimize=True)


def _lines(axes: Any, metrics: list[dict[str, Any]], names: tuple[str, ...], color: str) -> None:
    for name, style in zip(names, ("-", "--"), strict=False):
        points = [(line["step"], line[name]) for line in metrics if line.get(name) is not None]
        if points:  # an older run may not have logged it
            axes.plot(*zip(*points, strict=True), style, color=color, linewidth=1.3)
