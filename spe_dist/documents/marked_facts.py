"""A fact of each sentence, marked as MTB (Baldini Soares et al., 2019) and CP (Peng et al., 2020) mark it.

    [CLS] … [S1] head [E1] … [S2] tail [E2] … [SEP]        or, with a blank head,        … [S1] [BLANK1] [E1] …

The vector of a fact is [state of S1; state of S2]. Markers and blanks are rows of the word embeddings behind the
tokenizer's vocabulary; the four markers are those of the fine-tuning task sentence_relations, which so begins with
trained ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.ragged import IntArray, concat_ranges, offsets_from_lengths
from data_shards.shards.record import Records
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences
from spe_dist.batches.masked_pieces import COLUMNS as MASK_COLUMNS
from spe_dist.batches.masked_pieces import mask_pieces
from spe_dist.batches.packing import as_tensor, lane_digest, pack
from spe_dist.batches.random_draws import FloatArray, lane_generator
from spe_dist.documents.document_facts import DocumentFacts
from spe_dist.documents.mentions import first_mention_rows, mention_pieces
from spe_dist.documents.pooled_vectors import PooledPieces

MARKERS = ("[S1]", "[E1]", "[S2]", "[E2]", "[BLANK1]", "[BLANK2]")
ADDED_PIECES = 4  # that a sequence may have beyond those of its sentence
_BLANK = 4  # the first of them; two kinds of marker come before
_PLACES = 4  # of a piece, in the order of the sequence:
_START_MARKER, _BLANK_PIECE, _PIECE, _END_MARKER = range(_PLACES)


@dataclass(frozen=True)
class MarkedFacts:
    """S sentences, N of which have a fact."""

    packed: PackedSequences  # of S sequences
    sentences: NDArray[np.int64]  # [N] ascending
    facts: DocumentFacts  # of these sentences, [N]
    pooled: PooledPieces  # vectors of the head and the tail of each fact, one after the other, 2 N
    word_pieces: Tensor  # packed index of the first piece of each word that is not blank
    mlm_pieces: Tensor  # [T] packed index of each piece to predict
    mlm_targets: Tensor  # [T]
    record_ids: IntArray  # [lanes, lane_size]
    lanes: Sequence[int]
    sentence_offsets: NDArray[np.int64]  # first sentence of each lane, and S, [lanes + 1]

    def digests(self) -> Tensor:
        """Sums of the lanes' digests, [2]: of record ids; of sequences and of the relations of their facts."""
        digests = [0, 0]
        ids, starts = self.packed.piece_ids.numpy(), self.packed.sequence_starts.numpy()
        facts = np.searchsorted(self.sentences, self.sentence_offsets)
        for number, (lane, records) in enumerate(zip(self.lanes, self.record_ids, strict=True)):
            first, last = starts[self.sentence_offsets[number : number + 2]]
            relations = self.facts.relations[facts[number] : facts[number + 1]]
            digests[0] += lane_digest(lane, [records])
            digests[1] += lane_digest(lane, [ids[first:last], relations])
        return torch.tensor(digests)

    def texts(self, piece: Callable[[int], str], vocab_size: int) -> Iterator[str]:
        """The sequences for a person to read."""
        ids, starts = self.packed.piece_ids.tolist(), self.packed.sequence_starts.tolist()
        for first, last in pairwise(starts):
            yield " ".join(piece(i) if i < vocab_size else MARKERS[i - vocab_size] for i in ids[first + 1 : last - 1])


