"""Whether the scores of predictions can be believed: do they rank right above wrong, and do they mean what they say?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from spe_dist.extraction.model.calibration import (
    Calibration,
    Scaling,
    calibration_error,
    entity_features,
    ranking_auc,
    relation_features,
)
from spe_dist.extraction.scores.scoring import facts_of

KINDS = {"entities": "entity_f1", "relations": "relation_strict_f1"}  # what is right: as these measures say
THRESHOLDS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_BINS = 10


@dataclass(frozen=True)
class ScoreQuality:
    """Scores of the predictions of one kind, against what is right.

    Args:
        predicted: how many.
        precision: share of them that is right.
        mean_score: of all of them.
        calibration_error: see `calibration.calibration_error`.
        auc: see `calibration.ranking_auc`; None where all are right, or all wrong.
        bins: (mean score, share of right ones) of ten equal parts, by rising score.
        curve: (least score, precision, recall) if predictions below the least score are left out.
    """

    predicted: int
    precision: float
    mean_score: float
    calibration_error: float
    auc: float | None
    bins: tuple[tuple[float, float], ...]
    curve: tuple[tuple[float, float, float], ...]


def score_quality(
    gold: Sequence[AnnotatedSentence], predicted: Sequence[AnnotatedSentence], kind: str
) -> ScoreQuality | None:
    """The quality of the scores of "entities" or "relations"; None if the predictions have none.

    Args:
        gold: the corpus.
        predicted: the same sentences, in the same order, with predicted entities and relations.
        kind: one of `KINDS`.
    """
    scores, right = scored_predictions(gold, predicted, kind)
    if not len(scores):
        return None
    true = sum(len(facts_of(sentence, KINDS[kind])) for sentence in gold)
    order = np.argsort(scores, kind="stable")
    bins = [part for part in np.array_split(order, _BINS) if len(part)]
    kept = [scores >= least for least in THRESHOLDS]
    return ScoreQuality(
        predicted=len(scores),
        precision=float(right.mean()),
        mean_score=float(scores.mean()),
        calibration_error=calibration_error(scores, right, bins=_BINS),
        auc=ranking_auc(scores, right) if 0 < right.mean() < 1 else None,
        bins=tuple((float(scores[part].mean()), float(right[part].mean())) for part in bins),
        curve=tuple(
            (least, float(right[rows].mean()) if rows.any() else 0.0, float(right[rows].sum() / max(true, 1)))
            for least, rows in zip(THRESHOLDS, kept, strict=True)
        ),
    )


def fit_calibration(gold: Sequence[AnnotatedSentence], predicted: Sequence[AnnotatedSentence]) -> Calibration:
    """The scaling that makes the scores of predictions mean what they say.

    Args:
        gold: sentences that were not learned from.
        predicted: the same, with the model's own scores.
    """
    entities, entities_right = scored_predictions(gold, predicted, "entities")
    relations, relations_right = scored_predictions(gold, predicted, "relations")
    pairs = [
        (sentence.entities[relation.head], sentence.entities[relation.tail], len(sentence.entities))
        for sentence in predicted
        for relation in sentence.relations
    ]
    arguments = np.array([(head.score, tail.score) for head, tail, _ in pairs], dtype=np.float64).reshape(-1, 2)
    distances = [max(tail.word_start - head.word_end, head.word_start - tail.word_end) for head, tail, _ in pairs]
    features = relation_features(
        relations / arguments.prod(axis=1),  # a model that is not calibrated multiplies the three
        arguments,
        np.array(distances, dtype=np.int64),
        np.array([found for *_, found in pairs], dtype=np.int64),
    )
    return Calibration(
        entities=Scaling.fit(entity_features(entities), entities_right),
        relations=Scaling.fit(features, relations_right),
    )


def scored_predictions(
    gold: Sequence[AnnotatedSentence], predicted: Sequence[AnnotatedSentence], kind: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score of each prediction that has one, and whether it is right, [N]."""
    scores: list[float] = []
    right: list[bool] = []
    for true, guess in zip(gold, predicted, strict=True):
        known = facts_of(true, KINDS[kind])
        for found in getattr(guess, kind):
            if found.score is not None:
                alone = AnnotatedSentence(guess.words, *_alone(guess, found, kind))
                scores.append(found.score)
                right.append(next(iter(facts_of(alone, KINDS[kind]))) in known)
    return np.array(scores, dtype=np.float64), np.array(right, dtype=np.bool_)


def _alone(sentence: AnnotatedSentence, found: object, kind: str) -> tuple:
    return ((found,), ()) if kind == "entities" else (sentence.entities, (found,))
