"""Documents → one packed forward of ERICA, in whole-array steps (no loop over records).

draw      random numbers of each lane
relate    facts and unrelated pairs of the first half of each lane            facts.py       (RD)
ask       a fact of each document of the second half                          questions.py   (ED)
mask      pieces outside of mentions                                          mentions.py    (MLM)
pack      [CLS] document [SEP], or [CLS] relation head [SEP] document [SEP]
pool      which pieces each entity's vector is made of
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.errors import UserError
from data_shards.ragged import IntArray, Ragged, concat_ranges, offsets_from_lengths
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import Records
from data_shards.text.word_pieces import WordPieces
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.masked_pieces import COLUMNS as MASK_COLUMNS
from spe_dist.batches.masked_pieces import MaskedPieces, mask_pieces
from spe_dist.batches.packing import as_tensor, lane_digest, pack
from spe_dist.batches.random_draws import FloatArray, lane_generator
from spe_dist.documents.document_facts import DocumentFacts
from spe_dist.documents.marked_facts import FactMarking
from spe_dist.documents.mentions import entity_of_mention, first_mentions, in_mentions, mention_pieces
from spe_dist.documents.pooled_vectors import PooledPieces
from spe_dist.documents.prefix import HEAD_PIECES, RELATION_PIECES
from spe_dist.methods.erica.batch import DocumentBatch
from spe_dist.methods.erica.config import EricaConfig
from spe_dist.methods.erica.fact_pairs import HEAD, RELATION, TAIL
from spe_dist.methods.erica.facts import pair_rows, unrelated_pairs
from spe_dist.methods.erica.marked_collate import MarkedFactCollate
from spe_dist.methods.erica.markers import MOST_MENTIONS, PAIRS, Markers, place_markers, spread
from spe_dist.methods.erica.questions import Questions, ask


@dataclass(frozen=True)
class DrawnDocuments:
    """What was drawn for the documents of a forward, before packing."""

    records: Records
    pairs: NDArray[np.int64]  # [N, COLUMNS] of relation discrimination, see fact_pairs.py
    questions: Questions
    masked: MaskedPieces
    markers: Markers | None


@dataclass(frozen=True)
class DocumentCollate:
    """Makes the batches of ERICA; a pure function of (records, seed, step, lanes).

    Args:
        special: ids of [CLS], [SEP] and [MASK].
        vocab_size: pieces of the vocabulary.
        seed: the run's seed.
        lane_size: records per lane.
        relation_names: pieces of each relation's name.
        kept_relations: which relations are learnt from.
        related: documents of a lane that relation discrimination is about; they come first.
        asked: whether the others are asked a question of entity discrimination.
        mask_true_tails: see `EdConfig`.
        na_pairs: see `RdConfig`.
        masked: share of pieces to predict; 0 without masked language modelling.
        mark: whether mentions are marked, and entities the means of their markers.
    """

    special: SpecialIds
    vocab_size: int
    seed: int
    lane_size: int
    relation_names: Ragged
    kept_relations: NDArray[np.bool_]
    related: int
    asked: bool
    mask_true_tails: bool
    na_pairs: int
    masked: float
    mark: bool

    def __call__(self, records: Records, record_ids: IntArray, step: int, lanes: Sequence[int]) -> DocumentBatch:
        """The forward of some lanes of a step.

        Args:
            records: the lanes' documents, lane after lane.
            record_ids: their ids, [len(lanes), lane_size].
            step: the optimizer step.
            lanes: the lanes; none gives a batch of no documents.
        """
        return self.batch(self.draw(records, step, lanes), record_ids=record_ids, lanes=lanes, step=step)

    def draw(self, records: Records, step: int, lanes: Sequence[int]) -> DrawnDocuments:
        """Draw unrelated pairs, questions and masks for the documents of some lanes."""
        draws = _Draws.draw(self.seed, step, lanes, self.lane_size, records)
        is_related = np.tile(np.arange(self.lane_size) < self.related, len(lanes))
        facts, unknown = DocumentFacts.of(records, self.kept_relations)
        unrelated = unrelated_pairs(records, (facts, unknown), is_related, draws.pairs, most=self.na_pairs)
        lane_of_record = np.repeat(np.array(lanes, dtype=np.int64), self.lane_size)
        return DrawnDocuments(
            records,
            pair_rows(records, facts.take(is_related[facts.records]), unrelated, lane_of_record),
            ask(
                records, facts, unknown, ~is_related & self.asked, draws.questions, mask_true_tails=self.mask_true_tails
            ),
            mask_pieces(
                records.pieces.values,
                ~in_mentions(records),
                draws.pieces,
                masked=self.masked,
                mask_id=self.special.mask,
                vocab_size=self.vocab_size,
            ),
            place_markers(records, draws.markers) if self.mark else None,
        )

    def batch(self, drawn: DrawnDocuments, *, record_ids: IntArray, lanes: Sequence[int], step: int) -> DocumentBatch:
        """Pack drawn documents and point at what is to be compared and predicted in them."""
        records, questions, markers = drawn.records, drawn.questions, drawn.markers
        prefixes = self._prefixes(drawn)
        moved, own_lengths = (0, records.pieces.lengths) if markers is None else spread(records, markers)
        lengths = prefixes.lengths + own_lengths
        starts = offsets_from_lengths(lengths)[:-1]
        ids = np.empty(int(lengths.sum()), dtype=np.int64)
        ids[concat_ranges(starts, prefixes.lengths)] = prefixes.values
        own = concat_ranges(starts + prefixes.lengths, records.pieces.lengths) + moved
        ids[own] = drawn.masked.piece_ids
        first, pieces = mention_pieces(records)
        mentions, entity = np.stack([own[first], own[first + pieces - 1] + 1], axis=1), entity_of_mention(records)
        if markers is not None:
            mentions, entity = mentions[markers.mentions], markers.entities
            ids[mentions[:, 0] - 1] = self.vocab_size + 2 * markers.numbers
            ids[mentions[:, 1]] = self.vocab_size + 2 * markers.numbers + 1
            mentions = mentions[:, :1] + np.array([-1, 0])  # the first marker stands for the mention
        in_pack, packed = pack(ids, lengths, self.special)
        places = in_pack[own]
        by_entity = np.argsort(entity, kind="stable")
        spans = np.stack([in_pack[mentions[by_entity, 0]], in_pack[mentions[by_entity, 1] - 1] + 1], axis=1)
        entities, rd_entities = records.layers["knowledge_ids"], self._related_entities(records)
        number = np.full(len(entities.values), -1)
        number[rd_entities] = np.arange(len(rd_entities))
        pairs = drawn.pairs.copy()
        pairs[:, [HEAD, TAIL]] = number[pairs[:, [HEAD, TAIL]]]
        candidates = questions.candidates
        return DocumentBatch(
            packed=packed,
            word_pieces=as_tensor(places[records.first_pieces]),
            counts=torch.tensor([len(questions.heads), 0, len(drawn.masked.pieces)]),  # of RD: `Erica.before_step`
            record_ids=as_tensor(record_ids.reshape(-1)),
            digests=self._digests(drawn, prefixes, record_ids, lanes),
            pooled=PooledPieces.of_mentions(spans, entity[by_entity], len(entities.values)),
            ed_heads=as_tensor(questions.heads),
            ed_candidates=as_tensor(_padded(candidates)),
            ed_chance=torch.from_numpy((1 / candidates.lengths).astype(np.float32)),
            ed_nearest=torch.from_numpy(questions.nearest),
            rd_entities=as_tensor(rd_entities),
            rd_pairs=as_tensor(pairs),
            mlm_pieces=as_tensor(places[drawn.masked.pieces]),
            mlm_targets=as_tensor(records.pieces.values[drawn.masked.pieces]),
            step=step,
        )

    def _prefixes(self, drawn: DrawnDocuments) -> Ragged:
        """The question in front of each document: name of the relation, first mention of the head, [SEP]; [R]."""
        records, questions = drawn.records, drawn.questions
        names = _first(self.relation_names.take(questions.relations), RELATION_PIECES)
        heads = _first(first_mentions(records, questions.heads), HEAD_PIECES)
        lengths = names.lengths + heads.lengths + 1
        starts = offsets_from_lengths(lengths)[:-1]
        pieces = np.full(int(lengths.sum()), self.special.sep, dtype=np.int64)
        pieces[concat_ranges(starts, names.lengths)] = names.values
        pieces[concat_ranges(starts + names.lengths, heads.lengths)] = heads.values
        of_record = np.zeros(len(records), dtype=np.int64)
        of_record[questions.records] = lengths
        return Ragged.from_lengths(pieces, of_record)

    def _related_entities(self, records: Records) -> NDArray[np.int64]:
        """The entities of the documents of relation discrimination."""
        entities = records.layers["knowledge_ids"]
        return np.flatnonzero(entities.row_index() % self.lane_size < self.related)

    def _digests(self, drawn: DrawnDocuments, prefixes: Ragged, record_ids: IntArray, lanes: Sequence[int]) -> Tensor:
        """Sums of the lanes' digests, [2]: of record ids; of prefixes, masked pieces, answers and pairs."""
        records, questions = drawn.records, drawn.questions
        first_entities = records.layers["knowledge_ids"].offsets
        pair_records = np.searchsorted(first_entities, drawn.pairs[:, HEAD], side="right") - 1
        digests = [0, 0]
        for number, (lane, ids) in enumerate(zip(lanes, record_ids, strict=True)):
            first, last = number * self.lane_size, (number + 1) * self.lane_size
            asked = slice(*np.searchsorted(questions.records, (first, last)))
            paired = slice(*np.searchsorted(pair_records, (first, last)))
            pieces = slice(*records.pieces.offsets[[first, last]])
            shown = [
                prefixes.values[slice(*prefixes.offsets[[first, last]])],
                drawn.masked.piece_ids[pieces],
                questions.tails[asked] - first_entities[first],
                drawn.pairs[paired][:, [HEAD, TAIL]] - first_entities[first],
                drawn.pairs[paired][:, RELATION],
            ]
            if drawn.markers is not None:
                shown.append(
                    drawn.markers.numbers[slice(*offsets_from_lengths(drawn.markers.per_record)[[first, last]])]
                )
            digests[0] += lane_digest(lane, [ids])
            digests[1] += lane_digest(lane, shown)
        return torch.tensor(digests)


