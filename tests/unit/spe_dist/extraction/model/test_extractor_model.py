"""The packed model against loops that encode one sentence, one span and one pair at a time."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spe_dist.export.export_format import Description
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.extraction.model.architecture import Architecture
from spe_dist.extraction.model.calibration import Calibration, Scaling
from spe_dist.extraction.model.candidates import sentences_of, span_pairs
from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.extractor_model import ExtractorModel
from spe_dist.extraction.model.scheduled_sampling import GoldDraws
from spe_dist.models.sizes import PairEncoderSizes, SpanEncoderSizes
from tests.unit.spe_dist.extraction.model.slow_extractor import (
    batch_of,
    encode_alone,
    slow_entities,
    slow_losses,
    slow_relations,
)
from tests.unit.spe_dist.extraction.tiny import (
    ARCHITECTURE,
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


def gold_draws(spans: list[bool], entities: list[bool]) -> GoldDraws:
    return GoldDraws(np.array(spans), np.array(entities))


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
