"""What the seeds of a run predicted, and what is true: files that can be scored again at any time.

    RUN/predictions/gold.jsonl      the test data
    RUN/predictions/seed-1.jsonl    the same sentences in the same order, with what the model of seed 1 found
    RUN/predictions/rules-1.json    what its training data say about types alone, to hold the model against

A line is a sentence: `{"tokens": […], "entities": [{"type", "start", "end"}, …],
"relations": [{"type", "head", "tail"}, …]}`; `end` is one past the last token, `head` and `tail` are numbers of
entities, and what is predicted has a `score`. Further fields are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.annotated.unified import json_lines
from data_shards.errors import UserError
from data_shards.files import write_atomically
from data_shards.json_lines import parse_object
from spe_dist.extraction.model.constraints import Triple
from spe_dist.extraction.scores.type_rules import TypeRules

FOLDER = "predictions"
GOLD = "gold.jsonl"
_RULES = "rules-{}.json"
_SEED = re.compile(r"seed-(\d+)\.jsonl")


@dataclass(frozen=True)
class RunPredictions:
    """The test data of a run, and what each of its seeds predicted for them.

    Args:
        name: of the run.
        gold: the test data.
        by_seed: seed → the same sentences with predicted entities and relations; in the order of the seeds.
        rules: seed → rules of its training data; none of runs that have not kept them.
    """

    name: str
    gold: list[AnnotatedSentence]
    by_seed: dict[int, list[AnnotatedSentence]]
    rules: dict[int, TypeRules] = field(default_factory=dict)


def write_gold(run: Path, sentences: Sequence[AnnotatedSentence]) -> None:
    """Write the test data of a run."""
    write_atomically(_folder(run) / GOLD, json_lines(sentences, places=False))


def write_predictions(run: Path, seed: int, sentences: Sequence[AnnotatedSentence]) -> None:
    """Write what the model of a seed predicted: the sentences of the test data, in their order."""
    write_atomically(_folder(run) / f"seed-{seed}.jsonl", json_lines(sentences, places=False))


def write_rules(run: Path, seed: int, rules: TypeRules) -> None:
    """Write the rules that a seed's training data give."""
    write_atomically(run / FOLDER / _RULES.format(seed), (json.dumps(asdict(rules)) + "\n").encode())


def read_run(run: Path) -> RunPredictions:
    """Read the test data of a run and the predictions of all its seeds.

    Raises:
        UserError: there are none, or a line is damaged.
    """
    folder = run / FOLDER
    found = [(match, path) for path in folder.glob("*.jsonl") if (match := _SEED.fullmatch(path.name))]
    if not found or not (folder / GOLD).is_file():
        raise UserError(
            f"no predictions in {run}: fine-tuning writes {FOLDER}/{GOLD} and {FOLDER}/seed-*.jsonl into a run's folder"
        )
    paths = dict(sorted((int(match[1]), path) for match, path in found))
    return RunPredictions(
        run.resolve().name,
        read_sentences(folder / GOLD),
        {seed: read_sentences(path) for seed, path in paths.items()},
        {seed: _read_rules(path) for seed in paths if (path := folder / _RULES.format(seed)).is_file()},
    )


def read_sentences(path: Path) -> list[AnnotatedSentence]:
    """Read a file of annotated sentences.

    Raises:
        UserError: a line is none.
    """
    sentences = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                sentences.append(_sentence(parse_object(line.decode()), number - 1))
            except (ValueError, KeyError, TypeError) as error:
                what = f"no field {error}" if isinstance(error, KeyError) else str(error)
                raise UserError(f"{path}, line {number}: {what}: write the file again") from error
    return sentences


def _read_rules(path: Path) -> TypeRules:
    try:
        rules = {name: tuple(map(_triple, triples)) for name, triples in parse_object(path.read_text()).items()}
        return TypeRules(**rules)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {error}: remove it, or fine-tune again") from error


def _triple(value: list[object]) -> Triple:
    head, relation, tail = map(_text, value)
    return head, relation, tail


def _folder(run: Path) -> Path:
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _sentence(document: dict[str, Any], number: int) -> AnnotatedSentence:
    words = tuple(map(_text, document["tokens"]))
    entities = tuple(
        Entity(_number(entity["start"]), _number(entity["end"]), _text(entity["type"]), _score(entity))
        for entity in document["entities"]
    )
    relations = tuple(
        Relation(_number(relation["head"]), _number(relation["tail"]), _text(relation["type"]), _score(relation))
        for relation in document["relations"]
    )
    for entity in entities:
        if not 0 <= entity.word_start < entity.word_end <= len(words):
            raise ValueError(f"an entity from {entity.word_start} to {entity.word_end} in {len(words)} tokens")
    for relation in relations:
        if not (0 <= relation.head < len(entities) and 0 <= relation.tail < len(entities)):
            raise ValueError(f"a relation of entities {relation.head} and {relation.tail}; there are {len(entities)}")
    return AnnotatedSentence(words, entities, relations, number=number)


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _score(found: dict[str, Any]) -> float | None:
    score = found.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise ValueError(f"score {score!r} is not a number")
    return score


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string")
    return value