def build_collate(config: EricaConfig, reader: ShardReader) -> DocumentCollate | MarkedFactCollate:
    """The batches of a run.

    Raises:
        UserError: the dataset has no documents with entities and relations.
    """
    manifest = reader.manifest
    manifest.require_documents(reader.location)
    if config.pooling == "marker" and manifest.build["documents"]["max_entities"] > MOST_MENTIONS:
        raise UserError(
            f"{reader.location} has documents of up to {manifest.build['documents']['max_entities']} entities, and "
            f"pooling 'marker' marks {MOST_MENTIONS}: build it with --max-entities {MOST_MENTIONS}"
        )
    kept_relations = _choose_relations(config, len(manifest.relation_types))
    masked = config.mlm.masked if config.mlm.weight > 0 else 0.0
    if config.pooling == "fact_marker":
        return MarkedFactCollate(
            FactMarking(
                special=manifest.tokenizer.special_ids,
                vocab_size=manifest.tokenizer.vocab_size,
                seed=config.run.seed,
                lane_size=config.batch.lane_size,
                kept_relations=kept_relations,
                blank=config.entity_blank,
                masked=masked,
            )
        )
    words = WordPieces.load(str(reader.tokenizer_folder()), language=manifest.language)
    names = [relation.name for relation in manifest.relation_types.values()]
    lane_size, related = config.batch.lane_size, 0
    if config.rd.weight > 0:
        related = (lane_size + 1) // 2 if config.ed.weight > 0 else lane_size
    return DocumentCollate(
        special=manifest.tokenizer.special_ids,
        vocab_size=manifest.tokenizer.vocab_size,
        seed=config.run.seed,
        lane_size=lane_size,
        relation_names=words.encode_sentences(names).pieces,
        kept_relations=kept_relations,
        related=related,
        asked=config.ed.weight > 0,
        mask_true_tails=config.ed.mask_true_tails,
        na_pairs=config.rd.na_pairs,
        masked=masked,
        mark=config.pooling == "marker",
    )


