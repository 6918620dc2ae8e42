"""Scores of sentence relations: TACRED's micro F1, SemEval's official macro F1 and its micro F1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_shards.errors import UserError
from spe_dist.finetuning.measures import Contributions, Measure, micro_f1, precision_recall_f1
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.finetuning.scoring import Scoring, ShownFacts, ShownItem
from spe_dist.sentence_relations.marked_sentence import MarkedSentence
from spe_dist.text_table import text_table

_DIRECTION = re.compile(r"\(e[12],e[12]\)$")
_NOTE = """(micro_f1: all predicted relations together, direction counts: TACRED's official score.
 semeval_macro_f1: mean F1 over the relations of the gold data without direction; right ones have the right direction:
 the official score of SemEval-2010 task 8. semeval_micro_f1: these relations together, as its scorer prints it; it
 differs from micro_f1 where a relation is predicted that no gold sentence has. No relation is never right in any.)"""


def undirected(relation: str | None) -> str | None:
    """Cause-Effect of Cause-Effect(e1,e2); other names are as they are."""
    return None if relation is None else _DIRECTION.sub("", relation)


def semeval_macro_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Mean F1 over relations that occur.

    The definition is that of the official scorer, "(9+1)-way evaluation with directionality": of a relation without
    direction, right are predictions of the right relation and direction; predicted and gold count either direction.

    Args:
        counts: counts of each relation (correct, predicted, gold), one after another, [..., 3 · relations].
    """
    of_relations = np.asarray(counts).reshape(*np.shape(counts)[:-1], -1, 3)
    occurs = of_relations[..., 2] > 0
    f1 = precision_recall_f1(of_relations)[..., 2]
    return (f1 * occurs).sum(-1) / np.maximum(occurs.sum(-1), 1)


MEASURES: Mapping[str, Measure] = {
    "micro_f1": micro_f1,
    "semeval_macro_f1": semeval_macro_f1,
    "semeval_micro_f1": micro_f1,
}


class SentenceRelationsScoring(Scoring[MarkedSentence]):
    """Scores of sentences with two entities."""

    items = "sentences"
    title = "F1"
    measures = MEASURES
    selection_text = "micro_f1"

    def to_json(self, item: MarkedSentence) -> dict[str, Any]:
        return {
            "id": item.id,
            "token": list(item.words),
            "h": {"pos": list(item.head)},
            "t": {"pos": list(item.tail)},
            "relation": item.relation,
        } | ({} if item.score is None else {"score": round(item.score, 4)})

    def from_json(self, values: dict[str, Any], number: int) -> MarkedSentence:
        (a, b), (c, d) = values["h"]["pos"], values["t"]["pos"]
        return MarkedSentence(
            values["id"], tuple(values["token"]), (a, b), (c, d), values["relation"], values.get("score")
        )

    def contributions(
        self, gold: Sequence[MarkedSentence], predicted: Sequence[MarkedSentence]
    ) -> dict[str, Contributions]:
        """Each (correct, predicted, gold); semeval_macro_f1 has these columns for every gold relation."""
        if [one.question for one in gold] != [one.question for one in predicted]:
            raise UserError("the predicted sentences are not the gold ones: predict the same file again")
        relations = sorted({str(undirected(one.relation)) for one in gold if one.relation is not None})
        column = {relation: number for number, relation in enumerate(relations)}
        micro = np.zeros((len(gold), 3), dtype=np.int64)
        macro = np.zeros((len(gold), max(len(relations), 1), 3), dtype=np.int64)
        for number, (true, found) in enumerate(zip(gold, predicted, strict=True)):
            right = true.relation is not None and true.relation == found.relation
            micro[number] = right, found.relation is not None, true.relation is not None
            if true.relation is not None:
                macro[number, column[str(undirected(true.relation))], 2] = 1
            if found.relation is not None and undirected(found.relation) in column:
                macro[number, column[str(undirected(found.relation))], :2] = right, 1
        return {
            "micro_f1": micro,
            "semeval_macro_f1": macro.reshape(len(gold), -1),
            "semeval_micro_f1": macro.sum(1),
        }

    def selection_score(self, scores: Any) -> float:
        return scores["micro_f1"]

    def is_defined(self, measure: str, sums: NDArray[np.int64]) -> bool:
        return bool(sums[2::3].any())

    def shown(self, item: MarkedSentence) -> ShownItem:
        """With SemEval's marks around head and tail."""
        words = list(item.words)
        for mark, (start, end) in (("e1", item.head), ("e2", item.tail)):
            words[start] = f"<{mark}>{words[start]}"
            words[end - 1] += f"</{mark}>"
        facts: ShownFacts = {} if item.relation is None else {item.relation: item.relation}
        return ShownItem(" ".join(words), {"relations": facts})

    def details(self, run: Any, contributions: Any, resamples: int) -> list[str]:
        """The relations of the columns."""
        return sorted({str(undirected(one.relation)) for one in run.gold if one.relation is not None})

    def tables(self, runs: Sequence[ScoredRun]) -> list[str]:
        rows = []
        for number, relation in enumerate(runs[0].details):
            sums = [run.contributions["semeval_macro_f1"].sum(1)[:, 3 * number : 3 * number + 3] for run in runs]
            means = [100 * precision_recall_f1(of_seeds).mean(0) for of_seeds in sums]
            rows.append([relation, str(sums[0][0, 2]), *(f"{value:.1f}" for mean in means for value in mean)])
        of = [f"{run.name}, " if len(runs) > 1 else "" for run in runs]
        header = ["relation, mean over seeds", "gold", *(f"{name}{m}" for name in of for m in ("P", "R", "F1"))]
        return [_NOTE, text_table(header, rows)] if rows else [_NOTE]

    def run_json(self, run: ScoredRun) -> dict[str, Any]:
        sums = run.contributions["semeval_macro_f1"].sum(1)
        return {
            "by_relation": {
                relation: precision_recall_f1(sums[:, 3 * number : 3 * number + 3]).mean(0).tolist()
                for number, relation in enumerate(run.details)
            }
        }
