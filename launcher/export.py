"""`spe export RUN|MODEL`: a checkpoint as a Hugging Face folder, or an extractor for fast prediction on CPUs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import tyro

from data_shards.errors import UserError
from launcher.arguments import parse_arguments, refuse
from launcher.predict_input import read_items
from spe_dist.config import Positive
from spe_dist.export.export_format import Weights
from spe_dist.finetuning.model_stem import require_model, stem_of
from spe_dist.models.export_formats import ExportFormat

_OF_MODELS = ("texts", "data", "sentences")
_OF_RUNS = ("weights", "step")


@dataclass(frozen=True)
class Export:
    """Export a checkpoint of a run for transformers and SpanPairModel, or an extractor for fast prediction on CPUs.

    In a shell:
        spe export runs/wiki                                                  # the run may still be running
        spe export runs/people/seed-1/model --format onnx --texts notes.txt   # fp32, computed by ONNX Runtime
        spe export runs/people/seed-1/model --format int8 --data dev.json     # products of 8-bit integers

    An extractor's export is compared with the extractor on the given texts, and the result is written into the export
    (proof.json). With onnx, the command fails if any entity or relation differs; with int8, some differ.
    """

    source: tyro.conf.Positional[Path]
    """Folder of a run; or, with --format, of a fine-tuned extractor, such as RUN/seed-1/model."""
    out: Path | None = None
    """Folder to write. Default: RUN/export, or MODEL-FORMAT beside the model. An earlier export there is replaced."""
    weights: Weights = "query"
    """Weights of a run to export: query (the trained encoder) or momentum (MoCo's key encoder)."""
    step: int | None = None
    """Step of the checkpoint of a run to export; it must be one that the run kept (train.keep_every). Default: the
    newest."""
    format: ExportFormat | None = None
    """Format to export an extractor to: onnx (fp32, for ONNX Runtime) or int8 (for torch on x86 processors with
    VNNI)."""
    texts: tuple[str, ...] = ()
    """Files or folders of texts on which answers are compared, as spe predict reads them; take texts like those that
    the model will read. Default: the sentences of --data."""
    data: Path | None = None
    """Annotated file on which F1 is compared."""
    sentences: Positive = 10_000
    """Number of sentences on which answers are compared."""


def main(argv: list[str]) -> None:
    """Export and say how to load the result."""
    command: Export = parse_arguments(Export, argv, prog="spe export")
    if command.format is not None:
        _export_extractor(command, command.format)
        return
    if stem_of(command.source) is not None:
        raise UserError(
            f"{command.source} is a fine-tuned model, which is in Hugging Face format already; for fast prediction on "
            "CPUs give --format onnx or --format int8"
        )
    refuse(command, _OF_MODELS, "is for exports of an extractor, with --format: remove it")
    from spe_dist.export.export_run import export_run

    folder = export_run(command.source, command.out, weights=command.weights, step=command.step)
    print(f"wrote {folder}")
    print(f'  from transformers import AutoModel; encoder = AutoModel.from_pretrained("{folder}")')
    print(f'  from spe_dist import SpanPairModel; model = SpanPairModel.from_pretrained("{folder}")')


def _export_extractor(command: Export, format: ExportFormat) -> None:
    refuse(command, _OF_RUNS, "is for exports of a run, without --format: remove it")
    require_model(command.source, "extractor")
    if not command.texts and command.data is None:
        raise UserError("give texts to compare answers on: --texts FILE, or --data FILE with annotations")
    from data_shards.annotated.read import read_annotated
    from spe_dist.extraction.exports.export_extractor import Evidence, export_extractor, proof_lines

    gold = [] if command.data is None else read_annotated(command.data)[0]
    texts = [item.text for item in islice(read_items(command.texts), command.sentences)] if command.texts else []
    evidence = Evidence(texts or [list(sentence.words) for sentence in gold], gold, command.sentences)
    folder = command.out or command.source.absolute().with_name(f"{command.source.absolute().name}-{format}")
    proof = export_extractor(command.source, folder, format, evidence)
    print("\n".join([f"wrote {folder}", *(f"  {line}" for line in proof_lines(proof, format))]))
    print(f"  spe predict {folder} …")
