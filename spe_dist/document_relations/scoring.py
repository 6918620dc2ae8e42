"""How predicted relations of documents are kept and scored: the measures of DocRED's official evaluation, and parts.

A prediction is (document, head, tail, relation); c of n predictions are right, and there are m gold facts.

    relation_f1       P = c / n, R = c / m
    relation_ign_f1   c_t right predictions are among the facts of the training file, by relation and names of any
                      mentions: P = (c − c_t) / (n − c_t), and R stays c / m
    single_f1         the same as relation_f1 of pairs that some sentence mentions both of; cross_f1: of the others
    …_evidence_recall R of facts that one sentence, or more of them, state; there is no P, for it is not predicted what
                      states a relation
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_shards.counted import counted
from data_shards.errors import UserError
from spe_dist.document_relations.graph import DocumentGraph, Edge
from spe_dist.finetuning.measures import Contributions, micro_f1, precision_recall_f1, share
from spe_dist.finetuning.predictions import RunPredictions
from spe_dist.finetuning.score_cells import seeds_cell
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.finetuning.scoring import Scoring, ShownFacts, ShownItem
from spe_dist.text_table import UNDEFINED, text_table

_LISTED = 20  # relations in scores.txt


def ign_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """F1 without known facts in its precision, of counts [..., (correct, correct and in train, predicted, gold)]."""
    correct, known, predicted, gold = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    precision = (correct - known) / np.maximum(predicted - known, 1)
    recall = correct / np.maximum(gold, 1)
    both = precision + recall
    return np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)


@dataclass(frozen=True)
class DocumentScoring(Scoring[DocumentGraph]):
    """Official F1 and IgnF1 of relations between entities of documents, within and across sentences."""

    items = "documents"
    title = "micro scores"
    measures = {  # noqa: RUF012 (a class variable of the base class)
        "relation_f1": micro_f1,
        "relation_ign_f1": ign_f1,
        "single_f1": micro_f1,
        "cross_f1": micro_f1,
        "one_evidence_recall": share,
        "more_evidence_recall": share,
    }
    selection_text = "relation_f1"

    def to_json(self, item: DocumentGraph) -> dict[str, Any]:
        return item.as_json()

    def from_json(self, values: dict[str, Any], number: int) -> DocumentGraph:
        return DocumentGraph.from_json(values)

    def contributions(
        self, gold: Sequence[DocumentGraph], predicted: Sequence[DocumentGraph]
    ) -> dict[str, Contributions]:
        rows = [_contributions(truth, found) for truth, found in _pairs(gold, predicted)]
        return {name: np.array([row[name] for row in rows], dtype=np.int64) for name in self.measures}

    def selection_score(self, scores: Mapping[str, float]) -> float:
        return scores["relation_f1"]

    def is_defined(self, measure: str, sums: NDArray[np.int64]) -> bool:
        return bool(sums[-1] > 0)

    def check_same_gold(self, first: Sequence[DocumentGraph], second: Sequence[DocumentGraph]) -> None:
        if len(first) != len(second):
            raise UserError(f"the runs have different gold data: {len(first)} and {len(second)} documents")
        for number, (one, other) in enumerate(zip(first, second, strict=True), start=1):
            if (one.title, one.nodes) != (other.title, other.nodes) or _facts(one).keys() != _facts(other).keys():
                raise UserError(
                    f"the runs have different gold data: document {number} ({one.title!r}) is another or has other "
                    "relations; scores can only be compared on the same data"
                )
            if any(edge.in_train != _facts(other)[fact].in_train for fact, edge in _facts(one).items()):
                raise UserError(
                    f"the runs have different training files: of document {number} ({one.title!r}) other facts are "
                    "known from them, so relation_ign_f1 measures different things; fine-tune both with one file "
                    "(--fraction takes a part of it)"
                )

    def shown(self, item: DocumentGraph) -> ShownItem:
        """Without the document's text, which files of predictions do not hold."""
        names = [f"{node.name} ({node.type})" if node.type else node.name for node in item.nodes]
        relations: ShownFacts = {
            fact: f"{names[edge.head]} → {edge.type} → {names[edge.tail]}" for fact, edge in _facts(item).items()
        }
        return ShownItem(f"{item.title} ({counted(len(names), 'entity')})", {"relations": relations})

    def details(
        self, run: RunPredictions[DocumentGraph], contributions: Mapping[str, Contributions], resamples: int
    ) -> dict[str, NDArray[np.int64]]:
        """Relation → correct, predicted and gold of each seed, [seeds, 3]; the most frequent one comes first."""
        gold = Counter(edge.type for item in run.gold for edge in _facts(item).values())
        seeds = []
        for predicted in run.by_seed.values():
            pairs = _pairs(run.gold, predicted)
            found = Counter(edge.type for item in predicted for edge in _facts(item).values())
            right = Counter(kind for truth, one in pairs for *_, kind in _facts(one).keys() & _facts(truth).keys())
            seeds.append((right, found))
        names = sorted(
            gold.keys() | {name for _, found in seeds for name in found}, key=lambda name: (-gold[name], name)
        )
        return {
            name: np.array([(right[name], found[name], gold[name]) for right, found in seeds], dtype=np.int64)
            for name in names
        }

    def tables(self, runs: Sequence[ScoredRun]) -> list[str]:
        names = list(dict.fromkeys(name for run in runs for name in run.details))
        header = ["relation", "facts"]
        for run in runs:
            header += [f"P {run.name}", "R", "F1"] if len(runs) > 1 else ["P", "R", "F1"]
        rows = []
        for name in names[:_LISTED]:
            row: list[object] = [name, next(run.details[name][0, 2] for run in runs if name in run.details)]
            for run in runs:
                counts = run.details.get(name)
                if counts is None:
                    row += [UNDEFINED] * 3
                else:
                    row += [seeds_cell(values.tolist()) for values in precision_recall_f1(counts).T]
            rows.append(row)
        more = len(names) - _LISTED
        left = f"\n({counted(more, 'less frequent relation')}: scores.json)" if more > 0 else ""
        return [text_table(header, rows) + left]

    def run_json(self, run: ScoredRun) -> dict[str, Any]:
        return {
            "relations": {
                name: {
                    "gold": int(counts[0, 2]),
                    "seeds": {
                        str(seed): {
                            "correct": int(of_seed[0]),
                            "predicted": int(of_seed[1]),
                            "f1": float(micro_f1(of_seed)),
                        }
                        for seed, of_seed in zip(run.seeds, counts, strict=True)
                    },
                }
                for name, counts in run.details.items()
            }
        }


