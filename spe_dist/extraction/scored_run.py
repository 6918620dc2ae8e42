"""The scores of all seeds of a run, how sure they are, and how two runs differ."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.errors import UserError
from spe_dist.extraction.annotated_sentence import AnnotatedSentence
from spe_dist.extraction.bootstrap import RESAMPLES, Estimate, PairedTest, compare_f1, estimate_f1
from spe_dist.extraction.predictions import RunPredictions
from spe_dist.extraction.score_quality import KINDS, ScoreQuality, score_quality
from spe_dist.extraction.scoring import MEASURES, MeasureScores, facts_of, find_facts, score_facts


@dataclass(frozen=True)
class ScoredRun:
    """Scores of the seeds of a run.

    Args:
        name: of the run.
        seeds: in rising order.
        sentences: of the test data.
        scores: measure → those of each seed.
        counts: measure → [seeds, sentences, (correct, predicted, gold)].
        micro_f1: measure → the mean over seeds and its interval.
        quality: "entities" and "relations" → whether the scores of each seed can be believed; empty without scores.
    """

    name: str
    seeds: tuple[int, ...]
    sentences: int
    scores: dict[str, list[MeasureScores]]
    counts: dict[str, NDArray[np.int64]]
    micro_f1: dict[str, Estimate]
    quality: dict[str, list[ScoreQuality]]


def score_run(run: RunPredictions, *, symmetric: Collection[str] = (), resamples: int = RESAMPLES) -> ScoredRun:
    """Score every seed of a run.

    Args:
        run: gold and predicted sentences.
        symmetric: types of relations whose direction means nothing.
        resamples: of the bootstrap.

    Raises:
        UserError: a seed has predicted other sentences than the gold ones, or there are no gold ones.
    """
    if not run.gold:
        raise UserError(f"{run.name} has no sentence in its gold data: there is nothing to score")
    scores: dict[str, list[MeasureScores]] = {measure: [] for measure in MEASURES}
    counts: dict[str, list[NDArray[np.int64]]] = {measure: [] for measure in MEASURES}
    for seed, predicted in run.by_seed.items():
        for measure in MEASURES:
            try:
                facts = find_facts(run.gold, predicted, measure, symmetric=symmetric)
            except UserError as error:
                raise UserError(f"seed {seed} of {run.name}: {error}") from error
            scores[measure].append(score_facts(run.gold, facts))
            counts[measure].append(facts.sentence_counts())
    stacked = {measure: np.stack(rows) for measure, rows in counts.items()}
    estimates = {measure: estimate_f1(rows, resamples=resamples) for measure, rows in stacked.items()}
    found = {kind: [score_quality(run.gold, guess, kind) for guess in run.by_seed.values()] for kind in KINDS}
    quality = {kind: [one for one in of_seeds if one is not None] for kind, of_seeds in found.items()}
    return ScoredRun(run.name, tuple(run.by_seed), len(run.gold), scores, stacked, estimates, quality)


def compare_scored_runs(first: ScoredRun, second: ScoredRun, *, resamples: int = RESAMPLES) -> dict[str, PairedTest]:
    """How the micro F1s of two runs on the same data differ, by measure: second minus first.

    Seeds are compared one to one if both runs have the same ones.
    """
    paired = first.seeds == second.seeds
    return {
        measure: compare_f1(first.counts[measure], second.counts[measure], paired_seeds=paired, resamples=resamples)
        for measure in MEASURES
    }


def check_same_gold(first: Sequence[AnnotatedSentence], second: Sequence[AnnotatedSentence]) -> None:
    """Raise a UserError unless two runs were tested on the same sentences with the same entities and relations."""
    if len(first) != len(second):
        raise UserError(f"the runs have different gold data: {len(first)} and {len(second)} sentences")
    for number, (one, other) in enumerate(zip(first, second, strict=True), start=1):
        kinds = {"words": one.words == other.words}
        kinds["entities"] = set(one.entities) == set(other.entities)
        kinds["relations"] = facts_of(one, "relation_strict_f1").keys() == facts_of(other, "relation_strict_f1").keys()
        for kind, equal in kinds.items():
            if not equal:
                raise UserError(
                    f"the runs have different gold data: sentence {number} has other {kind}; "
                    "scores can only be compared on the same data"
                )
