"""Records → one packed forward of SPE, in whole-array steps (no loop over records).

draw        random numbers of each lane                       random_draws.py
spans       two spans per sentence, five spans in all         spans.py
permute     up to two spans, in place                         permutations.py   (SPO)
hide        inner pieces of words                             masking.py        (TBO)
show        pair view and context view, whole sentence        views.py          (CSPO)
pack        [CLS] pieces [SEP], all pair views, then all context views, then all whole sentences
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.errors import UserError
from data_shards.ragged import IntArray, offsets_from_lengths
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import Records
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.five_spans import FIRST, NUM_SPANS, SECOND
from spe_dist.batches.packing import as_tensor, lane_digest
from spe_dist.methods.spe.batch import SpanPairBatch, ViewSizes
from spe_dist.methods.spe.config import MaskUnit, SpeConfig
from spe_dist.methods.spe.masking import NOTHING_HIDDEN, HiddenPieces, hide_pieces
from spe_dist.methods.spe.permutations import (
    NOTHING_PERMUTED,
    PermutedSpans,
    permute_spans,
    random_columns,
)
from spe_dist.methods.spe.random_draws import RandomDraws
from spe_dist.methods.spe.spans import COLUMNS, sample_span_pairs
from spe_dist.methods.spe.views import (
    CONTEXT_VIEW,
    PAIR_VIEW,
    ShownSentences,
    pack_shown,
    pieces_in_pair,
    show_pieces,
    show_view,
    show_views,
)

PAIR, CONTEXT, WHOLE = "pair", "context", "whole"  # sequences of a sentence, in their order in a batch


@dataclass(frozen=True)
class DrawnSentences:
    """What was drawn for the sentences of a forward, before packing; `spe shards show` prints it."""

    records: Records  # permuted sentences
    word_boundaries: NDArray[np.int64]  # [R, 6]
    permuted: PermutedSpans
    hidden: HiddenPieces
    in_pair: NDArray[np.bool_]  # [pieces]
    shown: Mapping[str, ShownSentences]  # `PAIR`, `CONTEXT` and `WHOLE`, or those of them that are needed


@dataclass(frozen=True)
class SpanPairCollate:
    """Makes the batches of SPE; a pure function of (records, seed, step, lanes).

    Args:
        special: ids of [CLS], [SEP] and [MASK].
        seed: the run's seed.
        lane_size: records per lane.
        geometric_p: success probability of the span lengths.
        max_span_words: longest span.
        tbo_share: TBO's budget as a share of a sentence's pieces; 0 hides nothing.
        tbo_cap: largest TBO budget of a sentence.
        spo_spans: spans permuted per sentence, at most; 0 permutes nothing.
        mask_unit: what becomes one [MASK] in a view.
        whole_sentences: whether TBO and SPO read whole sentences instead of the views.
        contrast: whether anything but TBO and SPO needs the views.
    """

    special: SpecialIds
    seed: int
    lane_size: int
    geometric_p: float
    max_span_words: int
    tbo_share: float
    tbo_cap: int
    spo_spans: int
    mask_unit: MaskUnit = "piece"
    whole_sentences: bool = False
    contrast: bool = True

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
        return replace(self.batch(drawn), record_ids=as_tensor(record_ids.reshape(-1)), digests=digests)

    def batch(self, drawn: DrawnSentences) -> SpanPairBatch:
        """Pack what is shown of drawn sentences and point at what is to be predicted in it."""
        shown = list(drawn.shown.values())
        piece_places, packed = pack_shown(shown, self.special)
        hidden, permuted = drawn.hidden, drawn.permuted
        tbo_views = np.where(drawn.in_pair[hidden.pieces], PAIR_VIEW, CONTEXT_VIEW)
        is_pair = (permuted.spans == FIRST) | (permuted.spans == SECOND)
        spo_views = np.where(is_pair, PAIR_VIEW, CONTEXT_VIEW)
        tbo_read, spo_read = (
            np.full_like(views, len(shown) - 1) if WHOLE in drawn.shown else views for views in (tbo_views, spo_views)
        )
        sequences = permuted.records + spo_read * len(drawn.records)
        return SpanPairBatch(
            packed=packed.packed,
            word_pieces=packed.word_pieces,
            word_spans=packed.word_spans,
            tbo_anchors=as_tensor(np.stack(piece_places)[tbo_read, hidden.anchors]),
            tbo_offsets=as_tensor(hidden.offsets),
            tbo_targets=as_tensor(drawn.records.pieces.values[hidden.pieces]),
            tbo_views=as_tensor(tbo_views),
            spo_spans=as_tensor(sequences * NUM_SPANS + permuted.spans),
            spo_classes=as_tensor(permuted.classes),
            spo_views=as_tensor(spo_views),
            view_sizes=_view_sizes([one for name, one in drawn.shown.items() if name != WHOLE]),
            counts=as_tensor(np.array([*_per_view(tbo_views), *_per_view(spo_views), len(drawn.records)])),
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
            span_columns=COLUMNS,
            permutation_columns=random_columns(self.spo_spans),
        )
        word_boundaries = sample_span_pairs(
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
        """Make the sequences of sentences with given spans."""
        in_pair = pieces_in_pair(records, word_boundaries)
        ids = records.pieces.values.astype(np.int64)
        ids[hidden.pieces] = self.special.mask
        shown = {}
        if self.contrast or not self.whole_sentences:
            views = show_views(ids, in_pair, mask_id=self.special.mask)
            for name, view, view_ids in zip((PAIR, CONTEXT), (PAIR_VIEW, CONTEXT_VIEW), views, strict=True):
                shown[name] = show_view(records, word_boundaries, view_ids, view=view, mask_unit=self.mask_unit)
        if self.whole_sentences:
            shown[WHOLE] = show_pieces(records, word_boundaries, ids)
        return DrawnSentences(records, word_boundaries, permuted, hidden, in_pair, shown)

    def digests(self, drawn: DrawnSentences, record_ids: IntArray, lanes: Sequence[int]) -> Tensor:
        """Sums of the lanes' digests, which do not depend on who holds which lane, [2]."""
        ends = [offsets_from_lengths(one.lengths)[:: self.lane_size] for one in drawn.shown.values()]
        records = sum(lane_digest(lane, [ids]) for lane, ids in zip(lanes, record_ids, strict=True))
        masks = 0
        for row, lane in enumerate(lanes):
            shown = zip(drawn.shown.values(), ends, strict=True)
            masks += lane_digest(lane, (one.ids[of_one[row] : of_one[row + 1]] for one, of_one in shown))
        return torch.tensor([records, masks])


