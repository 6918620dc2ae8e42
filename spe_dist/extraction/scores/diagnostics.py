"""What the F1s of a seed do not say, in a few numbers for its result and its model card."""

from __future__ import annotations

from collections.abc import Sequence

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from spe_dist.extraction.scores.false_relations import false_relations
from spe_dist.extraction.scores.score_quality import KINDS, score_quality
from spe_dist.extraction.scores.scoring import RELATION_MEASURES, find_facts
from spe_dist.extraction.scores.type_rules import RULES, TypeRules, relate
from spe_dist.finetuning.measures import micro_f1

ABOUT = {
    "entities_calibration_error": "entity scores: calibration error (ECE)",
    "entities_auc": "entity scores: AUC of right against wrong",
    "relations_calibration_error": "relation scores: calibration error (ECE)",
    "relations_auc": "relation scores: AUC of right against wrong",
    "false_relation_rate": "share of unrelated pairs of gold entities that get a relation",
    "false_relation_rate_at_kept_recall": "the same at 90 % of the recall (with a score threshold chosen for it)",
    "majority_relation_f1": "relation F1 of the one-line rule on types, with these entities",
    "majority_relation_strict_f1": "strict relation F1 of the one-line rule",
    "best_relation_f1": "relation F1 of the best rule on types, with these entities",
    "best_relation_strict_f1": "strict relation F1 of the best rule",
}
LEAST_SCORES = (0.0, 0.3, 0.5, 0.7, 0.9)


def curve_names(kind: str, least: float) -> tuple[str, str]:
    """Names of precision and recall of one of `KINDS` if predictions below the least score are left out."""
    return f"{kind}_precision_from_{least:g}", f"{kind}_recall_from_{least:g}"


def diagnose(
    gold: Sequence[AnnotatedSentence], predicted: Sequence[AnnotatedSentence], rules: TypeRules
) -> dict[str, float | None]:
    """The numbers that `ABOUT` describes and those of `curve_names`, in 0..1; None where one cannot be computed.

    Args:
        gold: a corpus.
        predicted: the same sentences, in the same order, with what a model has found.
        rules: rules of the training data.
    """
    values: dict[str, float | None] = {}
    for kind in KINDS:
        quality = score_quality(gold, predicted, kind)
        values[f"{kind}_calibration_error"] = None if quality is None else quality.calibration_error
        values[f"{kind}_auc"] = None if quality is None else quality.auc
        curve = {} if quality is None else {least: measured for least, *measured in quality.curve}
        for least in LEAST_SCORES:
            precision_recall = curve[least] if curve else (None, None)
            values |= dict(zip(curve_names(kind, least), precision_recall, strict=True))
    unrelated = false_relations(gold, predicted, (0.0,))
    kept = None if unrelated is None else unrelated.at_kept_recall
    values["false_relation_rate"] = None if unrelated is None else unrelated.curve[0].rate
    values["false_relation_rate_at_kept_recall"] = None if kept is None else kept.rate
    for rule in RULES:
        related = relate(predicted, getattr(rules, rule))
        for measure in RELATION_MEASURES:
            counts = find_facts(gold, related, measure).sentence_counts().sum(0)
            values[f"{rule}_{measure}"] = float(micro_f1(counts))
    return values
