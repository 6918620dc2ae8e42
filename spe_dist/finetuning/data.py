"""The annotated sentences of a fine-tuning: what it learns from, chooses the epoch by, and is tested on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.annotated.read import read_annotated
from data_shards.errors import UserError
from data_shards.input.stream import STANDARD_INPUT
from data_shards.text.offset_units import OffsetUnit
from spe_dist.extraction.data.data_warnings import data_warnings
from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import Labels, LeftOut
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.folder import DEV
from spe_dist.finetuning.start import language_of_start
from spe_dist.finetuning.subsets import choose_fraction

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """What a fine-tuning reads.

    Args:
        labels: of the whole training data.
        constraints: of the sentences to learn from.
        train: the sentences to learn from.
        dev: decides which epoch is the best.
        test: looked at when training is over.
        chosen: numbers of `train` among the training data.
        available: sentences of the training data.
    """

    labels: Labels
    constraints: Constraints
    train: list[AnnotatedSentence]
    dev: list[AnnotatedSentence]
    test: list[AnnotatedSentence] | None
    chosen: list[int]
    available: int


def read_data(config: FinetuneConfig) -> Data:
    """Read what the configuration names; labels are those of the whole training data.

    Raises:
        UserError: a file cannot be read, or holds no sentence.
    """
    language = language_of_start(config)
    read = partial(_read, language=language, offsets=config.data.offsets)
    train, dev = read(config.data.train), read(config.data.dev)
    test = None if config.data.test is None else read(config.data.test)
    labels = Labels.of(train)
    if not labels.entity_types:
        raise UserError(f"{config.data.train} holds no entities: there is nothing to learn from it")
    chosen = choose_fraction(train, config.data.fraction, config.run.seed)
    learned = [train[number] for number in chosen]
    constraints = Constraints.of(learned, types=config.model.type_constraints)
    return Data(labels, constraints, learned, dev, test, chosen, len(train))


def about_data(data: Data) -> list[str]:
    """How many sentences, which types, and what is odd, for people."""
    part = "" if len(data.train) == data.available else f" (of {data.available})"
    test = "no test sentences" if data.test is None else f"{len(data.test)} to test"
    judged = {DEV: data.dev} | ({} if data.test is None else {"test": data.test})
    return [
        f"{len(data.train)} sentences to learn from{part}, {len(data.dev)} to choose the best epoch, {test}",
        f"entity types: {', '.join(map(repr, data.labels.entity_types)) or 'none'}",
        f"relation types: {', '.join(map(repr, data.labels.relation_types)) or 'none'}",
        *data_warnings(data.labels, data.train, judged),
    ]


def about_left_out(left_out: LeftOut, detector: str, constraints: Constraints) -> str:
    """What is annotated in the training data and not learned, for people.

    Args:
        left_out: by what all models have in common.
        detector: of the model; scores of spans, unlike tags, learn entities that overlap.
        constraints: of the training data.
    """
    hint = ""
    if constraints.overlapping and detector == "spans":
        left_out = replace(left_out, overlapping_entities=0)
    elif constraints.overlapping:
        hint = " (model.detector spans finds entities that overlap)"
    return f"of the training data, the model cannot learn: {left_out}{hint}"


def _read(path: str, language: str, offsets: OffsetUnit) -> list[AnnotatedSentence]:
    if path == STANDARD_INPUT:
        raise UserError("fine-tuning reads its data more than once, which standard input (-) cannot be: name a file")
    sentences, report = read_annotated(Path(path), language=language, offsets=offsets)
    for line in report.lines():
        LOGGER.info(line)
    if not sentences:
        raise UserError(f"{path} holds no sentences")
    return sentences
