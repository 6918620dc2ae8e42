"""Records with entities → one packed forward of ENPAR, in whole-array steps (no loop over records).

draw        random numbers of each lane
pair        two entities of each sentence                                  `choose_pairs`
perturb     up to five copies with the pair swapped or shifted             rearrangements.py  (ACD)
permute     up to n_p - 1 copies in another order; the sentence is n_p     rearrangements.py  (PP)
mask        one copy with entities masked and replaced                     masking.py         (MET, MEP)
pack        [CLS] pieces [SEP]: sentences, perturbed and permuted copies, then masked copies
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.ragged import IntArray
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import Records
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.packing import as_tensor, lane_digest, pack
from spe_dist.batches.random_draws import FloatArray, lane_generator
from spe_dist.methods.enpar.batch import EntityPairBatch
from spe_dist.methods.enpar.config import EnparConfig
from spe_dist.methods.enpar.data import require_entity_pairs
from spe_dist.methods.enpar.masking import COLUMNS as ENTITY_COLUMNS
from spe_dist.methods.enpar.masking import MaskedEntities, mask_entities
from spe_dist.methods.enpar.rearrangements import NUM_CLASSES, PERTURBATIONS, Rearranged, permute, perturb

_PAIR_COLUMNS = 2


@dataclass(frozen=True)
class DrawnEntityPairs:
    """What was drawn for the sentences of a forward, before packing."""

    records: Records  # as they are
    word_boundaries: NDArray[np.int64]  # [R, 6] of the five spans around each pair
    perturbed: Rearranged
    perturbed_records: Records
    permuted: Rearranged
    permuted_records: Records
    masked: MaskedEntities | None


@dataclass(frozen=True)
class EntityPairCollate:
    """Makes the batches of ENPAR; a pure function of (records, seed, step, lanes).

    Args:
        special: ids of [CLS], [SEP] and [MASK].
        seed: the run's seed.
        lane_size: records per lane.
        masked: share of entities masked, for MET and MEP.
        replaced: share of entities replaced.
        hide: whether there is a masked copy at all.
        typed: whether MET types the entities of the masked copy.
        perturbed: perturbed copies of a sentence, at most; 0 without ACD.
        max_shift: words that an entity is shifted, at most.
        permuted: permuted copies of a sentence, at most, the sentence itself not counted; 0 without PP.
        identity: whether PP classifies the sentence itself too.
    """

    special: SpecialIds
    seed: int
    lane_size: int
    masked: float
    replaced: float
    hide: bool
    typed: bool
    perturbed: int
    max_shift: int
    permuted: int
    identity: bool

    def __call__(self, records: Records, record_ids: IntArray, step: int, lanes: Sequence[int]) -> EntityPairBatch:
        """The forward of some lanes of a step.

        Args:
            records: the lanes' records, lane after lane, each with at least two entities.
            record_ids: their ids, [len(lanes), lane_size].
            step: the optimizer step.
            lanes: the lanes; none gives a batch of no records, on which every head still runs.
        """
        drawn = self.draw(records, step, lanes)
        return self.batch(drawn, record_ids=record_ids, lanes=lanes)

    def draw(self, records: Records, step: int, lanes: Sequence[int]) -> DrawnEntityPairs:
        """Draw pairs, perturbations, permutations and masks for the records of some lanes."""
        draws = _Draws.draw(self.seed, step, lanes, self.lane_size, records.entities.lengths)
        boundaries = choose_pairs(records, draws.pairs)
        perturbed, perturbed_records = perturb(
            records, boundaries, draws.perturbations, copies=self.perturbed, max_shift=self.max_shift
        )
        permuted, permuted_records = permute(records, boundaries, draws.permutations, copies=self.permuted)
        masked = None
        if self.hide:
            masked = mask_entities(
                records,
                np.repeat(np.arange(len(lanes)), self.lane_size),
                draws.entities,
                masked=self.masked,
                replaced=self.replaced,
                mask_id=self.special.mask,
            )
        return DrawnEntityPairs(records, boundaries, perturbed, perturbed_records, permuted, permuted_records, masked)

    def batch(self, drawn: DrawnEntityPairs, *, record_ids: IntArray, lanes: Sequence[int]) -> EntityPairBatch:
        """Pack all copies of drawn sentences and point at what is to be predicted in them."""
        records, masked = drawn.records, drawn.masked
        unmasked = self._unmasked(drawn)
        parts = [*unmasked, records] if masked is not None else unmasked
        texts = Records.concat([Records(part.pieces, part.word_starts) for part in parts])
        ids = texts.pieces.values.astype(np.int64)
        if masked is not None:
            ids[len(ids) - len(masked.piece_ids) :] = masked.piece_ids
        places, packed = pack(ids, texts.pieces.lengths, self.special)
        unmasked_words = sum(len(part.word_starts.values) for part in unmasked)
        unmasked_pieces = sum(len(part.pieces.values) for part in unmasked)
        boundaries = np.concatenate(
            [drawn.word_boundaries[: len(records) * bool(unmasked)], *(r.word_boundaries for r in _copies(drawn))]
        )
        boundaries = boundaries + texts.word_starts.offsets[: len(boundaries), None]
        first_permuted = len(records) + len(drawn.perturbed.records)
        identities = np.arange(len(records) if self.identity else 0)
        hidden = masked.pieces if masked is not None else np.zeros(0, dtype=np.int64)
        entities = self._entities(masked)
        pp_classes = np.concatenate([np.zeros_like(identities), drawn.permuted.kinds])
        counts = (len(entities), len(hidden), len(drawn.perturbed.records), len(pp_classes))
        return EntityPairBatch(
            packed=packed,
            word_pieces=as_tensor(places[texts.first_pieces]),
            counts=torch.tensor(counts),
            record_ids=as_tensor(record_ids.reshape(-1)),
            digests=self._digests(drawn, record_ids, lanes),
            unmasked_words=unmasked_words,
            word_spans=as_tensor(np.stack([boundaries[:, :-1], boundaries[:, 1:]], axis=2)),
            acd_originals=as_tensor(drawn.perturbed.records),
            acd_perturbed=as_tensor(len(records) + np.arange(len(drawn.perturbed.records))),
            pp_copies=as_tensor(np.concatenate([identities, first_permuted + np.arange(len(drawn.permuted.records))])),
            pp_classes=as_tensor(pp_classes),
            met_spans=as_tensor(entities[:, :2] + unmasked_words),
            met_types=as_tensor(entities[:, 2]),
            met_hidden=torch.from_numpy(entities[:, 3].astype(bool)),
            mep_pieces=as_tensor(places[unmasked_pieces + hidden]),
            mep_targets=as_tensor(records.pieces.values[hidden]),
        )

    def _unmasked(self, drawn: DrawnEntityPairs) -> list[Records]:
        """Sentences, perturbed and permuted copies; none of them without ACD and PP."""
        if not (self.perturbed or self.permuted or self.identity):
            return []
        return [drawn.records, drawn.perturbed_records, drawn.permuted_records]

    def _entities(self, masked: MaskedEntities | None) -> NDArray[np.int64]:
        """First word, word after the last, type, whether hidden: of each entity that MET types, [E, 4]."""
        if masked is None or not self.typed:
            return np.zeros((0, 4), dtype=np.int64)
        return np.stack([masked.word_starts, masked.word_ends, masked.types, masked.hidden], axis=1)

    def _digests(self, drawn: DrawnEntityPairs, record_ids: IntArray, lanes: Sequence[int]) -> Tensor:
        """Sums of the lanes' digests, [2]."""
        records = sum(lane_digest(lane, [ids]) for lane, ids in zip(lanes, record_ids, strict=True))
        masks = 0
        for number, lane in enumerate(lanes):
            rows = (number * self.lane_size, (number + 1) * self.lane_size)
            shown = [drawn.word_boundaries[slice(*rows)]]
            for copies, texts in zip(_copies(drawn), (drawn.perturbed_records, drawn.permuted_records), strict=True):
                first, last = texts.pieces.offsets[np.searchsorted(copies.records, rows)]
                shown.append(texts.pieces.values[first:last])
            if drawn.masked is not None:
                first, last = drawn.records.pieces.offsets[list(rows)]
                shown.append(drawn.masked.piece_ids[first:last])
            masks += lane_digest(lane, shown)
        return torch.tensor([records, masks])


