"""`spe probe RUN --documents FILE`: what entity vectors know of relations without fine-tuning."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.read import read_documents
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, sha256_of, write_atomically
from launcher.output import say
from spe_dist.documents.probes import WITH_HEAD, WITH_RELATION, WITHOUT, DocumentProbes, Measures, probe_documents
from spe_dist.engine.world import World
from spe_dist.export.pooled_model import load_pooled_model
from spe_dist.versions import package_versions, this_machine

_RESAMPLES = 2_000
GAIN = "ed_gained_by_relation"


@dataclass(frozen=True)
class Measure:
    """A mean over questions; the interval holds 95 % of bootstrap resamples of documents."""

    mean: float
    interval: tuple[float, float]
    questions: int

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.mean:6.1%} [{100 * low:5.1f}, {100 * high:5.1f}]"


def probe(encoder: str, file: Path, *, count: int | None, seed: int, out: Path | None, command: str) -> dict[str, Any]:
    """Ask an encoder, print a table, and write it if asked to.

    Args:
        encoder: folder of a run or an export, or a Hugging Face encoder.
        file: file of documents with entities and relations.
        count: number of its documents to draw; None: all.
        seed: seed of all that is drawn.
        out: folder of probe.json and probe.txt.
        command: as it was typed.

    Returns:
        What probe.json holds.

    Raises:
        UserError: there is no such encoder, the documents cannot be read, or vectors are not finite.
    """
    model, title = load_pooled_model(encoder)
    documents, report = read_documents(file, language=model.description.language)
    sentence_encoder = model.sentence_encoder.to(World().device)
    probes = probe_documents(
        documents, model.word_pieces, positions=sentence_encoder.max_pieces, count=count, seed=seed
    )
    say(f"{title}: asking about {len(probes.documents):,} documents of {file}")
    answers = probes.ask(sentence_encoder)
    if any(np.isnan(values).any() for values in answers.values()):
        raise UserError(f"{title}: vectors are not finite; take an earlier checkpoint of the run")
    measures = bootstrap(answers, probes, seed=seed)
    table = _table(title, probes, measures)
    print(f"\n{table}", end="")
    probed: dict[str, Any] = {
        "command": command,
        "machine": this_machine(),
        "versions": package_versions(),
        "encoder": title,
        "documents": {
            "file": file.name,
            "sha256": sha256_of(file.read_bytes()),
            "format": report.format,
            "asked": len(probes.documents),
            "cut": sum(document.is_cut for document in probes.documents),
        },
        "measures": {name: vars(measure) for name, measure in measures.items()},
    }
    if out is not None:
        write_probe(out, probed, table)
    return probed


def write_probe(out: Path, probed: dict[str, Any], table: str) -> None:
    """Write probe.json and probe.txt into a folder, and say so."""
    with explain_write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "probe.json", (json.dumps(probed, indent=1) + "\n").encode())
        write_atomically(out / "probe.txt", table.encode())
    print(f"\n{out / 'probe.json'} and probe.txt")


def bootstrap(answers: Measures, probes: DocumentProbes, *, seed: int) -> dict[str, Measure]:
    """The mean of each measure, and of what the relation's name adds, with intervals: facts of a document go together.

    Args:
        answers: to the probes.
        probes: what was asked.
        seed: seed of the resampling.
    """
    documents = len(probes.documents)
    resamples = np.random.default_rng(seed).integers(0, documents, (_RESAMPLES, documents))
    everything = answers | {GAIN: answers[WITH_RELATION] - answers[WITH_HEAD]}

    def measure(values: NDArray[np.float64]) -> Measure:
        rows = np.arange(documents) if len(values) == documents else probes.pairs[:, 0]
        sums, counts = np.bincount(rows, values, documents), np.bincount(rows, minlength=documents)
        means = sums[resamples].sum(axis=1) / counts[resamples].sum(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        return Measure(float(values.mean()), (float(low), float(high)), len(values))

    return {name: measure(values) for name, values in everything.items()}


def _table(title: str, probes: DocumentProbes, measures: dict[str, Measure]) -> str:
    cut = sum(document.is_cut for document in probes.documents)
    ed = (
        ("relation and head in front of the document", WITH_RELATION),
        ("head in front", WITH_HEAD),
        ("document alone", WITHOUT),
        ("gained by the relation", GAIN),
    )
    rd = (("nearest pair of another document", "rd_1_nn"), ("ten nearest pairs", "rd_p_at_10"))
    lines = [
        f"{len(probes.documents):,} documents with relations, {cut:,} of them cut to the sentences that fit; "
        "in brackets 95 % of bootstrap resamples of documents",
        "",
        title,
        f"  Which entity is the tail of a fact? {len(probes.facts):,} facts; chance {measures['ed_chance'].mean:.1%}, "
        f"mentioned nearest to the head {measures['ed_nearest'].mean:.1%}",
        *(f"    {what:42}  {measures[name]}" for what, name in ed),
        f"  Has a similar pair the same relation? {len(probes.pairs):,} facts; chance {measures['rd_chance'].mean:.1%}",
        *(f"    {what:42}  {measures[name]}" for what, name in rd),
    ]
    return "\n".join(lines) + "\n"
