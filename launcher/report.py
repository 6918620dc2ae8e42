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

from data_shards.files import explain_write_errors, write_atomically
from launcher.arguments import parse_arguments
from launcher.output import rounded
from spe_dist.methods.method_spec import MethodSpec, Panel
from spe_dist.methods.registry import find_method
from spe_dist.text_table import markdown_table
from spe_dist.train.metric_names import GRADIENTS, HELD_OUT, SHARE
from spe_dist.train.run_folder import CONFIG, VERSIONS
from spe_dist.train.run_log import read_metrics
from spe_dist.versions import this_machine

_ROWS = 12
# Of every run, below the panels of its method.
_PANELS = (
    Panel("Training", ("loss",), ("gradient_norm",), right_label="gradient norm"),
    Panel("Training", ("learning_rate",), ("records_per_second",), "learning rate", "records/s"),
)
_PLAIN = ("loss", "learning_rate", "gradient_norm", "records_per_second")  # others of a panel are shares


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
    of_method = {column.metric: column.heading for column in method.columns}
    held_out = {f"{HELD_OUT}{column.metric}": f"held out: {column.heading}" for column in method.columns if column.log}
    headings = {"step": "step", **of_method, **held_out}
    headings |= {
        name: f"{_objective(name)}: share of the gradient" for name in _of_gradients(metrics) if name.endswith(SHARE)
    }
    headings["records_per_second"] = "records/s"
    rows = rounded(_rows(metrics, headings))
    data = {"machine": this_machine(), **json.loads((command.run / VERSIONS).read_text()), "config": config}
    with explain_write_errors(command.out):
        command.out.mkdir(parents=True, exist_ok=True)
        write_atomically(command.out / f"{name}.json", (json.dumps(data | {"rows": rows}, indent=1) + "\n").encode())
        write_atomically(command.out / f"{name}.md", table(rows, headings).encode())
        _draw(metrics, method, name, command.out / f"{name}.png")
    print(f"{command.out / name}.json, .md and .png\n\n{table(rows, headings)}")


def _rows(metrics: list[dict[str, Any]], headings: Mapping[str, str]) -> list[dict[str, Any]]:
    chosen = sorted({round(i * (len(metrics) - 1) / (_ROWS - 1)) for i in range(_ROWS)})
    columns = [name for name in headings if any(name in metrics[i] for i in chosen)]
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


def _draw(metrics: list[dict[str, Any]], method: MethodSpec, run: str, path: Path) -> None:
    from matplotlib.figure import Figure
    from PIL import Image

    measured = _of_gradients(metrics)
    of_gradients = Panel(
        "Objectives",
        tuple(name for name in measured if not name.endswith(SHARE)),
        tuple(name for name in measured if name.endswith(SHARE)),
        "gradient norm",
        "share of the gradient",
    )
    panels = [*method.panels, *([of_gradients] if measured else []), *_PANELS]
    panels = [panel for panel in panels if any(panel.left[0] in line for line in metrics)]
    headings = {column.metric: column.heading for column in method.columns}
    headings |= {name: _objective(name) for name in measured}
    figure = Figure(figsize=(10, 2.6 * len(panels)), layout="constrained")
    figure.supxlabel("step", fontsize=10)
    figure.suptitle(f"{run}: {method.title}, {metrics[-1]['step']:,} steps")
    for (left, right), panel in zip(figure.subplots(len(panels), 2, sharex=True, squeeze=False), panels, strict=True):
        for axes, names, label in ((left, panel.left, panel.left_label), (right, panel.right, panel.right_label)):
            axes.set_title(f"{panel.title}: {label}", loc="left", fontsize=10)
            _lines(axes, metrics, names, label, headings)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    # Lines and text need few colours, and a palette makes the file a quarter as large.
    Image.open(drawn).convert("RGB").quantize(32).save(path, optimize=True)


def _of_gradients(metrics: list[dict[str, Any]]) -> list[str]:
    """Names of what was measured of objectives' gradients, in their order."""
    return list(dict.fromkeys(name for line in metrics for name in line if name.startswith(GRADIENTS)))


def _objective(name: str) -> str:
    return name.removeprefix(GRADIENTS).removesuffix(SHARE).upper()


def _is_plain(name: str) -> bool:
    return name in _PLAIN or name.endswith("_loss") or (name.startswith(GRADIENTS) and not name.endswith(SHARE))


def _lines(
    axes: Any, metrics: list[dict[str, Any]], names: tuple[str, ...], label: str, headings: Mapping[str, str]
) -> None:
    """One quantity; what is measured on held-out records is dashed and of the same colour."""
    share = not any(_is_plain(name) for name in names)
    axes.set_ylabel("%" if share else label)
    axes.grid(alpha=0.3)
    for number, name in enumerate(names):
        for logged, style, suffix in ((name, "-", ""), (f"{HELD_OUT}{name}", ".--", ", held out")):
            there = [line for line in metrics if line.get(logged) is not None]
            points = [(line["step"], line[logged] * (100 if share else 1)) for line in there]
            if points:  # an older run may not have logged it
                what = f"{headings.get(name, name)}{suffix}"
                axes.plot(*zip(*points, strict=True), style, color=f"C{number}", linewidth=1.3, label=what)
    if len(axes.get_lines()) > 1:
        axes.legend(fontsize=8, frameon=False)
    if not share:
        axes.ticklabel_format(scilimits=(-3, 4))
