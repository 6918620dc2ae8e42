"""How predictions of entities and relations are kept, scored and reported."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity
from data_shards.annotated.unified import sentence_fields
from data_shards.errors import UserError
from data_shards.files import write_atomically
from data_shards.input.json_lines import parse_object
from spe_dist.extraction.model.constraints import Triple
from spe_dist.extraction.scores.group_report import GROUPINGS, draw_groups, group_table
from spe_dist.extraction.scores.run_details import RunDetails, find_details
from spe_dist.extraction.scores.scoring import MEASURES, facts_of, find_facts, relation_key
from spe_dist.extraction.scores.sentence_lines import sentence_from_json
from spe_dist.extraction.scores.trust_report import draw_curves, draw_reliability, trust_parts
from spe_dist.extraction.scores.type_rules import TypeRules
from spe_dist.finetuning.measures import Contributions, micro_f1
from spe_dist.finetuning.predictions import FOLDER, RunPredictions
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.finetuning.scoring import Scoring, ShownFacts, ShownItem

_RULES = "rules-{}.json"


@dataclass(frozen=True)
class JointScoring(Scoring[AnnotatedSentence]):
    """Micro F1 of entities and of relations; RUN/predictions/rules-N.json keeps what training data say of types.

    Args:
        symmetric: types of relations whose direction means nothing.
    """

    symmetric: tuple[str, ...] = ()

    items = "sentences"
    title = "micro F1"
    measures = dict.fromkeys(MEASURES, micro_f1)
    selection_text = "entity_f1 + relation_strict_f1"
    panels_note = (
        "F1 by group: mean over seeds, whiskers are their standard deviation (none for a single seed); "
        "the number below a group: its gold facts"
    )

    def to_json(self, item: AnnotatedSentence) -> dict[str, Any]:
        return sentence_fields(item)

    def from_json(self, values: dict[str, Any], number: int) -> AnnotatedSentence:
        return sentence_from_json(values, number)

    def contributions(
        self, gold: Sequence[AnnotatedSentence], predicted: Sequence[AnnotatedSentence]
    ) -> dict[str, Contributions]:
        return {
            measure: find_facts(gold, predicted, measure, symmetric=self.symmetric).sentence_counts()  # [sentences, 3]
            for measure in MEASURES
        }

    def selection_score(self, scores: Mapping[str, float]) -> float:
        return scores["entity_f1"] + scores["relation_strict_f1"]

    def is_defined(self, measure: str, sums: NDArray[np.int64]) -> bool:
        return bool(sums[2] > 0)

    def check_same_gold(self, first: Sequence[AnnotatedSentence], second: Sequence[AnnotatedSentence]) -> None:
        if len(first) != len(second):
            raise UserError(f"the runs have different gold data: {len(first)} and {len(second)} sentences")
        for number, (one, other) in enumerate(zip(first, second, strict=True), start=1):
            kinds = {"words": one.words == other.words}
            kinds["entities"] = set(one.entities) == set(other.entities)
            relations = (facts_of(sentence, "relation_strict_f1").keys() for sentence in (one, other))
            kinds["relations"] = next(relations) == next(relations)
            for kind, equal in kinds.items():
                if not equal:
                    raise UserError(
                        f"the runs have different gold data: sentence {number} has other {kind}; "
                        "scores can only be compared on the same data"
                    )

    def with_symmetric(self, types: Sequence[str], gold: Sequence[AnnotatedSentence]) -> JointScoring:
        known = {relation.type for sentence in gold for relation in sentence.relations}
        for name in types:
            if name not in known:
                raise UserError(
                    f"--symmetric {name}: the gold data have no such relations, only {', '.join(sorted(known))}"
                )
        return replace(self, symmetric=tuple(types))

    def shown(self, item: AnnotatedSentence) -> ShownItem:
        """Relations are right or wrong as `relation_strict_f1` says."""
        names = [_name(item.words, entity) for entity in item.entities]
        relations = {
            relation_key(item, one, strict=True, symmetric=self.symmetric): (
                f"{names[one.head]} → {one.type} → {names[one.tail]}"
            )
            for one in item.relations
        }
        entities: ShownFacts = dict(zip(item.entities, names, strict=True))
        return ShownItem(" ".join(item.words), {"relations": relations, "entities": entities})

    def training_facts(self, folder: Path, seed: int) -> TypeRules | None:
        path = folder / _RULES.format(seed)
        if not path.is_file():
            return None
        try:
            rules = {name: tuple(map(_triple, triples)) for name, triples in parse_object(path.read_text()).items()}
            return TypeRules(**rules)
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: {error}: remove it, or fine-tune again") from error

    def details(
        self, run: RunPredictions[AnnotatedSentence], contributions: Mapping[str, Contributions], resamples: int
    ) -> RunDetails:
        return find_details(run, contributions, self.symmetric, resamples)

    def tables(self, runs: Sequence[ScoredRun]) -> list[str]:
        return [
            *(part for run in runs for part in trust_parts(run)),
            *(group_table(runs, measure) for measure in MEASURES),
        ]

    def panels(self) -> list[Callable[[Any, Sequence[ScoredRun]], None]]:
        groups = [partial(draw_groups, measure="relation_strict_f1", grouping=grouping) for grouping in GROUPINGS]
        return [partial(draw_groups, measure="entity_f1", grouping="by_type"), *groups, draw_reliability, draw_curves]

    def run_json(self, run: ScoredRun) -> dict[str, Any]:
        details: RunDetails = run.details
        return {
            "score_quality": {kind: [asdict(one) for one in seeds] for kind, seeds in details.quality.items()},
            "false_relations": [asdict(one) for one in details.false_relations],
            "rules": {rule: asdict(of) for rule, of in details.rules.items()},
            "seeds": {
                str(seed): {measure: asdict(details.scores[measure][row]) for measure in MEASURES}
                for row, seed in enumerate(run.seeds)
            },
        }

    def about_json(self) -> dict[str, Any]:
        return {"symmetric": list(self.symmetric)}


def _name(words: tuple[str, ...], entity: Entity) -> str:
    """Rome (place); of words that the sentence has more than once, also which of them: Rome (place, 2 of 3)."""
    size = entity.word_end - entity.word_start
    name = words[entity.word_start : entity.word_end]
    starts = [start for start in range(len(words)) if words[start : start + size] == name]
    which = f", {starts.index(entity.word_start) + 1} of {len(starts)}" if len(starts) > 1 else ""
    return f"{' '.join(name)} ({entity.type}{which})"


def write_rules(run: Path, seed: int, rules: TypeRules) -> None:
    """Write the rules that a seed's training data give, for `JointScoring.training_facts`."""
    write_atomically(run / FOLDER / _RULES.format(seed), (json.dumps(asdict(rules)) + "\n").encode())


def _triple(value: list[object]) -> Triple:
    if not all(isinstance(part, str) for part in value):
        raise ValueError(f"{value!r} is not three strings")
    head, relation, tail = map(str, value)
    return head, relation, tail
