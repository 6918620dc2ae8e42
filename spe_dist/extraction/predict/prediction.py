"""Encoded sentences → the same sentences with what a model finds in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from queue import SimpleQueue
from threading import Barrier
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.ragged import IntArray
from data_shards.shards.record import Records
from data_shards.tokenizer.files import SpecialIds
from spe_dist.extraction.model.candidates import sentences_of
from spe_dist.extraction.model.encoded_sentences import SECOND_IS_HEAD, SPECIALS, EncodedSentences, Labels, Rows
from spe_dist.extraction.model.extractor_model import Extracted, ExtractorModel
from spe_dist.extraction.model.windows import Window, stitch
from spe_dist.extraction.predict.extracted_text import ExtractedEntity, ExtractedRelation, ExtractedText
from spe_dist.kernels import compiled

BATCH_SIZE = 256  # products of matrices of few rows are slow; memory is bounded by the pieces
MOST_PIECES = 1 << 14  # of a forward: what long sentences take of memory grows with the square of their length
_Scored = TypeVar("_Scored", AnnotatedSentence, ExtractedText)
_FORWARDS_AT_ONCE = 4  # at most, on a CPU: two of one thread each are faster than one of two, but take more memory


@dataclass
class Found:
    """Entities and relations of a row, counted in its words and entities, with scores."""

    entities: list[Entity] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)


def predict(
    model: ExtractorModel, encoded: EncodedSentences, *, device: torch.device, batch_size: int = BATCH_SIZE
) -> list[AnnotatedSentence]:
    """What a model finds; words, documents and numbers are those of the sentences, their annotation is not looked at.

    Args:
        model: in evaluation mode, on the device.
        encoded: by the model's labels and tokenizer.
        device: to compute on.
        batch_size: most rows of a forward; changes no result but by rounding.
    """
    batches = batches_by_length(encoded.records, batch_size=batch_size)
    rows = iter(find_in_rows(model, encoded.rows, encoded.special, batches, device=device))
    predicted = []
    for number, (sentence, windows) in enumerate(zip(encoded.sentences, encoded.windows, strict=True)):
        found = put_together(sentence, windows, list(islice(rows, len(windows))))
        read = encoded.word_numbers.row(number).tolist()
        entities = [
            replace(entity, word_start=read[entity.word_start], word_end=read[entity.word_end - 1] + 1)
            for entity in found.entities
        ]
        predicted.append(replace(found, entities=tuple(entities)))
    return predicted


def find_in_rows(
    model: ExtractorModel,
    rows: Rows,
    special: SpecialIds,
    batches: Iterable[IntArray],
    *,
    device: torch.device,
    told: Callable[[int], object] | None = None,
) -> list[Found]:
    """What a model finds in each row.

    Args:
        model: in evaluation mode, on the device.
        rows: rows of the model's tokenizer, none longer than its encoder takes.
        special: ids of the same tokenizer.
        batches: which rows make up each forward; all of them, each once.
        device: to compute on.
        told: called with the number of rows of each finished forward pass, by any thread.

    Returns:
        In the order of the rows.
    """
    found = [Found() for _ in range(len(rows))]

    def find(numbers: IntArray) -> None:
        batch = rows.batch(numbers, special)
        of_batch = _per_sentence(model.extract(batch.to(device)), batch.word_offsets, model.labels)
        for row, of_row in zip(numbers.tolist(), of_batch, strict=True):
            found[row] = of_row
        if told is not None:
            told(len(numbers))

    _in_each(list(batches), find, device)
    return found


def _in_each(batches: Sequence[IntArray], find: Callable[[IntArray], None], device: torch.device) -> None:
    """Go through the batches in any order; on a CPU its threads share them, and not the products of each."""
    threads = torch.get_num_threads()
    workers = min(threads, len(batches), _FORWARDS_AT_ONCE)
    if device.type != "cpu" or workers <= 1:
        for rows in batches:
            find(rows)
        return
    compiled.body_for(device)  # built, or said to be missing, once
    shares: SimpleQueue[int] = SimpleQueue()
    for worker in range(workers):
        shares.put(threads // workers + (worker < threads % workers))
    started = Barrier(workers + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread that has not asked yet would take over what others set later
        torch.set_num_threads(shares.get())
        started.wait()

    pool = ThreadPoolExecutor(workers, "find-in-batch", initializer=start)
    try:
        done = pool.map(find, reversed(batches))  # the longest first: little is waited for at the end
        started.wait()
        torch.set_num_threads(threads)  # torch gives what was set last to threads to come, whoever starts them
        for _ in done:  # raises what a batch has raised
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def batches_by_length(
    records: Records, *, batch_size: int, most_pieces: int = MOST_PIECES
) -> Iterator[NDArray[np.int64]]:
    """Records in order of length, cut into batches.

    Args:
        records: any.
        batch_size: most records of a batch.
        most_pieces: of a batch, if each of its records was as long as the longest; a longer record comes alone.
    """
    lengths = records.pieces.lengths + SPECIALS
    order = np.argsort(lengths, kind="stable")
    first = 0
    while first < len(order):
        longest = lengths[order[first : first + batch_size]]
        fitting = int(np.searchsorted(longest * np.arange(1, 1 + len(longest)), most_pieces, side="right"))
        yield order[first : first + max(fitting, 1)]
        first += max(fitting, 1)


def put_together(sentence: AnnotatedSentence, windows: Sequence[Window], parts: Sequence[Found]) -> AnnotatedSentence:
    """A sentence with what was found in its windows (see `windows.stitch`); its annotation is not looked at."""
    found = [AnnotatedSentence((), tuple(part.entities), tuple(part.relations)) for part in parts]
    if len(found) > 1:
        return stitch(sentence, windows, found)
    return replace(sentence, entities=found[0].entities, relations=found[0].relations)


def scored_at_least(found: _Scored, entities: float, relations: float) -> _Scored:
    """What was found without what has a lower score; without an argument there is no relation.

    Args:
        found: a prediction.
        entities: least score of an entity.
        relations: least score of a relation.
    """
    if not (entities or relations):
        return found
    kept = [number for number, entity in enumerate(found.entities) if score_of(entity) >= entities]
    numbers = {number: new for new, number in enumerate(kept)}
    return replace(
        found,
        entities=tuple(found.entities[number] for number in kept),
        relations=tuple(
            replace(relation, head=numbers[relation.head], tail=numbers[relation.tail])
            for relation in found.relations
            if score_of(relation) >= relations and relation.head in numbers and relation.tail in numbers
        ),
    )


def score_of(found: Entity | Relation | ExtractedEntity | ExtractedRelation) -> float:
    """The score, which every prediction has."""
    assert found.score is not None
    return found.score


def _per_sentence(extracted: Extracted, word_offsets: np.ndarray, labels: Labels) -> list[Found]:
    """What was found in each sentence of a batch, counted in its own words and entities."""
    found = [Found() for _ in range(len(word_offsets) - 1)]
    sentences = sentences_of(extracted.spans, word_offsets)
    first_entities = np.searchsorted(sentences, sentences)  # of the entity's sentence, [N]
    spans = extracted.spans - word_offsets[sentences, None]
    entities = (sentences, spans, extracted.types, extracted.entity_scores)
    for sentence, (start, end), kind, score in zip(*(column.tolist() for column in entities), strict=True):
        found[sentence].entities.append(Entity(start, end, labels.entity_types[kind], score))
    pairs = extracted.pairs - first_entities[extracted.pairs]
    relations = (sentences[extracted.pairs[:, 0]], pairs, extracted.relations, extracted.relation_scores)
    for sentence, (first, second), label, score in zip(*(column.tolist() for column in relations), strict=True):
        head, tail = (second, first) if label % 2 == SECOND_IS_HEAD else (first, second)
        found[sentence].relations.append(Relation(head, tail, labels.relation_types[label // 2], score))
    return found
