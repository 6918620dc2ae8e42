"""A fine-tuned extractor → a folder for fast prediction on CPUs, which `Extractor.from_pretrained` loads.

encoder.onnx …       the sentence encoder (see models/exported_encoders.py); all else is computed by torch, as before
extractor.*          types, sizes and weights of all else, unchanged; tokenizer.json, tokenizer_config.json, config.json
proof.json           what was compared with torch in fp32, and what differed
README.md            the model's card, with the proof
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.errors import UserError
from spe_dist.export.export_format import MODEL_CARD
from spe_dist.export.export_run import check_out, written_whole
from spe_dist.extraction.exports.proof import Proof, compare, f1_of
from spe_dist.extraction.predict.cut_texts import Text
from spe_dist.extraction.predict.extractor import Extractor
from spe_dist.extraction.predict.extractor_folder import DESCRIPTION, WEIGHTS
from spe_dist.finetuning.model_stem import require_model
from spe_dist.models.export_formats import ExportFormat
from spe_dist.models.exported_encoders import check_int8, write_int8_encoder, write_onnx_encoder
from spe_dist.versions import package_versions, this_machine

PROOF = "proof.json"
_COPIED = (DESCRIPTION, WEIGHTS, "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Evidence:
    """What an export is compared on.

    Args:
        texts: raw or words, at least one.
        gold: annotated sentences for F1; may be none.
        sentences: to compare; fewer if the texts have fewer.
    """

    texts: Sequence[Text]
    gold: Sequence[AnnotatedSentence] = ()
    sentences: int = 10_000


def export_extractor(model: Path, out: Path, format: ExportFormat, evidence: Evidence) -> Proof:
    """Write an export, whole or not at all, and prove it; an earlier one there is replaced.

    Args:
        model: folder of a fine-tuned extractor.
        out: folder to write.
        format: onnx (fp32, by ONNX Runtime) or int8 (by torch).
        evidence: what to compare it on.

    Raises:
        UserError: not an extractor, `out` holds something else, there is nothing to compare on, int8 cannot be computed
            for it or here, or answers in format onnx differ from those of torch.
        ModuleNotFoundError: onnx or onnxruntime is not installed.
    """
    require_model(model, "extractor")
    check_out(out, PROOF)
    of_torch = Extractor.from_pretrained(model, device="cpu", precision="fp32")
    if of_torch.backend != "torch":
        raise UserError(f"{model} is an export already ({of_torch.backend}): name the fine-tuned model")
    with written_whole(out) as unfinished:
        for name in _COPIED:
            shutil.copyfile(model / name, unfinished / name)
        if format == "onnx":
            write_onnx_encoder(model, unfinished)
        else:
            check_int8(of_torch.sentence_encoder.model)
            write_int8_encoder(model, unfinished)
        export = Extractor.from_pretrained(unfinished)
        proof = compare(of_torch, export, evidence.texts, sentences=evidence.sentences)
        if not proof.sentences:
            raise _no_text()
        if format == "onnx" and proof.other_answers:
            raise UserError(
                f"{proof.other_answers:,} of {proof.sentences:,} sentences have other entities or relations in ONNX "
                f"Runtime than in torch: {out} is not written"
            )
        if evidence.gold:
            scores = [f1_of(extractor, evidence.gold) for extractor in (of_torch, export)]
            proof.f1 = {measure: (scores[0][measure], scores[1][measure]) for measure in scores[0]}
        about = json.dumps(_as_json(proof, format, len(evidence.gold)), indent=2) + "\n"
        (unfinished / PROOF).write_text(about)
        card = model / MODEL_CARD
        (unfinished / MODEL_CARD).write_text(
            (card.read_text("utf-8") if card.is_file() else "# An extractor\n")
            + "\n"
            + _section(proof, format, export),
            encoding="utf-8",
        )
        for file in unfinished.iterdir():  # safetensors' own are for their owner only
            shutil.copymode(unfinished / PROOF, file)
    return proof


def proof_lines(proof: Proof, format: ExportFormat) -> list[str]:
    """The proof for people, with what it does not prove."""
    lines = [
        f"{proof.sentences:,} sentences were compared with torch in fp32, which found {proof.entities:,} entities and "
        f"{proof.relations:,} relations in them: {_answers_text(proof)}; where answers are the same, scores differ by "
        f"at most {proof.score_difference:.1g}.",
        f"It took {100 / proof.times_as_fast:.0f} % of torch's processor time in fp32 ({proof.times_as_fast:.2f} times "
        f"as fast): {proof.sentences / proof.export_seconds:,.0f} sentences per second of one core, reading included "
        f"(torch: {proof.sentences / proof.torch_seconds:,.0f}).",
    ]
    if proof.f1:
        parts = [f"{name} {100 * was:.2f} → {100 * now:.2f}" for name, (was, now) in proof.f1.items()]
        lines.append(f"On the annotated sentences, torch in fp32 → this export: {', '.join(parts)}.")
    elif format == "int8":
        lines.append("Without annotated data (--data), nothing is known of its scores.")
    return lines


def _answers_text(proof: Proof) -> str:
    if not proof.other_answers:
        return "all are the same"
    return f"they differ in {proof.other_answers:,} of these ({100 * proof.other_answers / proof.sentences:.1f} %)"


def _no_text() -> UserError:
    return UserError("there is no sentence to compare the export on: give text like that which the model will read")


def _as_json(proof: Proof, format: ExportFormat, gold: int) -> dict[str, Any]:
    measured = asdict(proof) | {"times_as_fast_by_processor_time": proof.times_as_fast, "annotated_sentences": gold}
    return {"format": format, "compared_with": "torch fp32", **measured, **this_machine(), "versions": _versions()}


def _versions() -> dict[str, str]:
    return {name: of for name, of in package_versions().items() if name not in ("deepspeed", "ray", "webdataset")}


def _section(proof: Proof, format: ExportFormat, export: Extractor) -> str:
    encoder = "an ONNX graph in fp32" if format == "onnx" else "of 8-bit integers"
    backend = export.backend if format == "onnx" else "torch"
    about = (
        f"The sentence encoder is {encoder}, computed by {backend} on a CPU; all else is as in the model above. "
        "`AutoModel` does not read it."
    )
    return "\n\n".join((f"## This export ({format})", about, *proof_lines(proof, format))) + "\n"
