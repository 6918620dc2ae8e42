"""Records → one packed forward of SPE, in whole-array steps (no loop over records).

draw        random numbers of each lane                       random_draws.py
spans       two spans per sentence, five spans in all         spans.py
permute     up to two spans, in place                         permutations.py   (SPO)
hide        inner pieces of words                             masking.py        (TBO)
views       pair view and context view                        views.py          (CSPO)
pack        [CLS] pieces [SEP], all pair views, then all context views
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.ragged import IntArray, concat_ranges, offsets_from_lengths
from data_shards.record import Records
from spe_dist.batches import spans as span_pairs
from spe_dist.batches.batch import PackedSequences, SpanPairBatch
from spe_dist.batches.masking import NOTHING_HIDDEN, HiddenPieces, hide_pieces
from spe_dist.batches.permutations import (
    NOTHING_PERMUTED,
    PermutedSpans,
    global_word_starts,
    permute_spans,
    random_columns,
)
from spe_dist.batches.random_draws import RandomDraws
from spe_dist.batches.views import CONTEXT_VIEW, PAIR_VIEW, pieces_in_pair, show_views

TERMS = ("tbo_pair", "tbo_context", "spo_pair", "spo_context", "cspo")


@dataclass(frozen=True)
class SpecialPieces:
    """Ids that frame and hide a sentence."""

    cls: int
    sep: int
    mask: int


@dataclass(frozen=True)
class DrawnSentences:
    """What was drawn for the sentences of a forward, before packing; `spe shards show` prints it."""

    records: Records  # permuted sentences
    word_boundaries: NDArray[np.int64]  # [R, 6]
    permuted: PermutedSpans
    hidden: HiddenPieces
    in_pair: NDArray[np.bool_]  # [pieces]
    pair_ids: NDArray[np.int64]  # [pieces] ids of the pair view, hidden pieces masked
    context_ids: NDArray[np.int64]  # [pieces]


@dataclass(frozen=True)
class SpanPairCollate:
    """Makes the batches of SPE; a pure function of (records, seed, step, lanes).

    Args:
        special: ids of [CLS], [SEP] and [MASK].
        seed: the run's seed.
        lane_size: records per lane.
        geometric_p: of the span lengths.
        max_span_words: longest span.
        tbo_share: TBO's budget as a share of a sentence's pieces; 0 hides nothing.
        tbo_cap: largest TBO budget of a sentence.
        spo_spans: spans permuted per sentence, at most; 0 permutes nothing.
    """

    special: SpecialPieces
    seed: int
    lane_size: int
    geometric_p: float
    max_span_words: int
    tbo_share: float
    tbo_cap: int
    spo_spans: int

    def __call__(self, records: Records, record_ids: IntArray, step: int, lanes: Sequence[int]) -> SpanPairBatch:
        """The forward of some lanes of a step.

        Args:
            records: the lanes' records, lane after lane.
            record_ids: their ids, [len(lanes), lane_size].
            step: the optimizer step.
            lanes: the lanes; none gives a batch of no records, on which every head still runs.
        """
        drawn = self.draw(records, step, lanes)
        digests = self.digests(drawn, record_ids, lanes)
        return replace(self.batch(drawn), record_ids=_tensor(record_ids.reshape(-1)), digests=digests)

    def batch(self, drawn: DrawnSentences) -> SpanPairBatch:
        """Pack both views of drawn sentences and point at what is to be predicted in them."""
        piece_places, packed = self._pack(drawn)
        word_offsets, num_words = drawn.records.word_starts.offsets[:-1], len(drawn.records.word_starts.values)
        word_boundaries = drawn.word_boundaries + word_offsets[:, None]
        both = np.concatenate([word_boundaries, word_boundaries + num_words])
        word_places = piece_places[:, global_word_starts(drawn.records)]
        hidden, permuted = drawn.hidden, drawn.permuted
        tbo_views = np.where(drawn.in_pair[hidden.pieces], PAIR_VIEW, CONTEXT_VIEW)
        is_pair = (permuted.spans == span_pairs.FIRST) | (permuted.spans == span_pairs.SECOND)
        spo_views = np.where(is_pair, PAIR_VIEW, CONTEXT_VIEW)
        sequences = permuted.records + spo_views * len(drawn.records)
        return SpanPairBatch(
            packed=packed,
            word_pieces=_tensor(word_places.reshape(-1)),
            word_spans=_tensor(np.stack([both[:, :-1], both[:, 1:]], axis=2)),
            tbo_anchors=_tensor(piece_places[tbo_views, hidden.anchors]),
            tbo_offsets=_tensor(hidden.offsets),
            tbo_targets=_tensor(drawn.records.pieces.values[hidden.pieces]),
            tbo_views=_tensor(tbo_views),
            spo_spans=_tensor(sequences * span_pairs.NUM_SPANS + permuted.spans),
            spo_classes=_tensor(permuted.classes),
            spo_views=_tensor(spo_views),
            counts=_tensor(np.array([*_per_view(tbo_views), *_per_view(spo_views), len(drawn.records)])),
            record_ids=torch.full((len(drawn.records),), -1),
            digests=torch.zeros(2, dtype=torch.int64),
        )

    def draw(self, records: Records, step: int, lanes: Sequence[int]) -> DrawnSentences:
        """Draw spans, permutations and masks for the records of some lanes."""
        num_words = records.word_starts.lengths
        draws = RandomDraws.draw(
            seed=self.seed,
            step=step,
            lanes=lanes,
            lane_size=self.lane_size,
            num_words=num_words,
            span_columns=span_pairs.COLUMNS,
            permutation_columns=random_columns(self.spo_spans),
        )
        word_boundaries = span_pairs.sample_span_pairs(
            num_words, draws.spans, geometric_p=self.geometric_p, max_words=self.max_span_words
        )
        records, permuted = permute_spans(records, word_boundaries, draws.permutations, max_spans=self.spo_spans)
        hidden = hide_pieces(records, draws.words, share=self.tbo_share, cap=self.tbo_cap)
        return self.show(records, word_boundaries, permuted, hidden)

    def show(
        self,
        records: Records,
        word_boundaries: NDArray[np.int64],
        permuted: PermutedSpans = NOTHING_PERMUTED,
        hidden: HiddenPieces = NOTHING_HIDDEN,
    ) -> DrawnSentences:
        """Make both views of sentences with given spans."""
        in_pair = pieces_in_pair(records, word_boundaries)
        pair_ids, context_ids = show_views(records.pieces.values, in_pair, mask_id=self.special.mask)
        pair_ids[hidden.pieces] = context_ids[hidden.pieces] = self.special.mask
        return DrawnSentences(records, word_boundaries, permuted, hidden, in_pair, pair_ids, context_ids)

    def _pack(self, drawn: DrawnSentences) -> tuple[NDArray[np.int64], PackedSequences]:
        """The packed sequences, and where each piece of each record went in both views, [2, pieces]."""
        lengths = np.tile(drawn.records.pieces.lengths + 2, 2)
        starts = offsets_from_lengths(lengths)
        ids = np.empty(starts[-1], dtype=np.int64)
        ids[starts[:-1]], ids[starts[1:] - 1] = self.special.cls, self.special.sep
        places = concat_ranges(starts[:-1] + 1, lengths - 2).reshape(2, -1)
        ids[places[PAIR_VIEW]], ids[places[CONTEXT_VIEW]] = drawn.pair_ids, drawn.context_ids
        packed = PackedSequences(
            piece_ids=_tensor(ids),
            positions=_tensor(concat_ranges(np.zeros_like(lengths), lengths)),
            sequence_starts=torch.from_numpy(starts.astype(np.int32)),
            longest=int(lengths.max(initial=0)),
        )
        return places, packed

    def digests(self, drawn: DrawnSentences, record_ids: IntArray, lanes: Sequence[int]) -> Tensor:
        """Sums of the lanes' digests, which do not depend on who holds which lane, [2]."""
        ends = drawn.records.pieces.offsets[:: self.lane_size]
        records = sum(_hash(lane, ids) for lane, ids in zip(lanes, record_ids, strict=True))
        masks = 0
        for row, lane in enumerate(lanes):
            views = (ids[ends[row] : ends[row + 1]] for ids in (drawn.pair_ids, drawn.context_ids))
            masks += _hash(lane, *views)
        return torch.tensor([records, masks])


def _hash(lane: int, *arrays: IntArray) -> int:
    data = b"".join(np.asarray(part, dtype="<i8").tobytes() for part in (lane, *arrays))
    return int.from_bytes(blake2b(data, digest_size=6).digest(), "little")  # 48 bits: sums over lanes never overflow


def _per_view(views: IntArray) -> NDArray[np.int64]:
    return np.bincount(views, minlength=2)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
