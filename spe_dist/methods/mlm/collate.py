"""Records → one packed forward of masked language modelling, in whole-array steps (no loop over records).

draw    random numbers of each lane
mask    single pieces                  batches/masked_pieces.py
        or spans                       span_masking.py
pack    [CLS] pieces [SEP]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data_shards.ragged import IntArray
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import Records
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.masked_pieces import COLUMNS as PIECE_COLUMNS
from spe_dist.batches.masked_pieces import MaskedPieces, hide, mask_pieces
from spe_dist.batches.packing import as_tensor, lane_digest, pack
from spe_dist.batches.random_draws import FloatArray, lane_generator
from spe_dist.methods.mlm.batch import MaskedBatch
from spe_dist.methods.mlm.config import MaskedLanguageConfig, MaskingConfig
from spe_dist.methods.mlm.span_boundary import MOST_TARGETS
from spe_dist.methods.mlm.span_masking import COLUMNS as WORD_COLUMNS
from spe_dist.methods.mlm.span_masking import HiddenSpans, hide_spans


@dataclass(frozen=True)
class DrawnMasks:
    """What was drawn for the records of a forward, before packing."""

    records: Records
    masked: MaskedPieces
    spans: HiddenSpans | None


@dataclass(frozen=True)
class MaskedCollate:
    """Makes the batches of masked language modelling; a pure function of (records, seed, step, lanes).

    Args:
        special: ids of [CLS], [SEP] and [MASK].
        vocab_size: pieces of the vocabulary.
        seed: the run's seed.
        lane_size: records per lane.
        masking: what is masked.
        boundaries: whether pieces are also predicted from the boundaries of their spans.
    """

    special: SpecialIds
    vocab_size: int
    seed: int
    lane_size: int
    masking: MaskingConfig
    boundaries: bool

    def __call__(self, records: Records, record_ids: IntArray, step: int, lanes: Sequence[int]) -> MaskedBatch:
        """The forward of some lanes of a step.

        Args:
            records: the lanes' records, lane after lane.
            record_ids: their ids, [len(lanes), lane_size].
            step: the optimizer step.
            lanes: the lanes; none gives a batch of no records.
        """
        return self.batch(self.draw(records, step, lanes), record_ids=record_ids, lanes=lanes)

    def draw(self, records: Records, step: int, lanes: Sequence[int]) -> DrawnMasks:
        """Draw masks for the records of some lanes."""
        draws, masking = _Draws.draw(self.seed, step, lanes, self.lane_size, records), self.masking
        ids, vocabulary = records.pieces.values, {"mask_id": self.special.mask, "vocab_size": self.vocab_size}
        if masking.unit == "pieces":
            everywhere = np.ones(len(ids), dtype=np.bool_)
            masked = mask_pieces(ids, everywhere, draws.pieces, masked=masking.masked, **vocabulary)
            return DrawnMasks(records, masked, None)
        spans = hide_spans(
            records,
            draws.words,
            masked=masking.masked,
            geometric_p=masking.geometric_p,
            max_words=masking.max_words,
        )
        first_words = np.searchsorted(records.first_pieces, spans.starts)  # a span begins with a word
        kinds = draws.words[first_words, 2][spans.spans]
        return DrawnMasks(records, hide(ids, spans.pieces, kinds, draws.pieces[spans.pieces, 0], **vocabulary), spans)

    def batch(self, drawn: DrawnMasks, *, record_ids: IntArray, lanes: Sequence[int]) -> MaskedBatch:
        """Pack drawn records and point at what is to be predicted in them."""
        records, masked = drawn.records, drawn.masked
        places, packed = pack(masked.piece_ids, records.pieces.lengths, self.special)
        boundaries, positions, of_boundaries = self._boundaries(drawn)
        return MaskedBatch(
            packed=packed,
            word_pieces=as_tensor(places[records.first_pieces]),
            counts=torch.tensor([len(masked.pieces), len(of_boundaries)]),
            record_ids=as_tensor(record_ids.reshape(-1)),
            digests=torch.tensor(
                [
                    sum(lane_digest(lane, [ids]) for lane, ids in zip(lanes, record_ids, strict=True)),
                    sum(self._lane_masks(drawn, number, lane) for number, lane in enumerate(lanes)),
                ]
            ),
            mlm_pieces=as_tensor(places[masked.pieces]),
            mlm_targets=as_tensor(records.pieces.values[masked.pieces]),
            sbo_boundaries=as_tensor(places[boundaries]),
            sbo_positions=as_tensor(positions),
            sbo_targets=as_tensor(records.pieces.values[of_boundaries]),
        )

    def _boundaries(self, drawn: DrawnMasks) -> tuple[NDArray[np.int64], ...]:
        """Pieces beside the span [B, 2], place in the span [B], and index [B] of each piece that SBO predicts."""
        spans = drawn.spans
        if spans is None or not self.boundaries:
            nothing = np.zeros(0, dtype=np.int64)
            return nothing.reshape(0, 2), nothing, nothing
        positions = spans.pieces - spans.starts[spans.spans]
        kept = np.flatnonzero(spans.with_boundaries(drawn.records)[spans.spans] & (positions < MOST_TARGETS))
        of_span = spans.spans[kept]
        beside = np.stack([spans.starts[of_span] - 1, spans.ends[of_span]], axis=1)
        return beside, positions[kept], spans.pieces[kept]

    def _lane_masks(self, drawn: DrawnMasks, number: int, lane: int) -> int:
        """Digest of what the lane shows, and of what is to be predicted there."""
        first, last = drawn.records.pieces.offsets[[number * self.lane_size, (number + 1) * self.lane_size]]
        chosen = drawn.masked.pieces
        chosen = chosen[slice(*np.searchsorted(chosen, (first, last)))]
        return lane_digest(lane, [drawn.masked.piece_ids[first:last], chosen - first])


def build_collate(config: MaskedLanguageConfig, reader: ShardReader) -> MaskedCollate:
    """The batches of a run."""
    return MaskedCollate(
        special=reader.manifest.tokenizer.special_ids,
        vocab_size=reader.manifest.tokenizer.vocab_size,
        seed=config.run.seed,
        lane_size=config.batch.lane_size,
        masking=config.masking,
        boundaries=config.sbo.weight > 0,
    )


@dataclass(frozen=True)
class _Draws:
    """Uniform numbers in [0, 1) of one forward; each purpose has its own place in a lane's stream."""

    pieces: FloatArray  # [pieces, PIECE_COLUMNS]
    words: FloatArray  # [words, WORD_COLUMNS]

    @classmethod
    def draw(cls, seed: int, step: int, lanes: Sequence[int], lane_size: int, records: Records) -> _Draws:
        pieces, words = [np.empty((0, PIECE_COLUMNS))], [np.empty((0, WORD_COLUMNS))]
        lane_ends = np.arange(len(lanes) + 1) * lane_size
        num_pieces, num_words = (np.diff(rows.offsets[lane_ends]) for rows in (records.pieces, records.word_starts))
        for number, lane in enumerate(lanes):
            generator = lane_generator(seed, step, lane)
            pieces.append(generator.random((int(num_pieces[number]), PIECE_COLUMNS)))
            words.append(generator.random((int(num_words[number]), WORD_COLUMNS)))
        return cls(np.concatenate(pieces), np.concatenate(words))
