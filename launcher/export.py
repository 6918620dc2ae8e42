"""`spe export RUN`: a run's newest checkpoint as a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from launcher.arguments import parse_arguments
from spe_dist.export.export_format import Weights
from spe_dist.export.export_run import export_run


@dataclass(frozen=True)
class Export:
    """Write a run's newest checkpoint as a folder for transformers and for SpanPairModel; the run may still go on."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    out: Path | None = None
    """Folder to write; RUN/export if not given. An earlier export there is replaced."""
    weights: Weights = "query"
    """Of the trained encoder (query) or of its slow average, MoCo's key encoder (momentum)."""


def main(argv: list[str]) -> None:
    """Export and say how to load the result."""
    command: Export = parse_arguments(Export, argv, prog="spe export")
    folder = export_run(command.run, command.out, weights=command.weights)
    print(f"wrote {folder}")
    print(f'  from transformers import AutoModel; encoder = AutoModel.from_pretrained("{folder}")')
    print(f'  from spe_dist import SpanPairModel; model = SpanPairModel.from_pretrained("{folder}")')
