"""The packed model against loops that encode one sentence, one span and one pair at a time."""

import numpy as np
import pytest
import torch

from spe_dist.extraction.annotated_sentence import AnnotatedSentence
from spe_dist.extraction.candidates import BEGIN, END, INSIDE, OUTSIDE, UNIT, sentences_of, span_pairs
from spe_dist.extraction.encoded_sentences import ExtractionBatch, encode_sentences
from spe_dist.extraction.extractor_model import ExtractorModel
from spe_dist.extraction.scheduled_sampling import GoldDraws
from spe_dist.models.export_format import Description, PairEncoderSizes, SpanEncoderSizes
from spe_dist.models.span_pair_model import SpanPairModel
from tests.unit.spe_dist.extraction.tiny import LABELS, SENTENCES, SPAN_SIZE, sentence, tiny_model, word_pieces


@pytest.fixture(scope="module")
def model() -> ExtractorModel:
    """With weights so large that tags, types and relations are of all kinds."""
    model = tiny_model(seed=5).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    return model


def batch_of(sentences: list[AnnotatedSentence]) -> ExtractionBatch:
    return encode_sentences(sentences, LABELS, word_pieces(), max_pieces=64).batch(np.arange(len(sentences)))


def gold_draws(spans: list[bool], entities: list[bool]) -> GoldDraws:
    return GoldDraws(np.array(spans), np.array(entities))


def encode_alone(model: ExtractorModel, one: AnnotatedSentence) -> tuple[torch.Tensor, torch.Tensor]:
    """States of the words of a sentence, and of [CLS]."""
    batch = batch_of([one])
    states = model.sentence_encoder(batch.packed)
    return states[batch.word_pieces], states[:1]


def span_vector(encoder, words: torch.Tensor, start: int, end: int) -> torch.Tensor:
    return encoder(words, torch.tensor([start]), torch.tensor([end]))[0]


def relation_scores(model: ExtractorModel, words, cls, first, second) -> torch.Tensor:
    (a, b), (c, d) = first, second
    five = [
        span_vector(encoder, words, start, end)
        for encoder, start, end in (
            (model.context_encoder, 0, a), (model.span_encoder, a, b), (model.context_encoder, b, c),
            (model.span_encoder, c, d), (model.context_encoder, d, len(words)),
        )
    ]  # fmt: skip
    empty = torch.tensor([[a == 0, False, b == c, False, d == len(words)]])
    return model.relations(model.pair_encoder(torch.stack(five)[None], cls, empty))[0]


def tagged_spans(model: ExtractorModel, words: torch.Tensor) -> list[tuple[int, int]]:
    spans, start = [], None
    for word, tag in enumerate(model.tags(words).argmax(dim=1).tolist()):
        if tag in (OUTSIDE, BEGIN, UNIT):
            spans, start = spans if start is None else [*spans, (start, word)], None
        if tag != OUTSIDE and start is None:
            start = word
        if tag in (END, UNIT):
            spans, start = [*spans, (start, word + 1)], None
    return spans if start is None else [*spans, (start, len(words))]


def span_type(model: ExtractorModel, words: torch.Tensor, span: tuple[int, int]) -> int:
    return int(model.types(span_vector(model.span_encoder, words, *span)).argmax())


def tags_of(one: AnnotatedSentence) -> list[int]:
    tags = [OUTSIDE] * len(one.words)
    for entity in one.entities:
        tags[entity.word_start : entity.word_end] = [INSIDE] * (entity.word_end - entity.word_start)
        tags[entity.word_start], tags[entity.word_end - 1] = BEGIN, END
        if entity.word_end == entity.word_start + 1:
            tags[entity.word_start] = UNIT
    return tags


def slow_losses(model: ExtractorModel, sentences, gold: GoldDraws) -> tuple[list[float], list[int]]:
    """Mean losses of the tasks and how many items each had, one item at a time."""
    losses: list[list[torch.Tensor]] = [[], [], []]

    def add(task: int, scores: torch.Tensor, label: int) -> None:
        losses[task].append(-scores.log_softmax(dim=0)[label])

    for number, one in enumerate(sentences):
        words, cls = encode_alone(model, one)
        for scores, tag in zip(model.tags(words), tags_of(one), strict=True):
            add(0, scores, tag)
        types = {(e.word_start, e.word_end): LABELS.entity_types.index(e.type) for e in one.entities}
        spans = set(types) | (set() if gold.spans[number] else set(tagged_spans(model, words)))
        for span in spans:
            add(1, model.types(span_vector(model.span_encoder, words, *span)), types.get(span, LABELS.no_entity))
        related = {}
        for relation in one.relations:
            head, tail = (
                (one.entities[i].word_start, one.entities[i].word_end) for i in (relation.head, relation.tail)
            )
            related[min(head, tail), max(head, tail)] = 2 * LABELS.relation_types.index(relation.type) + (head > tail)
        typed = {span for span in spans if span_type(model, words, span) != LABELS.no_entity}
        paired = set(types) if gold.entities[number] else typed
        for first in spans:
            for second in spans:
                both = (first, second)
                if first[1] <= second[0] and ({first, second} <= paired or both in related):
                    add(2, relation_scores(model, words, cls, *both), related.get(both, LABELS.no_relation))
    return [float(torch.stack(task).mean()) for task in losses], [len(task) for task in losses]


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
    for first_word, one in zip(batch.word_offsets.tolist(), SENTENCES, strict=False):
        words, cls = encode_alone(model, one)
        typed = [(span, kind) for span in tagged_spans(model, words) if (kind := span_type(model, words, span)) < 3]
        entities += [([a + first_word, b + first_word], kind) for (a, b), kind in typed]
        for first, _ in typed:
            for second, _ in typed:
                if first[1] <= second[0]:
                    scores = relation_scores(model, words, cls, first, second).softmax(dim=0)
                    if int(scores.argmax()) != LABELS.no_relation:
                        relations.append(
                            (first[0] + first_word, second[0] + first_word, int(scores.argmax()), scores.max())
                        )
    assert [(span, kind) for span, kind in zip(found.spans.tolist(), found.types.tolist(), strict=True)] == entities
    starts = found.spans[found.pairs, 0]
    found_relations = [(*pair, label) for pair, label in zip(starts.tolist(), found.relations.tolist(), strict=True)]
    assert found_relations == [relation[:3] for relation in relations]
    np.testing.assert_allclose(found.relation_scores, [float(r[3]) for r in relations], rtol=1e-4)
    assert len(entities) > 4
    assert len(relations) > 2
    assert (found.type_scores > 1 / 4).all()


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


def test_every_parameter_has_a_gradient_even_without_candidates():
    """DeepSpeed waits for every one."""
    model = tiny_model()
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