_RELATIONS = 4  # keeps the choice of relations apart from other random numbers of the seed


def _choose_relations(config: EricaConfig, count: int) -> NDArray[np.bool_]:
    """Which relations are kept, [relations]; a smaller share is a subset of a larger one."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_RELATIONS, config.run.seed))))
    return generator.permutation(count) < np.ceil(config.relations * count)


@dataclass(frozen=True)
class _Draws:
    """Uniform numbers in [0, 1) of one forward; each purpose has its own place in a lane's stream."""

    questions: FloatArray  # [R]
    pieces: FloatArray  # [pieces, MASK_COLUMNS]
    pairs: FloatArray  # [Σ entities² of a document]
    markers: FloatArray  # [R, PAIRS]

    @classmethod
    def draw(cls, seed: int, step: int, lanes: Sequence[int], lane_size: int, records: Records) -> _Draws:
        entities = records.layers["knowledge_ids"].lengths
        per_lane = (
            values.reshape(len(lanes), lane_size).sum(axis=1).tolist()
            for values in (records.pieces.lengths, entities * entities)
        )
        questions, pieces, pairs, markers = [np.empty(0)], [np.empty((0, MASK_COLUMNS))], [np.empty(0)], []
        for lane, num_pieces, num_pairs in zip(lanes, *per_lane, strict=True):
            generator = lane_generator(seed, step, lane)
            questions.append(generator.random(lane_size))
            pieces.append(generator.random((num_pieces, MASK_COLUMNS)))
            pairs.append(generator.random(num_pairs))
            markers.append(generator.random((lane_size, PAIRS)))
        markers.append(np.empty((0, PAIRS)))
        return cls(*(np.concatenate(parts) for parts in (questions, pieces, pairs, markers)))


def _padded(rows: Ragged) -> NDArray[np.int64]:
    """Rows as a matrix, -1 beyond their ends, [rows, longest]."""
    matrix = np.full((len(rows), int(rows.lengths.max(initial=1))), -1, dtype=np.int64)
    matrix[np.arange(matrix.shape[1]) < rows.lengths[:, None]] = rows.values
    return matrix


def _first(rows: Ragged, most: int) -> Ragged:
    """The first values of each row."""
    lengths = np.minimum(rows.lengths, most)
    return Ragged.from_lengths(rows.values[concat_ranges(rows.offsets[:-1], lengths)], lengths)
