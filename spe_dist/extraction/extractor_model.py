"""Joint extraction as the papers fine-tune it: spans by tags, their types, and the relations of their pairs.

    tags        O, B, I, E, U of every word, from the state of its first piece
    types       of every candidate span, from the pre-trained span encoder; the last class is "no entity"
    relations   of every pair of entities, from the pre-trained span pair encoder; two directions per type, and "none"

Left, middle and right of a pair have a span encoder of their own, which begins as a copy of the pre-trained one. Each
of the two encoders is called once per forward, for all spans of all sentences.
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
from spe_dist.extraction.candidates import (
    TAGS,
    ContextSpans,
    Spans,
    decode_tags,
    distinct_rows,
    labels_of,
    places_of,
    sentences_of,
    span_pairs,
    tag_words,
)
from spe_dist.extraction.encoded_sentences import ExtractionBatch, Labels
from spe_dist.extraction.scheduled_sampling import GoldDraws
from spe_dist.models.from_sizes import PairEncoder
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.models.span_encoder import SpanEncoder
from spe_dist.models.span_pair_encoder import SpanPairEncoder
from spe_dist.models.transform_block import INITIAL_STD, TransformBlock

TASKS = ("span", "entity", "relation")
_MOST_PAIRS = 16_384  # classified at a time when extracting: a sentence full of entities has very many


@dataclass(frozen=True)
class TaskLosses:
    """Of the three tasks of a batch."""

    losses: Tensor  # [3] mean cross-entropy of each task; the loss is their sum
    correct: Tensor  # [3] int64, how many items were right
    counts: Tensor  # [3] int64: words, candidate spans, candidate pairs


@dataclass(frozen=True)
class Extracted:
    """What a model finds in a batch, on the host."""

    spans: Spans  # [N, 2] packed words of entities, sorted
    types: NDArray[np.int64]  # [N]
    type_scores: NDArray[np.float32]  # [N] probability of the type
    pairs: NDArray[np.int64]  # [M, 2] first and second entity of each relation, in the order of the text
    relations: NDArray[np.int64]  # [M] 2 * type + direction
    relation_scores: NDArray[np.float32]  # [M] probability of type and direction


@dataclass(frozen=True)
class _Encoded:
    words: Tensor  # [W, H]
    sentences: Tensor  # [S, H] states of [CLS]


class RelationClassifier(nn.Module):
    """Transform blocks of the given sizes and a linear layer, [M, pair size] → [M, 2 R + 1]."""

    def __init__(self, pair_size: int, hidden_sizes: Sequence[int], classes: int, *, dropout: float) -> None:
        super().__init__()
        sizes = (pair_size, *hidden_sizes)
        self.blocks = nn.Sequential(*(TransformBlock(*pair, dropout=dropout) for pair in pairwise(sizes)))
        self.scores = _linear(sizes[-1], classes)

    def forward(self, pairs: Tensor) -> Tensor:
        """Scores of every relation in both directions, and of none."""
        return self.scores(self.blocks(pairs))


class ExtractorModel(nn.Module):
    """Sentence, span, context and pair encoders with three classifiers.

    Args:
        labels: entity and relation types.
        sentence_encoder: with "packed" attention.
        span_encoder: of the spans themselves.
        context_encoder: of left, middle and right.
        pair_encoder: SPE's attention over the five spans, or ENPAR's concatenation of them.
        relation_size: of the relation classifier's hidden layer, which ENPAR's vectors go without.
        dropout: of the states of words and of the relation classifier.
    """

    def __init__(
        self,
        labels: Labels,
        *,
        sentence_encoder: SentenceEncoder,
        span_encoder: SpanEncoder,
        context_encoder: SpanEncoder,
        pair_encoder: PairEncoder,
        relation_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.labels = labels
        self.sentence_encoder = sentence_encoder
        self.span_encoder, self.context_encoder, self.pair_encoder = span_encoder, context_encoder, pair_encoder
        self.dropout = nn.Dropout(dropout)
        self.tags = _linear(sentence_encoder.hidden_size, len(TAGS))
        self.types = _linear(span_encoder.size, labels.no_entity + 1)
        hidden_sizes = (pair_encoder.size, relation_size) if isinstance(pair_encoder, SpanPairEncoder) else ()
        self.relations = RelationClassifier(pair_encoder.size, hidden_sizes, labels.no_relation + 1, dropout=dropout)

    def forward(self, batch: ExtractionBatch, gold: GoldDraws) -> TaskLosses:
        """Losses of the three tasks.

        Args:
            batch: annotated sentences.
            gold: for each sentence, whether gold spans alone are candidates, and whether gold entities alone are paired
                (related gold pairs always are).
        """
        encoded = self._encode(batch)
        tag_scores = self.tags(encoded.words)
        tags = tag_words(batch.gold_spans[batch.gold_tagged], len(batch.word_pieces))
        spans = self._candidates(batch, tag_scores, gold)
        vectors = self._span_vectors(self.span_encoder, encoded, spans)
        type_scores = self.types(vectors)
        types = labels_of(spans, batch.gold_spans, batch.gold_types, none=self.labels.no_entity)
        pairs, relations = self._training_pairs(batch, spans, type_scores, gold)
        relation_scores = self._relation_scores(encoded, batch, spans, vectors, pairs)
        scored = ((tag_scores, tags), (type_scores, types), (relation_scores, relations))
        losses, correct = zip(*(_cross_entropy(scores, labels) for scores, labels in scored), strict=True)
        counts = torch.tensor([len(labels) for _, labels in scored])
        return TaskLosses(torch.stack(losses), torch.stack(correct), counts)

    @torch.no_grad()
    def extract(self, batch: ExtractionBatch) -> Extracted:
        """Entities and relations; nothing that is annotated is looked at."""
        encoded = self._encode(batch)
        spans = self._tagged_spans(batch, self.tags(encoded.words))
        vectors = self._span_vectors(self.span_encoder, encoded, spans)
        types, type_scores = _best(self.types(vectors))
        entities = np.flatnonzero(types != self.labels.no_entity)
        spans, vectors = spans[entities], vectors[_on(vectors, entities)]
        pairs = span_pairs(spans, sentences_of(spans, batch.word_offsets))
        relations, relation_scores = self._best_relations(encoded, batch, spans, vectors, pairs)
        related = np.flatnonzero(relations != self.labels.no_relation)
        return Extracted(
            spans, types[entities], type_scores[entities], pairs[related], relations[related], relation_scores[related]
        )

    def _best_relations(
        self, encoded: _Encoded, batch: ExtractionBatch, spans: Spans, vectors: Tensor, pairs: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The best relation of each pair, and its probability, in portions that fit into memory."""
        if len(pairs) <= _MOST_PAIRS:
            return _best(self._relation_scores(encoded, batch, spans, vectors, pairs))
        portions = []
        for first in range(0, len(pairs), _MOST_PAIRS):
            portion = pairs[first : first + _MOST_PAIRS]
            used, places = np.unique(portion, return_inverse=True)
            of_portion = (spans[used], vectors[_on(vectors, used)], places.reshape(portion.shape))
            portions.append(_best(self._relation_scores(encoded, batch, *of_portion)))
        relations, scores = (np.concatenate(parts) for parts in zip(*portions, strict=True))
        return relations, scores

    def _encode(self, batch: ExtractionBatch) -> _Encoded:
        states = self.dropout(self.sentence_encoder(batch.packed))
        return _Encoded(states[batch.word_pieces], states[batch.packed.sequence_starts[:-1]])

    def _tagged_spans(self, batch: ExtractionBatch, tag_scores: Tensor) -> Spans:
        return decode_tags(tag_scores.argmax(dim=1).cpu().numpy(), batch.word_offsets)

    def _candidates(self, batch: ExtractionBatch, tag_scores: Tensor, gold: GoldDraws) -> Spans:
        """Gold spans, and in sentences that do not learn from gold alone the spans that the tags mark."""
        if gold.spans.all():
            return batch.gold_spans
        tagged = self._tagged_spans(batch, tag_scores.detach())
        own = tagged[~gold.spans[sentences_of(tagged, batch.word_offsets)]]
        return distinct_rows(batch.gold_spans, own)

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
        starts, ends = torch.from_numpy(np.ascontiguousarray(spans.T)).to(encoded.words.device)
        return encoder(encoded.words, starts, ends)

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
        self, encoded: _Encoded, batch: ExtractionBatch, spans: Spans, vectors: Tensor, pairs: IntArray
    ) -> Tensor:
        return self.relations(self._pair_vectors(encoded, batch, spans, vectors, pairs))


def _linear(size: int, classes: int) -> nn.Linear:
    layer = nn.Linear(size, classes)
    nn.init.normal_(layer.weight, std=INITIAL_STD)
    nn.init.zeros_(layer.bias)
    return layer


def _on(tensor: Tensor, array: np.ndarray) -> Tensor:
    """An array as a tensor where another one is."""
    return torch.from_numpy(array).to(tensor.device)


def _cross_entropy(scores: Tensor, labels: IntArray) -> tuple[Tensor, Tensor]:
    """Mean over all rows, 0 without any but still in the graph; and how many rows are right."""
    targets = _on(scores, labels)
    loss = nn.functional.cross_entropy(scores.float(), targets, reduction="sum") / max(len(labels), 1)
    return loss, (scores.detach().argmax(dim=1) == targets).sum()


def _best(scores: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best class of each row, and its probability."""
    probabilities, classes = scores.float().softmax(dim=1).max(dim=1)
    return classes.cpu().numpy(), probabilities.cpu().numpy()
