"""What is found out about a run of joint extraction beside its F1s: scores by group, their quality, rules on types."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from spe_dist.extraction.scores.false_relations import FalseRelations, false_relations
from spe_dist.extraction.scores.score_quality import KINDS, THRESHOLDS, ScoreQuality, score_quality
from spe_dist.extraction.scores.scoring import MEASURES, RELATION_MEASURES, MeasureScores, find_facts, score_facts
from spe_dist.extraction.scores.type_rules import RULES, relate
from spe_dist.finetuning.bootstrap import PairedTest, compare
from spe_dist.finetuning.measures import Contributions, micro_f1
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
class RunDetails:
    """What is known of the seeds of a run beside their F1s.

    Args:
        scores: measure → those of each seed.
        quality: "entities" and "relations" → whether the scores of each seed can be believed; empty without scores.
        false_relations: false relations of each seed, relations between unrelated entities; empty without scores.
        rules: name of a rule on types → how it does with the entities that each seed has found, if its training data
            were kept.
    """

    scores: dict[str, list[MeasureScores]]
    quality: dict[str, list[ScoreQuality]]
    false_relations: list[FalseRelations]
    rules: dict[str, RuleScores]


def find_details(
    run: RunPredictions[AnnotatedSentence],
    contributions: Mapping[str, Contributions],
    symmetric: Collection[str],
    resamples: int,
) -> RunDetails:
    """The details of a run.

    Args:
        run: gold and predicted sentences.
        contributions: measure → [seeds, sentences, (correct, predicted, gold)].
        symmetric: types of relations whose direction means nothing.
        resamples: resamples of the bootstrap.
    """
    seeds: Sequence[list[AnnotatedSentence]] = list(run.by_seed.values())
    found = {kind: [score_quality(run.gold, guess, kind) for guess in seeds] for kind in KINDS}
    unrelated = [false_relations(run.gold, guess, THRESHOLDS) for guess in seeds]
    return RunDetails(
        scores={
            measure: [
                score_facts(run.gold, find_facts(run.gold, guess, measure, symmetric=symmetric), symmetric=symmetric)
                for guess in seeds
            ]
            for measure in MEASURES
        },
        quality={kind: [one for one in of_seeds if one is not None] for kind, of_seeds in found.items()},
        false_relations=[one for one in unrelated if one is not None],
        rules=_score_rules(run, contributions, symmetric, resamples),
    )


def _score_rules(
    run: RunPredictions[AnnotatedSentence],
    contributions: Mapping[str, Contributions],
    symmetric: Collection[str],
    resamples: int,
) -> dict[str, RuleScores]:
    if run.training_facts.keys() != run.by_seed.keys():
        return {}
    scores = {}
    for rule in RULES:
        related = [relate(guess, getattr(run.training_facts[seed], rule)) for seed, guess in run.by_seed.items()]
        f1, tests = {}, {}
        for measure in RELATION_MEASURES:
            facts = [find_facts(run.gold, guess, measure, symmetric=symmetric) for guess in related]
            of_rule = np.stack([one.sentence_counts() for one in facts])
            f1[measure] = micro_f1(of_rule.sum(1)).tolist()
            tests[measure] = compare(of_rule, contributions[measure], micro_f1, paired_seeds=True, resamples=resamples)
        scores[rule] = RuleScores(f1, tests)
    return scores
