"""`spe predict` with a model of sentence relations: files of its formats, with or without labels → relations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from spe_dist.finetuning.predict_items import load_for_prediction, predict_items
from spe_dist.sentence_relations.formats import Reading, parse_tagged, read_sentences
from spe_dist.sentence_relations.marked_sentence import MarkedSentence
from spe_dist.sentence_relations.model import RelationLabels, SentenceRelationModel
from spe_dist.sentence_relations.scoring import SentenceRelationsScoring
from spe_dist.sentence_relations.task import STEM, encode_for, predict


def predicted(
    folder: Path, files: list[str], text: str | None, *, device: str | None, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Each sentence in CP's format with its relation, or what the training data call no relation, and a score.

    Args:
        folder: of the model.
        files: to read one after another; `-` is standard input.
        text: a sentence with <e1>…</e1> and <e2>…</e2> to read instead.
        device: to compute on.
        batch_size: most sentences of a forward.

    Raises:
        UserError: the model or a file cannot be read.
    """
    model, word_pieces, place = load_for_prediction(
        folder, STEM, TypeAdapter(RelationLabels).validate_python, SentenceRelationModel, device
    )
    labels: RelationLabels = model.labels
    reading = Reading(labels.language, (), labelled=False)
    sentences = [parse_tagged(text, reading)] if text is not None else []
    for file in files:
        sentences += read_sentences(Path(file), reading)[0]

    def find(portion: Any) -> list[MarkedSentence]:
        return predict(model, encode_for(portion, model, word_pieces), place, batch_size=batch_size)

    def to_json(sentence: MarkedSentence) -> dict[str, Any]:
        return SentenceRelationsScoring().to_json(sentence._replace(relation=sentence.relation or labels.no_relation))

    yield from predict_items(sentences, find, to_json)