@dataclass(frozen=True)
class FactMarking:
    """Draws a fact of each sentence and marks it; a pure function of (records, seed, step, lanes).

    Args:
        special: ids of [CLS], [SEP] and [MASK].
        vocab_size: pieces of the vocabulary.
        seed: the run's seed.
        lane_size: records per lane.
        kept_relations: of which facts are drawn.
        blank: share of heads and of tails that a blank stands for.
        masked: share of the other pieces to predict; 0 without masked language modelling.
    """

    special: SpecialIds
    vocab_size: int
    seed: int
    lane_size: int
    kept_relations: NDArray[np.bool_]
    blank: float
    masked: float

    def __call__(self, records: Records, record_ids: IntArray, step: int, lanes: Sequence[int]) -> MarkedFacts:
        """Mark the sentences of some lanes.

        A fact is of a sentence if the first mentions of both its entities are in it.

        Args:
            records: the lanes' records, lane after lane, with the layers of documents.
            record_ids: their ids, [len(lanes), lane_size].
            step: the optimizer step.
            lanes: the lanes.
        """
        starts = records.layers["sentence_starts"]
        first_pieces = records.first_pieces[starts.values + records.word_starts.offsets[starts.row_index()]]
        sentence_offsets = starts.offsets[:: self.lane_size]
        draws = _Draws.draw(self.seed, step, lanes, sentence_offsets, records.pieces.offsets[:: self.lane_size])
        sentences, facts, mentions = self._draw_facts(records, first_pieces, draws.facts)
        first, lengths = mention_pieces(records)
        begins, ends = first[mentions], (first + lengths)[mentions]
        is_blank = draws.blanks[sentences] < self.blank
        hidden = np.zeros(len(records.pieces.values), dtype=np.bool_)
        hidden[concat_ranges(begins[is_blank], lengths[mentions[is_blank]])] = True
        masked = mask_pieces(
            records.pieces.values,
            ~hidden,
            draws.pieces,
            masked=self.masked,
            mask_id=self.special.mask,
            vocab_size=self.vocab_size,
        )
        shown = np.flatnonzero(~hidden)
        marker = self.vocab_size + np.broadcast_to([0, 2], begins.shape)
        parts = [
            (begins, _START_MARKER, marker),
            (ends - 1, _END_MARKER, marker + 1),
            (begins[is_blank], _BLANK_PIECE, self.vocab_size + _BLANK + np.nonzero(is_blank)[1]),
            (shown, _PIECE, masked.piece_ids[shown]),
        ]
        keys = np.concatenate([(_PLACES * piece + place).ravel() for piece, place, _ in parts])
        order = np.argsort(keys, kind="stable")  # mentions that overlap share a place: equal on every machine
        sentence_of_key = np.searchsorted(first_pieces, keys // _PLACES, side="right") - 1
        in_pack, packed = pack(
            np.concatenate([ids.ravel() for *_, ids in parts])[order],
            np.bincount(sentence_of_key, minlength=len(first_pieces)),
            self.special,
        )
        places = np.empty_like(in_pack)
        places[order] = in_pack
        own = np.full(len(hidden), -1)
        own[shown] = places[len(places) - len(shown) :]
        start_markers, words = places[: begins.size], own[records.first_pieces]
        return MarkedFacts(
            packed=packed,
            sentences=sentences,
            facts=facts,
            pooled=PooledPieces.of_mentions(
                np.stack([start_markers, start_markers + 1], axis=1), np.arange(begins.size), begins.size
            ),
            word_pieces=as_tensor(words[words >= 0]),
            mlm_pieces=as_tensor(own[masked.pieces]),
            mlm_targets=as_tensor(records.pieces.values[masked.pieces]),
            record_ids=record_ids,
            lanes=lanes,
            sentence_offsets=sentence_offsets,
        )

    def _draw_facts(
        self, records: Records, first_pieces: IntArray, uniforms: FloatArray
    ) -> tuple[NDArray[np.int64], DocumentFacts, NDArray[np.int64]]:
        """Sentences that have a fact [N], ascending; the one drawn for each; first mentions of head and tail [N, 2]."""
        facts, _ = DocumentFacts.of(records, self.kept_relations)
        mentions = first_mention_rows(records, np.stack([facts.heads, facts.tails], axis=1))
        first, lengths = mention_pieces(records)
        bounds = np.concatenate([first[mentions], (first + lengths - 1)[mentions]], axis=1)
        sentence = np.searchsorted(first_pieces, bounds, side="right") - 1
        usable = np.flatnonzero((sentence == sentence[:, :1]).all(axis=1))
        usable = usable[np.argsort(sentence[usable, 0], kind="stable")]
        counts = np.bincount(sentence[usable, 0], minlength=len(first_pieces))
        drawn = offsets_from_lengths(counts)[:-1] + (uniforms * counts).astype(np.int64)
        chosen = usable[drawn[counts > 0]]
        return np.flatnonzero(counts), facts.take(chosen), mentions[chosen]


@dataclass(frozen=True)
class _Draws:
    """Uniform numbers in [0, 1) of one forward; each purpose has its own place in a lane's stream."""

    facts: FloatArray  # [S]
    blanks: FloatArray  # [S, 2]
    pieces: FloatArray  # [pieces, MASK_COLUMNS]

    @classmethod
    def draw(
        cls, seed: int, step: int, lanes: Sequence[int], sentence_offsets: IntArray, piece_offsets: IntArray
    ) -> _Draws:
        facts, blanks, pieces = [np.empty(0)], [np.empty((0, 2))], [np.empty((0, MASK_COLUMNS))]
        sizes = zip(np.diff(sentence_offsets).tolist(), np.diff(piece_offsets).tolist(), strict=True)
        for lane, (num_sentences, num_pieces) in zip(lanes, sizes, strict=True):
            generator = lane_generator(seed, step, lane)
            facts.append(generator.random(num_sentences))
            blanks.append(generator.random((num_sentences, 2)))
            pieces.append(generator.random((num_pieces, MASK_COLUMNS)))
        return cls(*(np.concatenate(parts) for parts in (facts, blanks, pieces)))


def describe_marked(marking: FactMarking, record: Records, step: int, lane: int, piece: Callable[[int], str]) -> str:
    """One record as a lane of its own would draw it: its sentences with markers, blanks and hidden pieces."""
    marked = replace(marking, lane_size=1)(record, np.zeros((1, 1), dtype=np.int64), step, [lane])
    texts = [f"  marked   {text}" for text in marked.texts(piece, marking.vocab_size)]
    return "\n".join([f"{len(record.pieces.values)} pieces", *texts])
