"""Annotated sentences → arrays, once; then batches of any of them, packed, without a loop over sentences.

A sentence that is too long for the encoder becomes several rows, one for each of its windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.ragged import IntArray, Ragged, concat_ranges, offsets_from_lengths
from data_shards.shards.record import Records
from data_shards.text.word_pieces import GivenWords, WordPieces
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences
from spe_dist.batches.packing import pack
from spe_dist.extraction.model.candidates import Spans
from spe_dist.extraction.model.windows import Window, cut_windows, find_misfits, take_window
from spe_dist.extraction.model.word_shapes import NO_WORD, word_shapes

SPECIALS = 2  # [CLS] and [SEP]
FIRST_IS_HEAD, SECOND_IS_HEAD = 0, 1  # direction of a relation between two spans in the order of the text


@dataclass(frozen=True)
class Labels:
    """The types that a model tells apart, in the order of their classes; the class after the last type is None."""

    entity_types: tuple[str, ...]
    relation_types: tuple[str, ...]

    @classmethod
    def of(cls, sentences: Iterable[AnnotatedSentence]) -> Labels:
        """All types that occur, sorted."""
        sentences = list(sentences)
        entity_types = {entity.type for sentence in sentences for entity in sentence.entities}
        relation_types = {relation.type for sentence in sentences for relation in sentence.relations}
        return cls(tuple(sorted(entity_types)), tuple(sorted(relation_types)))

    @property
    def no_entity(self) -> int:
        """The class of spans that are no entity; the number of entity types, T."""
        return len(self.entity_types)

    @property
    def no_relation(self) -> int:
        """The class of unrelated pairs; two classes (directions) for each of R relation types come before: 2 R."""
        return 2 * len(self.relation_types)


@dataclass(frozen=True)
class LeftOut:
    """Annotation that the model cannot be taught, in numbers; scores count all of it."""

    second_types_of_spans: int = 0
    """Entities whose words are those of another one: a span has one type."""
    overlapping_entities: int = 0
    """Entities that share words with a longer one, which tags do not mark; they are still typed."""
    relations_of_overlapping_entities: int = 0
    second_relations_of_pairs: int = 0
    """A pair has one relation, in one direction."""
    unknown_types: int = 0
    """Entities and relations of types that the labels lack."""
    beyond_windows: int = 0
    """Entities and relations of long sentences that lie in no window."""
    without_pieces: int = 0
    """Entities, and relations between them, of words that have no pieces."""
    entities_with_an_end_without_pieces: int = 0
    """Learned without the words at their ends that have no pieces, and never predicted with them."""

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __str__(self) -> str:
        counts = {field.name.replace("_", " "): getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name} ({count})" for name, count in counts.items() if count) or "nothing"


@dataclass(frozen=True)
class ExtractionBatch:
    """S sentences of one forward, with W words and G gold spans; other sizes as in `batches/batch.py`."""

    packed: PackedSequences
    piece_shapes: torch.Tensor  # [P] how the word of each piece is written (see word_shapes.py)
    word_pieces: torch.Tensor  # [W] packed index of each word's first piece
    word_offsets: NDArray[np.int64]  # [S + 1]
    gold_spans: Spans  # [G, 2] sorted, distinct
    gold_types: NDArray[np.int64]  # [G]
    gold_tagged: NDArray[np.bool_]  # [G] those that tags mark: they do not overlap
    gold_pairs: NDArray[np.int64]  # [Q, 2] first and second gold span of related pairs, sorted, distinct
    gold_relations: NDArray[np.int64]  # [Q] 2 * type + direction

    def to(self, device: torch.device) -> ExtractionBatch:
        """The same with its tensors on a device."""
        return replace(
            self,
            packed=self.packed.to(device),
            piece_shapes=self.piece_shapes.to(device),
            word_pieces=self.word_pieces.to(device),
        )


@dataclass(frozen=True)
class Rows:
    """Windows of sentences as pieces, with what pieces do not tell of their words."""

    records: Records
    shapes: NDArray[np.int64]  # [W] of each word (see word_shapes.py)

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, rows: IntArray, special: SpecialIds) -> ExtractionBatch:
        """Some rows, without annotation, as one packed forward."""
        records = self.records.take(rows)
        shapes = Ragged(self.shapes, self.records.word_starts.offsets).take(rows).values
        places, packed = pack(records.pieces.values, records.pieces.lengths, special)
        piece_shapes = np.full(len(packed.piece_ids), NO_WORD, dtype=np.int64)
        piece_shapes[places] = np.repeat(shapes, records.pieces_per_word)
        nothing = np.zeros(0, dtype=np.int64)
        no_rows = nothing.reshape(0, 2)
        return ExtractionBatch(
            packed=packed,
            piece_shapes=torch.from_numpy(piece_shapes),
            word_pieces=torch.from_numpy(places[records.first_pieces]),
            word_offsets=records.word_starts.offsets,
            gold_spans=no_rows,
            gold_types=nothing,
            gold_tagged=nothing.astype(bool),
            gold_pairs=no_rows,
            gold_relations=nothing,
        )


@dataclass(frozen=True)
class EncodedSentences:
    """Sentences as pieces, with what is annotated as numbers; a row is a window, most often a whole sentence."""

    sentences: Sequence[AnnotatedSentence]
    word_numbers: Ragged  # of the words that have pieces, and so are read, in each sentence
    windows: Sequence[Sequence[Window]]  # of each sentence, over the words that are read; its rows, in this order
    rows: Rows
    entities: Ragged  # rows (word_start, word_end, type, tagged), sorted, one per span
    relations: Ragged  # rows (first, second, 2 * type + direction): entities of the sentence, sorted, one per pair
    special: SpecialIds
    left_out: LeftOut

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def records(self) -> Records:
        """The pieces of each row."""
        return self.rows.records

    @property
    def num_pieces(self) -> NDArray[np.int64]:
        """Pieces of each sentence, [CLS] and [SEP] included."""
        return self.records.pieces.lengths + SPECIALS

    def batch(self, rows: IntArray) -> ExtractionBatch:
        """Some sentences as one packed forward."""
        batch, entities, relations = (
            self.rows.batch(rows, self.special),
            self.entities.take(rows),
            self.relations.take(rows),
        )
        return replace(
            batch,
            gold_spans=entities.values[:, :2] + batch.word_offsets[entities.row_index(), None],
            gold_types=entities.values[:, 2],
            gold_tagged=entities.values[:, 3].astype(bool),
            gold_pairs=relations.values[:, :2] + entities.offsets[relations.row_index(), None],
            gold_relations=relations.values[:, 2],
        )


def encode_sentences(
    sentences: Sequence[AnnotatedSentence], labels: Labels, word_pieces: WordPieces, *, max_pieces: int
) -> EncodedSentences:
    """Sentences as a model of these labels reads them.

    Words without pieces are passed over, as everywhere (see `WordPieces`); a word that fills more than the encoder
    takes keeps its first pieces. Windows overlap by half.

    Args:
        sentences: annotated, or not: words alone are enough to predict.
        labels: types outside of them are left out and counted.
        word_pieces: tokenizer of the encoder.
        max_pieces: longest sequence of the encoder, [CLS] and [SEP] included.
    """
    room = max_pieces - SPECIALS
    given = word_pieces.encode_given([sentence.words for sentence in sentences])
    shapes = word_shapes(
        sentence.words[number] for row, sentence in enumerate(sentences) for number in given.numbers.row(row).tolist()
    )
    windows, rows_read = cut_rows(given.pieces, shapes, given.numbers.offsets, room=room)
    read, without_pieces = _read_sentences(sentences, given)
    per_row = list(zip(read, windows, strict=True))
    rows = [take_window(sentence, window) if len(cut) > 1 else sentence for sentence, cut in per_row for window in cut]
    annotations = [_annotation_of(row, labels) for row in rows]
    misfits = [find_misfits(sentence, cut) for sentence, cut in per_row if len(cut) > 1]
    beyond = LeftOut(beyond_windows=sum(len(lost.entities) + len(lost.relations) for lost in misfits))
    return EncodedSentences(
        sentences=sentences,
        word_numbers=given.numbers,
        windows=windows,
        rows=rows_read,
        entities=_ragged([entities for entities, _, _ in annotations], columns=4),
        relations=_ragged([relations for _, relations, _ in annotations], columns=3),
        special=word_pieces.special_ids,
        left_out=sum((left_out for _, _, left_out in annotations), without_pieces + beyond),
    )


def _read_sentences(
    sentences: Sequence[AnnotatedSentence], given: GivenWords
) -> tuple[list[AnnotatedSentence], LeftOut]:
    """Sentences of the words that have pieces, and what of their annotation is lost with the others."""
    read, left_out = [], LeftOut()
    for number, sentence in enumerate(sentences):
        numbers = given.numbers.row(number)
        if len(numbers) < len(sentence.words):
            sentence, lost = _without_other_words(sentence, numbers)
            left_out += lost
        read.append(sentence)
    return read, left_out


def _without_other_words(sentence: AnnotatedSentence, numbers: IntArray) -> tuple[AnnotatedSentence, LeftOut]:
    places = np.searchsorted(numbers, [[entity.word_start, entity.word_end] for entity in sentence.entities]).tolist()
    kept = [number for number, (start, end) in enumerate(places) if start < end]
    entities = [Entity(places[number][0], places[number][1], sentence.entities[number].type) for number in kept]
    new_number = {number: new for new, number in enumerate(kept)}
    relations = [
        Relation(new_number[relation.head], new_number[relation.tail], relation.type)
        for relation in sentence.relations
        if relation.head in new_number and relation.tail in new_number
    ]
    ends = [(numbers[entity.word_start], numbers[entity.word_end - 1] + 1) for entity in entities]
    lost = LeftOut(
        without_pieces=len(sentence.entities) - len(entities) + len(sentence.relations) - len(relations),
        entities_with_an_end_without_pieces=sum(
            end != (sentence.entities[number].word_start, sentence.entities[number].word_end)
            for number, end in zip(kept, ends, strict=True)
        ),
    )
    words = tuple(sentence.words[number] for number in numbers.tolist())
    return replace(sentence, words=words, entities=tuple(entities), relations=tuple(relations)), lost


def cut_rows(
    pieces: Ragged, shapes: NDArray[np.int64], word_offsets: IntArray, *, room: int
) -> tuple[list[list[Window]], Rows]:
    """Sentences as windows that fit an encoder, and a row for each of them, in the same order.

    Args:
        pieces: pieces of all words of all sentences, [words]; a word has at least one.
        shapes: shapes of all words, [words].
        word_offsets: first word of each sentence, and the number of words, [sentences + 1].
        room: most pieces of a window, without special pieces.
    """
    pieces = _limited(pieces, most=room)
    totals = np.diff(pieces.offsets[word_offsets])
    windows = [
        # Also a sentence without words has a window, and a row.
        [Window(0, end - start)] if total <= room else cut_windows(pieces.lengths[start:end].tolist(), room, room // 2)
        for (start, end), total in zip(pairwise(word_offsets.tolist()), totals.tolist(), strict=True)
    ]
    return windows, _rows_of(pieces, shapes, word_offsets, windows)


def _limited(pieces: Ragged, *, most: int) -> Ragged:
    """The same words with at most `most` pieces each."""
    lengths = np.minimum(pieces.lengths, most)
    return Ragged.from_lengths(pieces.values[concat_ranges(pieces.offsets[:-1], lengths)], lengths)


def _rows_of(
    pieces: Ragged, shapes: NDArray[np.int64], word_offsets: IntArray, windows: Sequence[Sequence[Window]]
) -> Rows:
    """A row for every window.

    Args:
        pieces: pieces of all words.
        shapes: shapes of all words.
        word_offsets: first word of each sentence, and the number of words, [sentences + 1].
        windows: windows of each sentence.
    """
    starts = [first + window.word_start for first, cut in zip(word_offsets, windows, strict=False) for window in cut]
    lengths = np.array([window.word_end - window.word_start for cut in windows for window in cut], dtype=np.int64)
    numbers = concat_ranges(np.array(starts, dtype=np.int64), lengths)
    words = pieces.take(numbers)
    row_offsets = offsets_from_lengths(lengths)
    piece_offsets = words.offsets[row_offsets]
    first_pieces = np.repeat(piece_offsets[:-1], lengths)
    records = Records(Ragged(words.values, piece_offsets), Ragged(words.offsets[:-1] - first_pieces, row_offsets))
    return Rows(records, shapes[numbers])


def _annotation_of(sentence: AnnotatedSentence, labels: Labels) -> tuple[list, list, LeftOut]:
    """Entities (word_start, word_end, type, tagged), relations (first, second, class), and what they lack."""
    types = {name: number for number, name in enumerate(labels.entity_types)}
    spans: dict[tuple[int, int], int] = {}
    known = [entity for entity in sentence.entities if entity.type in types]
    for entity in known:
        spans.setdefault((entity.word_start, entity.word_end), types[entity.type])
    places = {span: place for place, span in enumerate(sorted(spans))}
    tagged = _longest_without_overlap(spans)
    relations, left_out = _relations_of(sentence, labels, places)
    left_out += LeftOut(
        second_types_of_spans=len(known) - len(spans),
        overlapping_entities=len(spans) - len(tagged),
        unknown_types=len(sentence.entities) - len(known),
    )
    return [(*span, spans[span], span in tagged) for span in places], relations, left_out


def _relations_of(
    sentence: AnnotatedSentence, labels: Labels, places: dict[tuple[int, int], int]
) -> tuple[list[tuple[int, int, int]], LeftOut]:
    types = {name: number for number, name in enumerate(labels.relation_types)}
    spans = [(entity.word_start, entity.word_end) for entity in sentence.entities]
    classes: dict[tuple[int, int], int] = {}
    overlapping = unknown = second = 0
    for relation in sentence.relations:
        head, tail = spans[relation.head], spans[relation.tail]
        direction = FIRST_IS_HEAD if head < tail else SECOND_IS_HEAD
        first, second_span = sorted((head, tail))
        if relation.type not in types or head not in places or tail not in places:
            unknown += 1
        elif first[1] > second_span[0]:
            overlapping += 1
        else:
            pair, label = (places[first], places[second_span]), 2 * types[relation.type] + direction
            second += classes.setdefault(pair, label) != label
    left_out = LeftOut(
        relations_of_overlapping_entities=overlapping, second_relations_of_pairs=second, unknown_types=unknown
    )
    return [(*pair, classes[pair]) for pair in sorted(classes)], left_out


def _longest_without_overlap(spans: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Keep the longest of spans that overlap, and the first of equally long ones."""
    kept: set[tuple[int, int]] = set()
    for start, end in sorted(spans, key=lambda span: (span[0] - span[1], span)):
        if all(end <= other[0] or other[1] <= start for other in kept):
            kept.add((start, end))
    return kept


def _ragged(rows: Sequence[Sequence[tuple]], *, columns: int) -> Ragged:
    values = [value for row in rows for value in row]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return Ragged.from_lengths(np.array(values, dtype=np.int64).reshape(-1, columns), lengths)