def _pairs(
    gold: Sequence[DocumentGraph], predicted: Sequence[DocumentGraph]
) -> Iterator[tuple[DocumentGraph, DocumentGraph]]:
    if len(gold) != len(predicted):
        given = counted(len(predicted), "document")
        raise UserError(f"{given} predicted, but {len(gold)} in the gold data: predict all of them")
    for number, (truth, found) in enumerate(zip(gold, predicted, strict=True), start=1):
        if (truth.title, len(truth.nodes)) != (found.title, len(found.nodes)):
            raise UserError(f"document {number} is {found.title!r}, but the gold one is {truth.title!r}")
        yield truth, found


def _facts(item: DocumentGraph) -> dict[tuple[int, int, str], Edge]:
    return {edge.fact: edge for edge in item.edges}


def _contributions(gold: DocumentGraph, predicted: DocumentGraph) -> dict[str, tuple[int, ...]]:
    """What one document adds to each measure."""
    truth, found = _facts(gold), _facts(predicted)
    right = truth.keys() & found.keys()
    correct, known = len(right), sum(truth[fact].in_train for fact in right)
    single_gold, single_found = (
        {fact for fact, edge in facts.items() if gold.is_single(edge)} for facts in (truth, found)
    )
    single_right = len(right & single_gold)
    one, more = (
        {fact for fact, edge in truth.items() if (len(edge.evidence) == 1 if alone else len(edge.evidence) > 1)}
        for alone in (True, False)
    )
    return {
        "relation_f1": (correct, len(found), len(truth)),
        "relation_ign_f1": (correct, known, len(found), len(truth)),
        "single_f1": (single_right, len(single_found), len(single_gold)),
        "cross_f1": (correct - single_right, len(found) - len(single_found), len(truth) - len(single_gold)),
        "one_evidence_recall": (len(right & one), len(one)),
        "more_evidence_recall": (len(right & more), len(more)),
    }