def build_collate(config: SpeConfig, reader: ShardReader) -> SpanPairCollate:
    """The batches of a run.

    Raises:
        UserError: the dataset holds sentences of one word.
    """
    manifest, trained = reader.manifest, (config.tbo.weight, config.spo.weight)
    if manifest.build.get("min_words", 2) < 2:
        raise UserError("the shards hold sentences of one word, which have no two spans: build them with --min-words 2")
    return SpanPairCollate(
        special=reader.manifest.tokenizer.special_ids,
        seed=config.run.seed,
        lane_size=config.batch.lane_size,
        geometric_p=config.spans.geometric_p,
        max_span_words=config.spans.max_words,
        tbo_share=config.tbo.budget_share if config.tbo.weight > 0 else 0.0,
        tbo_cap=config.tbo.budget_cap,
        spo_spans=config.spo.max_spans if config.spo.weight > 0 else 0,
        mask_unit=config.spans.mask_unit,
        whole_sentences=config.spans.whole_sentences and any(trained),
        contrast=config.cspo.weight > 0,
    )


def _view_sizes(views: Sequence[ShownSentences]) -> ViewSizes:
    lengths = np.concatenate([np.zeros(0, dtype=np.int64), *(one.lengths + 2 for one in views)])  # [CLS] and [SEP]
    words = sum(len(one.first_pieces) for one in views)
    return ViewSizes(pieces=int(lengths.sum()), words=words, longest=int(lengths.max(initial=0)))


def _per_view(views: IntArray) -> NDArray[np.int64]:
    return np.bincount(views, minlength=2)
