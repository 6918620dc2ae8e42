"""The extractor as loops over sentences, spans and pairs: one at a time, not packed."""

import numpy as np
import torch

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from spe_dist.extraction.model.candidates import BEGIN, END, INSIDE, OUTSIDE, UNIT
from spe_dist.extraction.model.encoded_sentences import ExtractionBatch, encode_sentences
from spe_dist.extraction.model.extractor_model import ExtractorModel
from spe_dist.extraction.model.scheduled_sampling import GoldDraws
from spe_dist.extraction.model.span_detection import TagDetector
from spe_dist.extraction.model.word_shapes import NO_WORD, word_shape
from spe_dist.models.packed_attention import layout_of
from spe_dist.models.span_pair_encoder import SpanPairEncoder
from tests.unit.spe_dist.extraction.tiny import (
    LABELS,
    word_pieces,
)


def batch_of(sentences: list[AnnotatedSentence]) -> ExtractionBatch:
    return encode_sentences(sentences, LABELS, word_pieces(), max_pieces=64).batch(np.arange(len(sentences)))


def encode_alone(model: ExtractorModel, one: AnnotatedSentence) -> tuple[torch.Tensor, torch.Tensor]:
    """States of the words of a sentence, and of [CLS]."""
    batch = batch_of([one])
    if model.word_shapes is None:
        states = model.sentence_encoder(batch.packed)
        return states[batch.word_pieces], states[:1]
    of_words = [model.word_shapes.weight[word_shape(word)] for word in one.words]
    ends = [*batch.word_pieces.tolist()[1:], len(batch.packed.piece_ids) - 1]
    of_pieces = [
        vector for vector, first, end in zip(of_words, batch.word_pieces.tolist(), ends, strict=True)
        for _ in range(first, end)
    ]  # fmt: skip
    no_word = model.word_shapes.weight[NO_WORD]
    embeddings = model.sentence_encoder.word_embeddings(batch.packed.piece_ids)
    states = model.sentence_encoder.model(
        inputs_embeds=(embeddings + torch.stack([no_word, *of_pieces, no_word]))[None],
        position_ids=batch.packed.positions[None],
        layout=layout_of(batch.packed),
    ).last_hidden_state[0]
    return states[batch.word_pieces], states[:1]


def span_vector(encoder, words: torch.Tensor, start: int, end: int) -> torch.Tensor:
    return encoder(words, torch.tensor([start]), torch.tensor([end]))[0]


def relation_scores(model: ExtractorModel, words, cls, first, second, types=()) -> torch.Tensor:
    (a, b), (c, d) = first, second
    five = [
        span_vector(encoder, words, start, end)
        for encoder, start, end in (
            (model.context_encoder, 0, a), (model.span_encoder, a, b), (model.context_encoder, b, c),
            (model.span_encoder, c, d), (model.context_encoder, d, len(words)),
        )
    ]  # fmt: skip
    empty = [a == 0, False, b == c, False, d == len(words)]
    if isinstance(model.pair_encoder, SpanPairEncoder):
        pair = model.pair_encoder(torch.stack(five)[None], cls, torch.tensor([empty]))[0]
    else:
        pair = model.pair_encoder.block(
            torch.cat([vector * (not nothing) for vector, nothing in zip(five, empty, strict=True)])
        )
    if model.relations.types is not None:
        pair = torch.cat([pair, *(probabilities @ model.relations.types.weight for probabilities in types)])
    return model.relations.scores(model.relations.blocks(pair))


