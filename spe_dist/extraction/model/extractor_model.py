"""Joint extraction: spans that are entities, their types, and the relations of their pairs.

    spans       by a tag of every word (the papers' way) or by a score of every span (see span_detection.py)
    types       of every candidate span, from the pre-trained span encoder; the last class is "no entity"
    relations   of every pair of entities, from the pre-trained span pair encoder and, if the architecture says so, the
                types of both; two directions per type, and "none". What the two types do not allow is not predicted

Left, middle and right of a pair have a span encoder of their own. Each of the two encoders is called once per forward,
for all spans of all sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_shards.ragged import IntArray
from spe_dist.extraction.model.calibration import Calibration, Floats, entity_features, relation_features
from spe_dist.extraction.model.candidates import (
    ContextSpans,
    Spans,
    distinct_rows,
    labels_of,
    places_of,
    sentences_of,
    span_pairs,
    words_inside,
)
from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import ExtractionBatch, Labels
from spe_dist.extraction.model.scheduled_sampling import GoldDraws
from spe_dist.extraction.model.span_detection import Detector, cross_entropy, linear, without_overlaps
from spe_dist.extraction.model.word_shapes import SHAPES
from spe_dist.finetuning.losses import Losses
from spe_dist.models.from_sizes import PairEncoder
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.models.span_encoder import SpanEncoder
from spe_dist.models.transform_block import INITIAL_STD, TransformBlock

LOSSES = ("span", "entity", "relation")
_MOST_PAIRS = 16_384  # classified at a time when extracting: a sentence full of entities has very many


@dataclass(frozen=True)
class Extracted:
    """What a model finds in a batch, on the host."""

    spans: Spans  # [N, 2] packed words of entities, sorted
    types: NDArray[np.int64]  # [N]
    entity_scores: NDArray[np.float64]  # [N] probability that these words are an entity of this type
    pairs: NDArray[np.int64]  # [M, 2] first and second entity of each relation, in the order of the text
    relations: NDArray[np.int64]  # [M] 2 * type + direction
    relation_scores: NDArray[np.float64]  # [M] probability of relation, direction and both arguments


@dataclass(frozen=True)
class _Encoded:
    words: Tensor  # [W, H]
    sentences: Tensor  # [S, H] states of [CLS]


class RelationClassifier(nn.Module):
    """Transform blocks of the given sizes and a linear layer, [M, pair size] and types of both entities → [M, 2 R + 1].

    Args:
        pair_size: size of pair vectors.
        hidden_sizes: sizes of the blocks.
        labels: entity and relation types.
        type_size: size of the vector of an entity's type; 0 without.
        dropout: dropout of the blocks.
    """

    def __init__(
        self, pair_size: int, hidden_sizes: Sequence[int], labels: Labels, *, type_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.types = nn.Embedding(labels.no_entity + 1, type_size) if type_size else None
        if self.types is not None:
            nn.init.normal_(self.types.weight, std=INITIAL_STD)
        sizes = (pair_size + 2 * type_size, *hidden_sizes)
        self.blocks = nn.Sequential(*(TransformBlock(*pair, dropout=dropout) for pair in pairwise(sizes)))
        self.scores = linear(sizes[-1], labels.no_relation + 1)

    def forward(self, pairs: Tensor, types: Tensor) -> Tensor:
        """Scores of every relation in both directions, and of none.

        Args:
            pairs: vectors, [M, pair size].
            types: probabilities of the types of first and second entity, [M, 2, T + 1].
        """
        if self.types is not None:
            pairs = torch.cat([pairs, (types.to(pairs.dtype) @ self.types.weight).flatten(1)], dim=1)
        return self.scores(self.blocks(pairs))


class ExtractorModel(nn.Module):
    """Sentence, span, context and pair encoders, a detector of spans and two classifiers.

    Args:
        labels: entity and relation types.
        constraints: what the training data allow.
        sentence_encoder: with "packed" attention.
        detector: detector of the spans that are entities.
        span_encoder: encoder of the spans themselves.
        context_encoder: encoder of left, middle and right.
        pair_encoder: SPE's attention over the five spans, or ENPAR's concatenation of them.
        relations: classifier of pairs.
        word_shapes: whether the sentence encoder reads how words are written.
        dropout: dropout of the states of words.
    """

    allowed: Tensor

    def __init__(
        self,
        labels: Labels,
        constraints: Constraints,
        *,
        sentence_encoder: SentenceEncoder,
        detector: Detector,
        span_encoder: SpanEncoder,
        context_encoder: SpanEncoder,
        pair_encoder: PairEncoder,
        relations: RelationClassifier,
        word_shapes: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.labels, self.constraints = labels, constraints
        self.calibration: Calibration | None = None
        self.sentence_encoder, self.detector = sentence_encoder, detector
        self.span_encoder, self.context_encoder, self.pair_encoder = span_encoder, context_encoder, pair_encoder
        self.dropout = nn.Dropout(dropout)
        self.word_shapes: nn.Embedding | None = None
        if word_shapes:
            self.word_shapes = nn.Embedding(len(SHAPES), sentence_encoder.word_embeddings.embedding_dim)
            nn.init.zeros_(self.word_shapes.weight)  # the encoder begins as it was pre-trained
        self.types = linear(span_encoder.size, labels.no_entity + 1)
        self.relations = relations
        self.register_buffer("allowed", torch.from_numpy(constraints.allowed(labels)), persistent=False)

    def forward(self, batch: ExtractionBatch, gold: GoldDraws) -> Losses:
        """Losses of words or spans, of candidate spans and of candidate pairs.

        Args:
            batch: annotated sentences.
            gold: for each sentence, whether gold spans alone are candidates, and whether gold entities alone are paired
                (related gold pairs always are) and their gold types are what the relation classifier sees.
        """
        encoded = self._encode(batch)
        span_scores = self.detector(encoded.words, batch.word_offsets)
        detection = self.detector.loss(span_scores, batch)
        spans = self._candidates(batch, span_scores, gold)
        vectors = self._span_vectors(self.span_encoder, encoded, spans)
        type_scores = self.types(vectors)
        types = labels_of(spans, batch.gold_spans, batch.gold_types, none=self.labels.no_entity)
        pairs, relations = self._training_pairs(batch, spans, type_scores, gold)
        seen = self._seen_types(batch, spans, types, type_scores, gold)
        relation_scores = self._relation_scores(encoded, batch, spans, vectors, seen, pairs)
        type_loss, types_correct = cross_entropy(type_scores, types)
        relation_loss, relations_correct = cross_entropy(relation_scores, relations)
        return Losses(
            torch.stack([detection.loss, type_loss, relation_loss]),
            torch.stack([detection.correct, types_correct, relations_correct]),
            torch.tensor([detection.count, len(types), len(relations)]),
        )

    @torch.no_grad()
    def extract(self, batch: ExtractionBatch) -> Extracted:
        """Entities and relations; nothing that is annotated is looked at."""
        encoded = self._encode(batch)
        spans, likely = self.detector.propose(self.detector(encoded.words, batch.word_offsets), batch.word_offsets)
        vectors = self._span_vectors(self.span_encoder, encoded, spans)
        type_scores = self.types(vectors).double().softmax(dim=1)  # 1 - 1e-9 is another score than 1
        best, types = (likely[:, None] * type_scores[:, :-1]).max(dim=1)
        scores = best.cpu().numpy()
        entities = np.flatnonzero(self.detector.accept(best, likely * type_scores[:, -1]))
        if not self.constraints.overlapping:
            entities = entities[without_overlaps(spans[entities], scores[entities])]
        on_device = _on(vectors, entities)
        spans, scores, vectors, type_scores = (
            spans[entities],
            scores[entities],
            vectors[on_device],
            type_scores[on_device],
        )
        types = types[on_device]
        sentences = sentences_of(spans, batch.word_offsets)
        pairs = span_pairs(spans, sentences)
        relations, likely_relations = self._best_relations(encoded, batch, spans, vectors, type_scores, types, pairs)
        related = np.flatnonzero(relations != self.labels.no_relation)
        pairs, likely_relations = pairs[related], likely_relations[related]
        entity_scores, relation_scores = self._scores(spans, sentences, scores, pairs, likely_relations)
        return Extracted(spans, types.cpu().numpy(), entity_scores, pairs, relations[related], relation_scores)

    def _scores(
        self, spans: Spans, sentences: NDArray[np.int64], entities: Floats, pairs: NDArray[np.int64], relations: Floats
    ) -> tuple[Floats, Floats]:
        """Scores of entities and relations from the model's own probabilities; without calibration these themselves."""
        arguments = entities[pairs]
        if self.calibration is None:
            return entities, relations * arguments.prod(axis=1)
        distances = spans[pairs[:, 1], 0] - spans[pairs[:, 0], 1]
        found = np.bincount(sentences)[sentences[pairs[:, 0]]]
        return (
            self.calibration.entities(entity_features(entities)),
            self.calibration.relations(relation_features(relations, arguments, distances, found)),
        )

    def _best_relations(
        self,
        encoded: _Encoded,
        batch: ExtractionBatch,
        spans: Spans,
        vectors: Tensor,
        type_scores: Tensor,
        types: Tensor,
        pairs: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The best relation that the types of each pair allow, and its probability, in portions that fit in memory."""
        portions = []
        for first in range(0, max(len(pairs), 1), _MOST_PAIRS):
            used, places = np.unique(pairs[first : first + _MOST_PAIRS], return_inverse=True)
            places, on_device = places.reshape(-1, 2), _on(vectors, used)
            scores = self._relation_scores(
                encoded, batch, spans[used], vectors[on_device], type_scores[on_device], places
            )
            of_pairs = types[on_device][_on(types, places)]
            allowed = self.allowed[of_pairs[:, 0], of_pairs[:, 1]]
            best, classes = scores.double().masked_fill(~allowed, -torch.inf).softmax(dim=1).max(dim=1)
            portions.append((classes.cpu().numpy(), best.cpu().numpy()))
        relations, probabilities = (np.concatenate(parts) for parts in zip(*portions, strict=True))
        return relations, probabilities

    def _encode(self, batch: ExtractionBatch) -> _Encoded:
        added = None if self.word_shapes is None else self.word_shapes(batch.piece_shapes)
        states = self.dropout(self.sentence_encoder(batch.packed, added))
        return _Encoded(states[batch.word_pieces], states[batch.packed.sequence_starts[:-1]])

    def _candidates(self, batch: ExtractionBatch, span_scores: Tensor, gold: GoldDraws) -> Spans:
        """Gold spans, and in sentences that do not learn from gold alone the spans that the model proposes."""
        if gold.spans.all():
            return batch.gold_spans
        proposed, _ = self.detector.propose(span_scores.detach(), batch.word_offsets)
        own = proposed[~gold.spans[sentences_of(proposed, batch.word_offsets)]]
        return distinct_rows(batch.gold_spans, own)

    def _seen_types(
        self, batch: ExtractionBatch, spans: Spans, types: IntArray, type_scores: Tensor, gold: GoldDraws
    ) -> Tensor:
        """Probabilities of types that the relation classifier sees, [N, T + 1]: gold ones, or the model's own."""
        certain = nn.functional.one_hot(_on(type_scores, types), self.labels.no_entity + 1).float()
        if gold.entities.all():
            return certain
        from_gold = _on(type_scores, gold.entities[sentences_of(spans, batch.word_offsets)])
        return torch.where(from_gold[:, None], certain, type_scores.detach().float().softmax(dim=1))

    def _training_pairs(
        self, batch: ExtractionBatch, spans: Spans, type_scores: Tensor, gold: GoldDraws
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of candidates to classify, [M, 2], and their relations, [M]."""
        sentences = sentences_of(spans, batch.word_offsets)
        paired = places_of(spans, batch.gold_spans) >= 0
        if not gold.entities.all():
            typed = type_scores.detach().argmax(dim=1).cpu().numpy() != self.labels.no_entity
            paired = np.where(gold.entities[sentences], paired, typed)
        gold_pairs = places_of(batch.gold_spans, spans)[batch.gold_pairs]  # sorted still: so are both lists of spans
        pairs = span_pairs(spans, sentences)
        relations = labels_of(pairs, gold_pairs, batch.gold_relations, none=self.labels.no_relation)
        kept = paired[pairs].all(axis=1) | (relations != self.labels.no_relation)
        return pairs[kept], relations[kept]

    def _span_vectors(self, encoder: SpanEncoder, encoded: _Encoded, spans: Spans) -> Tensor:
        inside, spans = words_inside(spans, len(encoded.words))  # what is in no span need not be filtered
        starts, ends = torch.from_numpy(np.ascontiguousarray(spans.T)).to(encoded.words.device)
        return encoder(encoded.words[_on(encoded.words, inside)], starts, ends)

    def _pair_vectors(
        self, encoded: _Encoded, batch: ExtractionBatch, spans: Spans, vectors: Tensor, pairs: IntArray
    ) -> Tensor:
        contexts = ContextSpans.of(spans, pairs, batch.word_offsets)
        around = self._span_vectors(self.context_encoder, encoded, contexts.all)
        rows = contexts.rows_of(pairs)
        empty = (contexts.all[:, 0] == contexts.all[:, 1])[rows]
        sentences = encoded.sentences[_on(vectors, sentences_of(spans, batch.word_offsets)[pairs[:, 0]])]
        of_pairs, around = vectors[_on(vectors, pairs)], around[_on(around, rows)]
        return self.pair_encoder.from_parts(of_pairs, around, sentences, empty=_on(around, empty))

    def _relation_scores(
        self, encoded: _Encoded, batch: ExtractionBatch, spans: Spans, vectors: Tensor, types: Tensor, pairs: IntArray
    ) -> Tensor:
        pair_vectors = self._pair_vectors(encoded, batch, spans, vectors, pairs)
        return self.relations(pair_vectors, types[_on(types, pairs)])


def _on(tensor: Tensor, array: np.ndarray) -> Tensor:
    """An array as a tensor where another one is."""
    return torch.from_numpy(array).to(tensor.device)
