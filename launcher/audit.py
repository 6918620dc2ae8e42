"""`spe shards audit`: a sample of facts for a person to judge, and what the judgements say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from data_shards.errors import UserError
from data_shards.knowledge.audit import Precision, read_judgements, sample_facts, write_sample
from data_shards.knowledge.knowledge_base import KnowledgeBase
from data_shards.shards import manifest
from data_shards.shards.manifest import RelationType
from data_shards.shards.reader import ShardReader
from launcher.output import print_json
from spe_dist.text_table import text_table


@dataclass(frozen=True)
class Audit:
    """Write a sample of a dataset's facts for a person to judge, or print the precision that judged facts show.

    A fact is right if the marked mentions mean these two entities and the relation holds between them in the world; the
    text need not state it. Write yes or no in the column "right", in a spreadsheet or an editor.
    """

    location: tyro.conf.Positional[str]
    """Folder or URL of a dataset of documents."""
    out: Path | None = None
    """File for the sample: a table with tabs (.tsv) or JSON lines (.jsonl)."""
    judged: Path | None = None
    """File that --out wrote, with judgements filled in: print precision by relation, with 95 % Wilson intervals."""
    kb: Path | None = None
    """Knowledge base that the dataset was built with, for the ids of entities."""
    per_relation: int = 5
    """Number of facts per relation; all facts of a relation that has fewer."""
    seed: int = 0
    """Random seed for the sample."""
    json: bool = False
    """With --judged: print JSON instead of a table."""


def run_audit(command: Audit) -> None:
    """Write a sample, or print what a judged one says."""
    if (command.out is None) == (command.judged is None):
        raise UserError("say what to do: --out FILE writes a sample, --judged FILE prints what a judged one says")
    if command.per_relation < 1:
        raise UserError(f"--per-relation {command.per_relation}: must be at least 1")
    if command.judged is not None:
        relations = manifest.load(command.location).relation_types
        precisions = _known(read_judgements(command.judged), relations, command.judged)
        if command.json:
            print_json(precision_json(precisions, relations))
        else:
            print(precision_text(precisions, relations))
        return
    if command.json:
        raise UserError("--json is for what judged facts show: give --judged FILE")
    assert command.out is not None
    reader = ShardReader(command.location)
    kb = None if command.kb is None else KnowledgeBase.load(command.kb)
    count = write_sample(sample_facts(reader, command.per_relation, seed=command.seed, kb=kb), command.out)
    print(f"{command.out}: {count:,} facts; write yes or no in the column right, then: --judged {command.out}")


def _known(
    precisions: Mapping[str, Precision], relations: Mapping[str, RelationType], path: Path
) -> dict[str, Precision]:
    """The most frequent relation first."""
    if unknown := [code for code in precisions if code not in relations]:
        raise UserError(f"{path}: the dataset has no relation {unknown[0]!r}: name the dataset that was sampled")
    return {code: precisions[code] for code in sorted(precisions, key=lambda code: (-relations[code].facts, code))}


def precision_json(precisions: Mapping[str, Precision], relations: Mapping[str, RelationType]) -> dict[str, Any]:
    """Precisions by the codes of relations, and that of all facts together, as fractions of 1."""
    each = {
        code: {"name": relations[code].name, "facts": relations[code].facts, **asdict(precision)}
        | {"precision": precision.share, "interval": precision.interval}
        for code, precision in precisions.items()
    }
    return {"relations": each, "weighted_precision": _weighted(precisions, relations)}


def precision_text(precisions: Mapping[str, Precision], relations: Mapping[str, RelationType]) -> str:
    """A table of precisions, and that of all facts together."""
    codes = list(precisions)
    rows = [(relations[code].name, code, f"{relations[code].facts:,}", *_cells(precisions[code])) for code in codes]
    pooled = Precision(sum(one.right for one in precisions.values()), sum(one.judged for one in precisions.values()))
    facts = sum(relations[code].facts for code in codes)
    rows.append(("all judged", "", f"{facts:,}", *_cells(pooled)))
    table = text_table(("relation", "code", "facts", "judged", "right", "precision", "95 % interval"), rows, left=2)
    weighted = _weighted(precisions, relations)
    return f"{table}\n\nprecision of all facts of these relations, each weighted by its facts: {weighted:.1%}"


def _weighted(precisions: Mapping[str, Precision], relations: Mapping[str, RelationType]) -> float:
    """The precision of all facts, judged or not: each relation counts by its facts."""
    facts = sum(relations[code].facts for code in precisions)
    return sum(precision.share * relations[code].facts for code, precision in precisions.items()) / max(1, facts)


def _cells(precision: Precision) -> tuple[str, ...]:
    low, high = precision.interval
    return f"{precision.judged}", f"{precision.right}", f"{precision.share:.1%}", f"{low:.1%} to {high:.1%}"