def span_score(model: ExtractorModel, words: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """Log-odds that a span is an entity of any type."""
    detector = model.detector
    if isinstance(detector, TagDetector):
        best = detector.tags(words).softmax(dim=1).max(dim=1).values
        return best[start:end].prod().logit()
    first, last = detector.first(words[start]), detector.last(words[end - 1])
    score = detector.product(first) @ last + detector.of_first(first) + detector.of_last(last)
    return (score + detector.lengths[end - start - 1])[0]


def span_probability(model: ExtractorModel, words: torch.Tensor, start: int, end: int) -> float:
    return float(span_score(model, words, start, end).sigmoid())


def proposed_spans(model: ExtractorModel, words: torch.Tensor) -> list[tuple[int, int]]:
    if isinstance(model.detector, TagDetector):
        return tagged_spans(model, words)
    return [
        (start, end) for start, end in short_spans(model, words) if span_probability(model, words, start, end) > 0.2
    ]


def short_spans(model: ExtractorModel, words: torch.Tensor) -> list[tuple[int, int]]:
    longest = model.constraints.max_words
    return [(a, b) for a in range(len(words)) for b in range(a + 1, min(a + longest, len(words)) + 1)]


def tagged_spans(model: ExtractorModel, words: torch.Tensor) -> list[tuple[int, int]]:
    spans, start = [], None
    for word, tag in enumerate(model.detector.tags(words).argmax(dim=1).tolist()):
        if tag in (OUTSIDE, BEGIN, UNIT):
            spans, start = spans if start is None else [*spans, (start, word)], None
        if tag != OUTSIDE and start is None:
            start = word
        if tag in (END, UNIT):
            spans, start = [*spans, (start, word + 1)], None
    return spans if start is None else [*spans, (start, len(words))]


def type_probabilities(model: ExtractorModel, words: torch.Tensor, span: tuple[int, int]) -> torch.Tensor:
    return model.types(span_vector(model.span_encoder, words, *span)).softmax(dim=0)


def tags_of(one: AnnotatedSentence) -> list[int]:
    tags = [OUTSIDE] * len(one.words)
    for entity in one.entities:
        tags[entity.word_start : entity.word_end] = [INSIDE] * (entity.word_end - entity.word_start)
        tags[entity.word_start], tags[entity.word_end - 1] = BEGIN, END
        if entity.word_end == entity.word_start + 1:
            tags[entity.word_start] = UNIT
    return tags


def slow_losses(model: ExtractorModel, sentences, gold: GoldDraws) -> tuple[list[float], list[int]]:
    """Losses of the tasks and how many items each had, one item at a time."""
    losses: list[list[torch.Tensor]] = [[], [], []]
    softplus = torch.nn.functional.softplus

    def add(task: int, scores: torch.Tensor, label: int) -> None:
        losses[task].append(-scores.log_softmax(dim=0)[label])

    for number, one in enumerate(sentences):
        words, cls = encode_alone(model, one)
        types = {(e.word_start, e.word_end): LABELS.entity_types.index(e.type) for e in one.entities}
        if isinstance(model.detector, TagDetector):
            for scores, tag in zip(model.detector.tags(words), tags_of(one), strict=True):
                add(0, scores, tag)
        else:
            scored = [(span, span_score(model, words, *span)) for span in short_spans(model, words)]
            losses[0] += [softplus(-score if span in types else score) for span, score in scored]
        spans = set(types) | (set() if gold.spans[number] else set(proposed_spans(model, words)))
        of_type = {span: type_probabilities(model, words, span) for span in spans}
        for span in spans:
            add(1, of_type[span].log(), types.get(span, LABELS.no_entity))
        related = {}
        for relation in one.relations:
            head, tail = (
                (one.entities[i].word_start, one.entities[i].word_end) for i in (relation.head, relation.tail)
            )
            related[min(head, tail), max(head, tail)] = 2 * LABELS.relation_types.index(relation.type) + (head > tail)
        typed = {span for span in spans if int(of_type[span].argmax()) != LABELS.no_entity}
        paired = set(types) if gold.entities[number] else typed
        for first in spans:
            for second in spans:
                both = (first, second)
                seen = [
                    certain(types.get(span, LABELS.no_entity)) if gold.entities[number] else of_type[span]
                    for span in both
                ]
                if first[1] <= second[0] and ({first, second} <= paired or both in related):
                    add(2, relation_scores(model, words, cls, *both, seen), related.get(both, LABELS.no_relation))
    sums, counts = [float(torch.stack(task).sum()) for task in losses], [len(task) for task in losses]
    words_in_all = sum(len(one.words) for one in sentences)
    return [sums[0] / words_in_all, sums[1] / counts[1], sums[2] / counts[2]], counts


def certain(kind: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(kind), LABELS.no_entity + 1).float()


def slow_entities(model: ExtractorModel, words: torch.Tensor) -> list[tuple[tuple[int, int], int, float]]:
    """Spans, types and scores of entities, in the order of the text."""
    found = []
    for span in proposed_spans(model, words):
        *types, none = type_probabilities(model, words, span).tolist()
        score = max(types) * span_probability(model, words, *span)
        if max(types) > none if isinstance(model.detector, TagDetector) else score >= 0.5:
            found.append((span, types.index(max(types)), score))
    if not model.constraints.overlapping:
        kept: list = []
        for candidate in sorted(found, key=lambda entity: -entity[2]):
            if all(candidate[0][1] <= a or b <= candidate[0][0] for (a, b), _, _ in kept):
                kept.append(candidate)
        found = kept
    return sorted(found)


def slow_relations(
    model: ExtractorModel, words, cls, entities
) -> list[tuple[tuple[int, int], tuple[int, int], int, float]]:
    """First span, second span, class and score of relations."""
    triples, found = model.constraints.triples, []
    for first, one, score in entities:
        for second, other, other_score in entities:
            if first[1] > second[0]:
                continue
            seen = [type_probabilities(model, words, span) for span in (first, second)]
            scores = relation_scores(model, words, cls, first, second, seen)
            for label in range(LABELS.no_relation):
                ends = [LABELS.entity_types[kind] for kind in ((one, other), (other, one))[label % 2]]
                if triples is not None and (ends[0], LABELS.relation_types[label // 2], ends[1]) not in triples:
                    scores[label] = -torch.inf
            probabilities = scores.softmax(dim=0)
            label = int(probabilities.argmax())
            if label != LABELS.no_relation:
                found.append((first, second, label, float(probabilities[label]) * score * other_score))
    return found
