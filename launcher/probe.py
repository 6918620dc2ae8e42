"""`spe probe RUN`: what vectors encode without fine-tuning.

spe probe RUN --shards HELDOUT      do the vectors of span pairs encode words, or only positions and lengths?
spe probe RUN --documents FILE      do the vectors of entities and entity pairs encode relations?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from data_shards.errors import UserError
from data_shards.shards.reader import ShardReader
from launcher.arguments import parse_arguments
from launcher.output import print_json, say, text_aside
from launcher.probe_documents import probe as probe_documents
from launcher.probe_documents import write_probe
from spe_dist.engine.world import World
from spe_dist.methods.run_summary import MaskUnit
from spe_dist.probe.questions import Questions, draw_questions
from spe_dist.probe.scores import Score, score
from spe_dist.probe.similarity import Note, by_contrast, by_sentence_vectors
from spe_dist.probe.subject import Subject, load_subject, require_tokenizer_of
from spe_dist.recipe import load_recipe
from spe_dist.versions import package_versions, this_machine

_HEADS = Path(__file__).with_name("recipes") / "spe_wiki.yaml"
_QUESTIONS = 200
_FEWEST_QUESTIONS, _FEWEST_CANDIDATES, _FEWEST_DOCUMENTS = 20, 2, 2


@dataclass(frozen=True)
class Probe:
    """Test what vectors encode without fine-tuning. Use text that was not used for training.

    --shards: do span pair vectors encode words? The question: which of --candidates span pairs belongs to a sentence?
    All candidates have the sentence's length, positions and word boundaries, so accuracy is at chance for a model that
    does not read words. For comparison, the output also has an encoder with new weights (at chance), and the encoder's
    mean states on plain text. If the model is not a run, the parts above the encoder have new weights.

    --documents: do entity vectors (means of states) encode relations? The questions: which entity of a document is the
    tail of a fact, with and without the relation and the head in front of the document? Does the nearest pair of
    entities in another document have the same relation?
    """

    encoder: tyro.conf.Positional[str]
    """Folder of a run or its export, or a Hugging Face encoder. With --shards the run must be one of SPE."""
    shards: str | None = None
    """Dataset that gives the questions, built with the encoder's tokenizer."""
    documents: Path | None = None
    """File of annotated documents with entities and relations that gives the questions, such as DocRED's."""
    out: Path | None = None
    """Folder for probe.json and probe.txt. Default: print only."""
    questions: int | None = None
    """With --shards, number of questions (default: 200); with --documents, number of documents (default: all)."""
    candidates: int = 32
    """Span pairs per question; one is correct. Only with --shards."""
    pool: int = 40_000
    """Questions and candidates are drawn from this many first sentences. Only with --shards."""
    mask_unit: MaskUnit | None = None
    """What one [MASK] replaces in the views of a question: each hidden piece, or each hidden span. Default: as in the
    run's training; piece for an encoder. Only with --shards."""
    seed: int = 0
    """Random seed of the questions."""
    json: bool = False
    """Print what probe.json would hold; the text goes to standard error."""


def main(argv: list[str]) -> None:
    """Run `spe probe`."""
    command: Probe = parse_arguments(Probe, argv, prog="spe probe")
    with text_aside(command.json):
        probed = _probe(command, argv)
    if command.json:
        print_json(probed)


def _probe(command: Probe, argv: list[str]) -> dict[str, Any]:
    if command.documents is None and command.shards is not None:
        return _probe_shards(command, command.shards, argv)
    if command.documents is not None and command.shards is None:
        if command.questions is not None and command.questions < _FEWEST_DOCUMENTS:
            raise UserError(f"--questions {command.questions}: give at least {_FEWEST_DOCUMENTS}")
        return probe_documents(
            command.encoder,
            command.documents,
            count=command.questions,
            seed=command.seed,
            out=command.out,
            command=" ".join(["spe probe", *argv]),
        )
    raise UserError("say what to ask about: either --shards DIR or --documents FILE (`spe probe --help` says more)")


def _probe_shards(command: Probe, shards: str, argv: list[str]) -> dict[str, Any]:
    asked = _QUESTIONS if command.questions is None else command.questions
    _check(command, asked)
    reader = ShardReader(shards)
    require_tokenizer_of(command.encoder, reader)
    heads = load_recipe(_HEADS)
    subject = load_subject(command.encoder, reader, heads, seed=command.seed)
    if subject.trained_on == reader.manifest.fingerprint:
        say(f"warning: {shards} is what the run was trained on: probe it with shards of other text")
    questions = draw_questions(
        reader.take(np.arange(min(command.pool, len(reader)))),
        reader.manifest.tokenizer.special_ids,
        questions=asked,
        candidates=command.candidates,
        seed=command.seed,
        source=shards,
        mask_unit=command.mask_unit or subject.model.description.mask_unit,
    )
    results = _ask(command, subject, questions)
    table = _table(command, results)
    print(table, end="")
    probed: dict[str, Any] = {
        "command": " ".join(["spe probe", *argv]),
        "machine": this_machine(),
        "versions": package_versions(),
        "shards": reader.manifest.fingerprint,
        "held_out": None if subject.trained_on is None else subject.trained_on != reader.manifest.fingerprint,
        "mask_unit": questions.mask_unit,
        "chance": 1 / command.candidates,
        "results": {name: [asdict(row) for row in rows] for name, rows in results.items()},
    }
    if command.out is not None:
        write_probe(command.out, probed, table)
    return probed


def _check(command: Probe, questions: int) -> None:
    for name, value, least in (
        ("questions", questions, _FEWEST_QUESTIONS),
        ("candidates", command.candidates, _FEWEST_CANDIDATES),
        ("pool", command.pool, questions),
    ):
        if value < least:
            raise UserError(f"--{name} {value}: give at least {least}")


def _ask(command: Probe, subject: Subject, questions: Questions) -> dict[str, list[Score]]:
    device = World().device
    model, untrained = subject.model.to(device), subject.untrained(seed=command.seed).to(device)
    title = f"{subject.title}{' (heads new)' if subject.new_heads else ''}"
    askings: dict[str, Callable[[Note], Tensor]] = {
        title: lambda note: by_contrast(model, questions, note),
        "new weights": lambda note: by_contrast(untrained, questions, note),
        "its mean states, plain text": lambda note: by_sentence_vectors(model.sentence_encoder, questions, note),
    }
    results = {}
    for name, ask in askings.items():
        say(f"{name}: {len(questions)} questions of {questions.candidates_each} candidates")
        similarity = ask(lambda done: say(f"  {done} answered"))
        if not torch.isfinite(similarity).all():
            raise UserError(f"{name}: vectors are not finite; take an earlier checkpoint of the run")
        results[name] = score(similarity, questions, seed=command.seed)
    return results


def _table(command: Probe, results: dict[str, list[Score]]) -> str:
    strata = max(len(row.stratum) for rows in results.values() for row in rows)
    lines = [
        "",
        f"chance: accuracy {1 / command.candidates:.1%}, mean percentile 50.0; in brackets 95 % of bootstrap resamples",
    ]
    for name, rows in results.items():
        lines += ["", name]
        lines += [
            f"  {row.stratum:{strata}}  {row.questions:4d} questions   accuracy {row.accuracy:6.1%} "
            f"{_interval(row.accuracy_interval)}   mean percentile {100 * row.mean_percentile:5.1f} "
            f"{_interval(row.percentile_interval)}"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


def _interval(interval: tuple[float, float]) -> str:
    return f"[{100 * interval[0]:5.1f}, {100 * interval[1]:5.1f}]"
