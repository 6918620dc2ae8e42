"""`spe export RUN`: export a checkpoint of a run as a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from launcher.arguments import parse_arguments
from spe_dist.export.export_format import Weights
from spe_dist.export.export_run import export_run


@dataclass(frozen=True)
class Export:
    """Export a checkpoint of a run for transformers and SpanPairModel; the run may still be running."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    out: Path | None = None
    """Folder to write. Default: RUN/export. An earlier export there is replaced."""
    weights: Weights = "query"
    """Weights to export: query (the trained encoder) or momentum (MoCo's key encoder)."""
    step: int | None = None
    """Step of the checkpoint to export, one that the run keeps (train.keep_every). Default: the newest."""


def main(argv: list[str]) -> None:
    """Export and say how to load the result."""
    command: Export = parse_arguments(Export, argv, prog="spe export")
    folder = export_run(command.run, command.out, weights=command.weights, step=command.step)
    print(f"wrote {folder}")
    print(f'  from transformers import AutoModel; encoder = AutoModel.from_pretrained("{folder}")')
    print(f'  from spe_dist import SpanPairModel; model = SpanPairModel.from_pretrained("{folder}")')
