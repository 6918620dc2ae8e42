"""`spe report RUN --out FOLDER`: a run's curves as a picture, a table, and JSON of its rows and the settings."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
import yaml

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from launcher.arguments import parse_arguments
from spe_dist.methods.method_spec import MethodSpec, Panel
from spe_dist.methods.registry import find_method
from spe_dist.text_table import markdown_table
from spe_dist.train.run_folder import CONFIG, VERSIONS
from spe_dist.train.run_log import read_metrics
from spe_dist.versions import this_machine

_ROWS = 12
_LOSS = Panel("Loss", ("loss",), ("gradient_norm",), right_label="gradient norm")  # if a method names no panels


@dataclass(frozen=True)
class Report:
    """Write NAME.png (curves), NAME.md (a table of a dozen steps) and NAME.json (its rows, machine and settings)."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    out: Path
    """Folder for the three files."""


def main(argv: list[str]) -> None:
    """Run `spe report`."""
    command: Report = parse_arguments(Report, argv, prog="spe report", description=__doc__)
    metrics = read_metrics(command.run)
    name = command.run.resolve().name
    config = yaml.safe_load((command.run / CONFIG).read_text())
    method = find_method(config.get("method"), source=str(command.run / CONFIG))
    headings = {"step": "step", **{column.metric: column.heading for column in method.columns}}
    headings["records_per_second"] = "records/s"
    rows = _rows(metrics, headings)
    data = {"machine": this_machine(), **json.loads((command.run / VERSIONS).read_text()), "config": config}
    with explain_write_errors(command.out):
        command.out.mkdir(parents=True, exist_ok=True)
        write_atomically(command.out / f"{name}.json", (json.dumps(data | {"rows": rows}, indent=1) + "\n").encode())
        write_atomically(command.out / f"{name}.md", table(rows, headings).encode())
        _draw(metrics, method, command.out / f"{name}.png")
    print(f"{command.out / name}.json, .md and .png\n\n{table(rows, headings)}")


def _rows(metrics: list[dict[str, Any]], headings: Mapping[str, str]) -> list[dict[str, Any]]:
    chosen = sorted({round(i * (len(metrics) - 1) / (_ROWS - 1)) for i in range(_ROWS)})
    columns = [name for name in headings if name in metrics[-1]]
    return [{name: metrics[i].get(name) for name in columns} for i in chosen]


def table(rows: list[dict[str, Any]], headings: Mapping[str, str]) -> str:
    """Rows of metrics as a Markdown table."""
    cells = [[_cell(name, value) for name, value in row.items()] for row in rows]
    return markdown_table([headings[name] for name in rows[0]], cells, left=0) + "\n"


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name in ("step", "records_per_second"):
        return f"{value:,.0f}"
    return f"{value:.3f}" if name.endswith("loss") else f"{value:.1%}"


def _draw(metrics: list[dict[str, Any]], method: MethodSpec, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
        from PIL import Image
    except ImportError as error:
        raise UserError("drawing needs matplotlib: pip install 'spe_dist[plots]'") from error
    panels = [panel for panel in method.panels if panel.left[0] in metrics[-1]] or [_LOSS]
    figure = Figure(figsize=(10, 3.2 * ((len(panels) + 1) // 2)), layout="constrained")
    places = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False).flat
    for axes in places[len(panels) :]:
        axes.remove()
    for axes, panel in zip(places, panels, strict=False):
        axes.set_title(panel.title, fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylabel(panel.left_label, color="tab:blue")
        _lines(axes, metrics, panel.left, "tab:blue")
        other = axes.twinx()
        other.set_ylabel(panel.right_label, color="tab:orange")
        _lines(other, metrics, panel.right, "tab:orange")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    # Lines and text need few colours, and a palette makes the file a quarter as large.
    Image.open(drawn).convert("RGB").quantize(32).save(path, optimize=True)


def _lines(axes: Any, metrics: list[dict[str, Any]], names: tuple[str, ...], color: str) -> None:
    for name, style in zip(names, ("-", "--"), strict=False):
        points = [(line["step"], line[name]) for line in metrics if line.get(name) is not None]
        if points:  # an older run may not have logged it
            axes.plot(*zip(*points, strict=True), style, color=color, linewidth=1.3)
