"""Which words are an entity, before its type is asked for: by a tag for each word, or by a score for each span.

Tags are the papers' way and find no two entities that overlap. Scores of spans (a biaffine function of a span's first
and last word, and a bias for its length) find any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_shards.ragged import IntArray
from spe_dist.extraction.model.candidates import TAGS, Spans, decode_tags, tag_words
from spe_dist.extraction.model.encoded_sentences import ExtractionBatch
from spe_dist.models.transform_block import INITIAL_STD, TransformBlock

_END_SIZE = 128  # of the vectors of a span's first and last word
_PROPOSED = 0.2  # probability from which on a span's type is asked for
_ACCEPTED = 0.5  # probability of span and type together from which on it is an entity
_RARE = -2.0  # few spans are entities: the bias that training starts from


@dataclass(frozen=True)
class DetectionLoss:
    """How well spans are told from others in a batch."""

    loss: Tensor  # mean over words
    correct: Tensor  # int64
    count: int  # of words, or of spans


class TagDetector(nn.Module):
    """O, B, I, E or U of every word."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.tags = linear(hidden_size, len(TAGS))

    def forward(self, words: Tensor, word_offsets: IntArray) -> Tensor:
        """Scores of the tags of each word, [W, 5]."""
        return self.tags(words)

    def loss(self, scores: Tensor, batch: ExtractionBatch) -> DetectionLoss:
        """Cross-entropy of the tags; of entities that overlap, the tags mark the longest."""
        tags = tag_words(batch.gold_spans[batch.gold_tagged], len(scores))
        loss, correct = cross_entropy(scores, tags)
        return DetectionLoss(loss, correct, len(tags))

    @torch.no_grad()
    def propose(self, scores: Tensor, word_offsets: IntArray) -> tuple[Spans, Tensor]:
        """The spans that the best tags mark, [N, 2], and the probability of all tags of each, [N]."""
        best, tags = scores.double().log_softmax(dim=1).max(dim=1)
        spans = decode_tags(tags.cpu().numpy(), word_offsets)
        sums = torch.cat([best.new_zeros(1), best.cumsum(0)])
        starts, ends = (torch.from_numpy(np.ascontiguousarray(places)).to(sums.device) for places in spans.T)
        return spans, (sums[ends] - sums[starts]).exp()

    def accept(self, entities: Tensor, no_entity: Tensor) -> NDArray[np.bool_]:
        """Whether proposed spans are entities: tags have decided, and types may still refuse.

        Args:
            entities: probability of the best type and the span, [N].
            no_entity: probability of the span and of no type, [N].
        """
        return (entities > no_entity).cpu().numpy()