def build_collate(config: EnparConfig, reader: ShardReader) -> EntityPairCollate:
    """The batches of a run.

    Raises:
        UserError: the dataset has no entities, or sentences with fewer than two.
    """
    require_entity_pairs(reader)
    return EntityPairCollate(
        special=reader.manifest.tokenizer.special_ids,
        seed=config.run.seed,
        lane_size=config.batch.lane_size,
        masked=config.masking.masked,
        replaced=config.masking.replaced,
        hide=config.met.weight > 0 or config.mep.weight > 0,
        typed=config.met.weight > 0,
        perturbed=config.acd.perturbed if config.acd.weight > 0 else 0,
        max_shift=config.acd.max_shift,
        permuted=config.pp.permutations - 1 if config.pp.weight > 0 else 0,
        identity=config.pp.weight > 0,
    )


def choose_pairs(records: Records, uniforms: FloatArray) -> NDArray[np.int64]:
    """Two entities of each sentence, every pair with the same chance, as the six boundaries of five spans, [R, 6].

    Args:
        records: each with two entities or more.
        uniforms: random numbers in [0, 1), [R, 2].
    """
    counts, first = records.entities.lengths, records.entities.offsets[:-1]
    one = (uniforms[:, 0] * counts).astype(np.int64)
    other = (uniforms[:, 1] * (counts - 1)).astype(np.int64)
    other += other >= one
    pair = first[:, None] + np.sort(np.stack([one, other], axis=1), axis=1)
    spans = records.entities.values[pair, :2].astype(np.int64).reshape(-1, 4)
    words = records.word_starts.lengths
    return np.concatenate([np.zeros_like(words)[:, None], spans, words[:, None]], axis=1)


def _copies(drawn: DrawnEntityPairs) -> tuple[Rearranged, Rearranged]:
    return drawn.perturbed, drawn.permuted


@dataclass(frozen=True)
class _Draws:
    """Uniform numbers in [0, 1) of one forward; each purpose has its own place in a lane's stream."""

    pairs: FloatArray  # [R, 2]
    perturbations: FloatArray  # [R, 5]
    permutations: FloatArray  # [R, 120]
    entities: FloatArray  # [E, 2]

    @classmethod
    def draw(cls, seed: int, step: int, lanes: Sequence[int], lane_size: int, num_entities: IntArray) -> _Draws:
        columns = (_PAIR_COLUMNS, len(PERTURBATIONS), NUM_CLASSES, ENTITY_COLUMNS)
        parts: list[list[FloatArray]] = [[np.empty((0, width))] for width in columns]
        of_lane = num_entities.reshape(len(lanes), lane_size).sum(axis=1).tolist()
        for lane, entities in zip(lanes, of_lane, strict=True):
            generator = lane_generator(seed, step, lane)
            for part, rows, width in zip(parts, (lane_size, lane_size, lane_size, entities), columns, strict=True):
                part.append(generator.random((rows, width)))
        return cls(*map(np.concatenate, parts))
