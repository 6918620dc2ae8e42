"""Scores of entity typing: accuracy, loose macro and micro F1 (Ling & Weld), UFET's macro F1 and granularities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_shards.errors import UserError
from spe_dist.entity_typing.typed_mention import FINE, GENERAL, TypedMention
from spe_dist.finetuning.measures import TIE_BREAK, UNIT, Contributions, Measure, mean_of_shares, micro_f1, share
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.finetuning.scoring import Scoring, ShownItem
from spe_dist.text_table import text_table

_NOTE = """(accuracy: exactly the gold types. macro_f1: F1 of mean precision and mean recall of mentions, precision 0
 where nothing is predicted (Ling & Weld's "loose macro"). micro_f1: all types of all mentions together. macro_f1_ufet:
 as macro_f1, but over mentions with a prediction and mentions with gold types, as UFET's scorer.)"""


def macro_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """F1 of mean precision and recall: (sum in UNIT, mentions) of one, then of the other, [..., 4]."""
    precision, recall = mean_of_shares(counts[..., :2]), mean_of_shares(counts[..., 2:])
    total = precision + recall
    return 2 * precision * recall / np.where(total > 0, total, 1)


LEVELS = ("general", "fine", "ultra-fine")
MEASURES: Mapping[str, Measure] = {
    "accuracy": share,
    "macro_f1": macro_f1,
    "micro_f1": micro_f1,
    "macro_f1_ufet": macro_f1,
}


class EntityTypingScoring(Scoring[TypedMention]):
    """Scores of typed mentions; the best epoch is that of the best accuracy, then of the best macro F1."""

    items = "mentions"
    title = "scores"
    measures = MEASURES
    selection_text = "accuracy, and macro_f1 where it is equal"

    def to_json(self, item: TypedMention) -> dict[str, Any]:
        return {
            "annot_id": item.id,
            "left_context_token": list(item.left),
            "mention_span": " ".join(item.mention),
            "right_context_token": list(item.right),
            "y_str": list(item.types),
        } | ({} if item.scores is None else {"scores": [round(score, 4) for score in item.scores]})

    def from_json(self, values: dict[str, Any], number: int) -> TypedMention:
        left, right, types = (tuple(values[f]) for f in ("left_context_token", "right_context_token", "y_str"))
        scores = values.get("scores")
        mention = tuple(values["mention_span"].split(" "))
        return TypedMention(values["annot_id"], left, mention, right, types, scores and tuple(scores))

    def contributions(
        self, gold: Sequence[TypedMention], predicted: Sequence[TypedMention]
    ) -> dict[str, Contributions]:
        """Columns: accuracy (right, all); macro as `macro_f1` says; micro_f1 (correct, predicted, gold)."""
        if [one.question for one in gold] != [one.question for one in predicted]:
            raise UserError("the predicted mentions are not the gold ones: predict the same file again")
        sets = [(set(one.types), set(other.types)) for one, other in zip(gold, predicted, strict=True)]
        counts = np.array([(len(g & p), len(p), len(g), g == p) for g, p in sets], dtype=np.int64).reshape(-1, 4)
        correct, found, true, equal = counts.T
        one = np.ones_like(correct)
        precision = np.rint(UNIT * (correct / np.maximum(found, 1))).astype(np.int64)
        recall = np.rint(UNIT * (correct / np.maximum(true, 1))).astype(np.int64)
        return {
            "accuracy": np.stack([equal, one], axis=1),
            "macro_f1": np.stack([precision, one, recall, one], axis=1),
            "micro_f1": counts[:, :3],
            "macro_f1_ufet": np.stack([precision, found > 0, recall, true > 0], axis=1).astype(np.int64),
        }

    def selection_score(self, scores: Mapping[str, float]) -> float:
        return scores["accuracy"] + TIE_BREAK * scores["macro_f1"]

    def shown(self, item: TypedMention) -> ShownItem:
        mention = f"[{' '.join(item.mention)}]"
        return ShownItem(
            " ".join((*item.left, mention, *item.right)), {"types": dict(zip(item.types, item.types, strict=True))}
        )

    def details(self, run: Any, contributions: Any, resamples: int) -> dict[str, list[float]]:
        """Precision, recall and F1 of the types of each of UFET's granularities, mean over seeds."""
        if not any(name in GENERAL for one in run.gold for name in one.types):  # of other data, such as FIGER
            return {}
        return {
            level: np.mean([granular(run.gold, found, level) for found in run.by_seed.values()], axis=0).tolist()
            for level in LEVELS
        }

    def tables(self, runs: Sequence[ScoredRun]) -> list[str]:
        rows = [
            [level, *(f"{100 * value:.1f}" for run in runs for value in run.details[level])]
            for level in runs[0].details
        ]
        of = [f"{run.name}, " if len(runs) > 1 else "" for run in runs]
        header = ["types (UFET's macro)", *(f"{name}{m}" for name in of for m in ("P", "R", "F1"))]
        return [_NOTE, text_table(header, rows)] if rows else [_NOTE]

    def run_json(self, run: ScoredRun) -> dict[str, Any]:
        return {"by_granularity": run.details}


def granular(gold: Sequence[TypedMention], predicted: Sequence[TypedMention], level: str) -> list[float]:
    """Precision, recall and F1 with the types of one granularity alone: UFET's macro over mentions that have any.

    Args:
        gold: true mentions.
        predicted: the same mentions.
        level: one of `LEVELS`.
    """
    sets = [
        ({t for t in one.types if level_of(t) == level}, {t for t in other.types if level_of(t) == level})
        for one, other in zip(gold, predicted, strict=True)
    ]
    precisions = [len(g & p) / len(p) for g, p in sets if p]
    recalls = [len(g & p) / len(g) for g, p in sets if g]
    precision, recall = (float(np.mean(values)) if values else 0.0 for values in (precisions, recalls))
    total = precision + recall
    return [precision, recall, 2 * precision * recall / total if total else 0.0]


def level_of(name: str) -> str:
    """The granularity of a type of UFET, one of `LEVELS`; what is neither general nor fine is ultra-fine."""
    return "general" if name in GENERAL else "fine" if name in FINE else "ultra-fine"