class SpanDetector(nn.Module):
    """A score for every span of up to `max_words` words of a sentence.

    Args:
        hidden_size: size of word vectors, H.
        max_words: K, longest span.
        dropout: dropout of the vectors of first and last words.
    """

    def __init__(self, hidden_size: int, max_words: int, *, dropout: float) -> None:
        super().__init__()
        self.first = TransformBlock(hidden_size, _END_SIZE, dropout=dropout)
        self.last = TransformBlock(hidden_size, _END_SIZE, dropout=dropout)
        self.product = linear(_END_SIZE, _END_SIZE)
        self.of_first, self.of_last = linear(_END_SIZE, 1), linear(_END_SIZE, 1)
        self.lengths = nn.Parameter(torch.full((max_words,), _RARE))

    def forward(self, words: Tensor, word_offsets: IntArray) -> Tensor:
        """Scores of the spans of 1 to K words that begin with each word, [W, K]; -inf where the sentence is over."""
        first, last = self.first(words), self.last(words)
        product, of_last, num_words = self.product(first), self.of_last(last), len(words)
        columns = []
        for length in range(len(self.lengths)):
            beginnings = max(num_words - length, 0)
            scores = (product[:beginnings] * last[length:]).sum(1) + of_last[length:, 0]
            columns.append(nn.functional.pad(scores, (0, num_words - beginnings)))
        scores = torch.stack(columns, dim=1) + self.of_first(first) + self.lengths
        return scores.float().masked_fill(~_in_sentence(word_offsets, len(self.lengths)).to(scores.device), -torch.inf)

    def loss(self, scores: Tensor, batch: ExtractionBatch) -> DetectionLoss:
        """Binary cross-entropy, summed over spans, per word."""
        in_sentence = scores.isfinite()
        gold = torch.zeros(scores.shape, dtype=torch.bool)
        lengths = batch.gold_spans[:, 1] - batch.gold_spans[:, 0]
        fits = lengths <= scores.shape[1]
        gold[batch.gold_spans[fits, 0], lengths[fits] - 1] = True
        gold = gold.to(scores.device)
        known, targets = scores[in_sentence], gold[in_sentence]
        losses = nn.functional.binary_cross_entropy_with_logits(known, targets.float(), reduction="sum")
        return DetectionLoss(losses / max(len(scores), 1), ((known > 0) == targets).sum(), len(known))

    @torch.no_grad()
    def propose(self, scores: Tensor, word_offsets: IntArray) -> tuple[Spans, Tensor]:
        """Spans that are likely enough to ask for their type, sorted, [N, 2], and their probabilities, [N]."""
        probabilities = scores.double().sigmoid()
        proposed = (probabilities > _PROPOSED).nonzero()
        places = proposed.cpu().numpy()
        spans = np.stack([places[:, 0], places.sum(axis=1) + 1], axis=1)
        return spans, probabilities[proposed[:, 0], proposed[:, 1]]

    def accept(self, entities: Tensor, no_entity: Tensor) -> NDArray[np.bool_]:
        """Whether proposed spans are entities: rather than not; arguments as of `TagDetector.accept`."""
        return (entities >= _ACCEPTED).cpu().numpy()


Detector = TagDetector | SpanDetector


def without_overlaps(spans: Spans, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which spans to keep so that none overlap: the best first, then the next best that still fits.

    Args:
        spans: sorted, [N, 2].
        scores: scores of the spans, [N].
    """
    kept = np.ones(len(spans), dtype=np.bool_)
    reach = np.maximum.accumulate(spans[:, 1]) if len(spans) else spans[:, 1]
    begins_cluster = np.append(True, spans[1:, 0] >= reach[:-1])[: len(spans)]
    clusters = np.cumsum(begins_cluster) - 1
    crowded = np.bincount(clusters)[clusters] > 1 if len(spans) else kept
    kept[crowded] = False
    used: set[int] = set()  # only the few spans that do overlap come here
    for number in sorted(np.flatnonzero(crowded).tolist(), key=lambda row: (-scores[row], row)):
        words = range(*spans[number].tolist())
        if used.isdisjoint(words):
            kept[number] = True
            used.update(words)
    return kept


def linear(size: int, classes: int) -> nn.Linear:
    """A linear layer that starts as BERT's do."""
    layer = nn.Linear(size, classes)
    nn.init.normal_(layer.weight, std=INITIAL_STD)
    nn.init.zeros_(layer.bias)
    return layer


def cross_entropy(scores: Tensor, labels: IntArray) -> tuple[Tensor, Tensor]:
    """Mean over all rows, 0 without any but still in the graph; and how many rows are right."""
    targets = torch.from_numpy(labels).to(scores.device)
    loss = nn.functional.cross_entropy(scores.float(), targets, reduction="sum") / max(len(labels), 1)
    return loss, (scores.detach().argmax(dim=1) == targets).sum()


def _in_sentence(word_offsets: IntArray, max_words: int) -> Tensor:
    """Whether a span of each length that begins with each word ends in the word's sentence, [W, K]."""
    lengths = np.diff(word_offsets)
    room = np.repeat(word_offsets[1:], lengths) - np.arange(word_offsets[-1])
    return torch.from_numpy(room[:, None] > np.arange(max_words))
