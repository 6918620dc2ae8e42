"""The scores of all seeds of a run, how sure they are, and how two runs differ."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.errors import UserError
from spe_dist.extraction.scores.false_relations import FalseRelations, false_relations
from spe_dist.extraction.scores.score_quality import KINDS, THRESHOLDS, ScoreQuality, score_quality
from spe_dist.extraction.scores.scoring import (
    MEASURES,
    RELATION_MEASURES,
    MeasureScores,
    facts_of,
    find_facts,
    precision_recall_f1,
    score_facts,
)
from spe_dist.extraction.scores.type_rules import RULES, relate
from spe_dist.finetuning.bootstrap import (
    RESAMPLES,
    Estimate,
    PairedTest,
    compare_f1,
    detectable_difference,
    estimate_f1,
)
from spe_dist.finetuning.predictions import RunPredictions


@dataclass(frozen=True)
class RuleScores:
    """A rule that relates a run's own entities by their types alone, against the run.

    Args:
        f1: measure of relations → micro F1 of the rule for each seed.
        run_minus_rule: measure of relations → how much better the run's own relations are.
    """

    f1: dict[str, list[float]]
    run_minus_rule: dict[str, PairedTest]


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
        detectable: measure → by how much two such runs must differ to be told apart; None of a single seed.
        quality: "entities" and "relations" → whether the scores of each seed can be believed; empty without scores.
        false_relations: of each seed, relations between unrelated entities; empty without scores.
        rules: name of a rule on types → how it does with the entities that each seed has found, if its training data
            were kept.
    """

    name: str
    seeds: tuple[int, ...]
    sentences: int
    scores: dict[str, list[MeasureScores]]
    counts: dict[str, NDArray[np.int64]]
    micro_f1: dict[str, Estimate]
    detectable: dict[str, float | None]
    quality: dict[str, list[ScoreQuality]]
    false_relations: list[FalseRelations]
    rules: dict[str, RuleScores]


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
    unrelated = [false_relations(run.gold, guess, THRESHOLDS) for guess in run.by_seed.values()]
    return ScoredRun(
        run.name,
        tuple(run.by_seed),
        len(run.gold),
        scores,
        stacked,
        estimates,
        {measure: detectable_difference(rows) for measure, rows in stacked.items()},
        quality,
        [one for one in unrelated if one is not None],
        _score_rules(run, stacked, symmetric, resamples),
    )


def _score_rules(
    run: RunPredictions, counts: dict[str, NDArray[np.int64]], symmetric: Collection[str], resamples: int
) -> dict[str, RuleScores]:
    if run.rules.keys() != run.by_seed.keys():
        return {}
    scores = {}
    for rule in RULES:
        related = [relate(guess, getattr(run.rules[seed], rule)) for seed, guess in run.by_seed.items()]
        f1, tests = {}, {}
        for measure in RELATION_MEASURES:
            facts = [find_facts(run.gold, guess, measure, symmetric=symmetric) for guess in related]
            of_rule = np.stack([one.sentence_counts() for one in facts])
            f1[measure] = precision_recall_f1(of_rule.sum(1))[:, 2].tolist()
            tests[measure] = compare_f1(of_rule, counts[measure], paired_seeds=True, resamples=resamples)
        scores[rule] = RuleScores(f1, tests)
    return scores


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
