"""The packed model against loops that encode one sentence, one span and one pair at a time."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from spe_dist.export.export_format import Description
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.extraction.model.architecture import Architecture
from spe_dist.extraction.model.calibration import Calibration, Scaling
from spe_dist.extraction.model.candidates import BEGIN, END, INSIDE, OUTSIDE, UNIT, sentences_of, span_pairs
from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import ExtractionBatch, encode_sentences
from spe_dist.extraction.model.extractor_model import ExtractorModel
from spe_dist.extraction.model.scheduled_sampling import GoldDraws
from spe_dist.extraction.model.span_detection import TagDetector
from spe_dist.extraction.model.word_shapes import NO_WORD, word_shape
from spe_dist.models.packed_attention import layout_of
from spe_dist.models.sizes import PairEncoderSizes, SpanEncoderSizes
from spe_dist.models.span_pair_encoder import SpanPairEncoder
from tests.unit.spe_dist.extraction.tiny import (
    ARCHITECTURE,
    LABELS,
    SENTENCES,
    SPAN_SIZE,
    sentence,
    tiny_model,
    word_pieces,
)

SPANS_AND_TYPES = Architecture(
    detector="spans",
    span_encoder=SpanEncoderSizes(kernel_sizes=(2, 3), channels=5, size=SPAN_SIZE),
    context_encoder=SpanEncoderSizes(kernel_sizes=(1, 2), channels=4, size=7),
    pair_encoder="concatenation",
    pair_size=9,
    relation_sizes=(11,),
    word_shapes=True,
    type_size=3,
)
CONSTRAINTS = Constraints.of([*SENTENCES, sentence("a b", "0-1:LOC 1-2:PER", "0>1:seat")])
OVERLAPPING = replace(CONSTRAINTS, overlapping=True)


@pytest.fixture(scope="module", params=["papers", "spans", "overlapping"])
def model(request: pytest.FixtureRequest) -> ExtractorModel:
    """With weights so large that spans, types and relations are of all kinds."""
    if request.param == "papers":
        model = tiny_model(seed=5).eval()
    else:
        constraints = OVERLAPPING if request.param == "overlapping" else CONSTRAINTS
        model = tiny_model(architecture=SPANS_AND_TYPES, constraints=constraints, seed=2).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "detector" not in name:
                parameter.mul_(3)
        if request.param != "papers":
            model.detector.product.weight.mul_(2)
            model.types.weight.mul_(20)
            model.word_shapes.weight.normal_(std=0.02)
            model.relations.scores.weight.mul_(5)
    return model


def batch_of(sentences: list[AnnotatedSentence]) -> ExtractionBatch:
    return encode_sentences(sentences, LABELS, word_pieces(), max_pieces=64).batch(np.arange(len(sentences)))


def gold_draws(spans: list[bool], entities: list[bool]) -> GoldDraws:
    return GoldDraws(np.array(spans), np.array(entities))


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


@pytest.mark.parametrize(
    ("spans", "entities"),
    [
        ([True] * 5, [True] * 5),
        ([False] * 5, [False] * 5),
        ([True, False, True, False, True], [False, True, True, False, False]),
    ],
)
@torch.no_grad()
def test_losses_are_those_of_a_loop_over_words_spans_and_pairs(model, spans, entities):
    gold = gold_draws(spans, entities)
    result = model(batch_of(SENTENCES), gold)
    losses, counts = slow_losses(model, SENTENCES, gold)
    assert result.counts.tolist() == counts
    torch.testing.assert_close(result.losses, torch.tensor(losses), atol=1e-5, rtol=1e-5)
    assert min(counts) > 0
    if not all(spans):
        assert counts[1] > sum(len(one.entities) for one in SENTENCES)  # there are candidates of its own


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


@torch.no_grad()
def test_what_is_extracted_is_what_a_loop_extracts(model):
    batch = batch_of(SENTENCES)
    found = model.extract(batch)
    entities, relations = [], []
    for shift, one in zip(batch.word_offsets.tolist(), SENTENCES, strict=False):
        words, cls = encode_alone(model, one)
        of_sentence = slow_entities(model, words)
        entities += [([a + shift, b + shift], kind, score) for (a, b), kind, score in of_sentence]
        for first, second, *rest in slow_relations(model, words, cls, of_sentence):
            relations.append(([first[0] + shift, first[1] + shift], [second[0] + shift, second[1] + shift], *rest))
    spans = found.spans.tolist()
    assert list(zip(spans, found.types.tolist(), strict=True)) == [entity[:2] for entity in entities]
    np.testing.assert_allclose(found.entity_scores, [entity[2] for entity in entities], rtol=1e-4)
    pairs = [(spans[first], spans[second]) for first, second in found.pairs.tolist()]
    assert [(*pair, label) for pair, label in zip(pairs, found.relations.tolist(), strict=True)] == [
        relation[:3] for relation in relations
    ]
    np.testing.assert_allclose(found.relation_scores, [relation[3] for relation in relations], rtol=1e-4)
    assert len(entities) > 4
    assert len(relations) > 1
    ends = found.spans[:, 1]
    overlaps = (found.spans[1:, 0] < np.maximum.accumulate(ends)[:-1]).sum()
    assert (overlaps > 0) == model.constraints.overlapping


@torch.no_grad()
def test_a_calibrated_model_finds_the_same_with_other_scores(model):
    batch = batch_of(SENTENCES)
    plain = model.extract(batch)
    calibration = Calibration(
        entities=Scaling(weights=(0.5,), shift=-0.2),
        relations=Scaling(weights=(0.4, 0.3, -0.2, -0.1), shift=0.1),
    )
    model.calibration = calibration
    try:
        scaled = model.extract(batch)
    finally:
        model.calibration = None
    assert scaled.spans.tolist() == plain.spans.tolist() and scaled.relations.tolist() == plain.relations.tolist()
    logits = [math.log(score / (1 - score)) for score in plain.entity_scores]
    np.testing.assert_allclose(scaled.entity_scores, [sigmoid(0.5 * logit - 0.2) for logit in logits])
    sentences = sentences_of(plain.spans, batch.word_offsets).tolist()
    for (first, second), own, score in zip(
        plain.pairs.tolist(), plain.relation_scores, scaled.relation_scores, strict=True
    ):
        alone = own / plain.entity_scores[first] / plain.entity_scores[second]
        between = plain.spans[second, 0] - plain.spans[first, 1]
        logit = 0.4 * math.log(alone / (1 - alone)) + 0.3 * min(logits[first], logits[second]) + 0.1
        logit += -0.2 * math.log(1 + between) - 0.1 * math.log(sentences.count(sentences[first]))
        assert score == pytest.approx(sigmoid(logit))


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


@torch.no_grad()
def test_pair_vectors_are_those_of_the_span_pair_model(model):
    """Where the context encoder still is the copy of the span encoder it begins as."""
    ours = tiny_model(seed=3).eval()
    ours.context_encoder.load_state_dict(ours.span_encoder.state_dict())
    theirs = SpanPairModel(description(), ours.sentence_encoder, word_pieces())
    theirs.span_encoder.load_state_dict(ours.span_encoder.state_dict())
    theirs.pair_encoder.load_state_dict(ours.pair_encoder.state_dict())
    batch = batch_of(SENTENCES)
    spans = batch.gold_spans
    pairs = span_pairs(spans, sentences_of(spans, batch.word_offsets))
    texts, pairs_of_texts = texts_with_pairs()
    encoded = ours._encode(batch)
    vectors = ours._span_vectors(ours.span_encoder, encoded, spans)
    pair_vectors = ours._pair_vectors(encoded, batch, spans, vectors, pairs)
    expected = theirs.encode_batch(texts, pairs=pairs_of_texts)
    torch.testing.assert_close(pair_vectors, torch.cat([v.pairs for v in expected]), atol=1e-5, rtol=0)
    assert len(pair_vectors) == 1 + 3 + 3


def texts_with_pairs():
    """Texts, and all pairs of their entities by characters, in the order of the text."""
    texts, pairs = [], []
    for one in SENTENCES:
        starts = np.cumsum([0] + [len(word) + 1 for word in one.words])
        characters = sorted((int(starts[e.word_start]), int(starts[e.word_end] - 1)) for e in one.entities)
        texts.append(" ".join(one.words))
        pairs.append([(a, b) for i, a in enumerate(characters) for b in characters[i + 1 :]])
    return texts, pairs


def description() -> Description:
    return Description(
        method="spe", weights="query", step=0, max_pieces=64, language="en",
        span_encoder=SpanEncoderSizes(kernel_sizes=(2, 3), channels=5, size=SPAN_SIZE),
        pair_encoder=PairEncoderSizes(attention_size=8, position_size=4), head_size=None, normalize=True,
    )  # fmt: skip


@pytest.mark.parametrize("architecture", [ARCHITECTURE, SPANS_AND_TYPES], ids=["papers", "spans"])
def test_every_parameter_has_a_gradient_even_without_candidates(architecture):
    """DeepSpeed waits for every one."""
    model = tiny_model(architecture=architecture)
    for sentences in ([sentence("nothing is here .")], [sentence("")]):
        model.zero_grad()
        result = model(batch_of(sentences), gold_draws([True], [True]))
        result.losses.sum().backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
        assert torch.isfinite(result.losses).all()
    assert result.counts.tolist() == [0, 0, 0]


def test_predictions_do_not_depend_on_the_batch(model):
    rows = SENTENCES * 3
    together = model.extract(batch_of(rows))
    offsets = np.cumsum([0] + [len(one.words) for one in rows])
    spans, types, relations = [], [], []
    for first_word, one in zip(offsets.tolist(), rows, strict=False):
        alone = model.extract(batch_of([one]))
        spans += (alone.spans + first_word).tolist()
        types += alone.types.tolist()
        relations += alone.relations.tolist()
    assert together.spans.tolist() == spans
    assert together.types.tolist() == types
    assert together.relations.tolist() == relations
    nothing = model.extract(batch_of([]))
    assert nothing.spans.shape == (0, 2)
