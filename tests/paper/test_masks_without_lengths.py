"""One mask for a hidden span, TBO and SPO on whole sentences: a step against loops over sentences, one at a time."""

from itertools import pairwise

import pytest
import torch

from spe_dist.batches.batch import PackedSequences
from tests.paper.tiny_spe import LANE_SIZE, Reader, build_spe, forwards_of_step
from tests.unit.spe_dist.batches.sentences import SPECIAL, flat, sentences_of, word_starts

R = 2 * LANE_SIZE


@pytest.fixture(scope="module")
def step():
    """A method, one of its batches, the sentences as drawn, and losses with 30 negatives."""
    spans = {"mask_unit": "span", "whole_sentences": True}
    spe, engine = build_spe(spans=spans, encoder={"dropout": 0.0}, cspo={"temperature": 0.07})
    _, (batch, *_) = forwards_of_step(spe)
    drawn = spe.collate.draw(Reader().take(range(R)), 0, [0, 1])
    spe.queue.enqueue(torch.arange(30), *torch.nn.functional.normalize(torch.randn(2, 30, 16), dim=2))
    with torch.no_grad():
        for key in spe.momentum_encoder.state().values():  # or keys would be the queries
            key.add_(0.3 * torch.randn_like(key))
        losses, _ = spe.forward(engine, batch)
    return spe, drawn, losses


def states_of(encoder, pieces):
    ids = torch.tensor([SPECIAL.cls, *pieces, SPECIAL.sep])
    starts = torch.tensor([0, len(ids)], dtype=torch.int32)
    return encoder.sentence_encoder(PackedSequences(ids, torch.arange(len(ids)), starts, len(ids)))


def texts(drawn):
    """Each sentence as words of pieces, hidden ones masked, and its five spans."""
    ends = [0, *torch.tensor([len(flat(s)) for s in sentences_of(drawn.records)]).cumsum(0).tolist()]
    hidden = set(drawn.hidden.pieces.tolist())
    for row, sentence in enumerate(sentences_of(drawn.records)):
        begins = word_starts(sentence)
        words = [
            [SPECIAL.mask if ends[row] + begin + i in hidden else piece for i, piece in enumerate(word)]
            for word, begin in zip(sentence, begins, strict=True)
        ]
        yield words, drawn.word_boundaries[row].tolist()


def vector(encoder, words, bounds, shown):
    """Of a view that shows some of the five spans: every other one that is not empty has become one word, [MASK]."""
    kept, spans = [], []
    for span, (a, b) in enumerate(pairwise(bounds)):
        begin = len(kept)
        kept += words[a:b] if span in shown else [[SPECIAL.mask]] * (b > a)
        spans.append((begin, len(kept)))
    states = states_of(encoder, flat(kept))
    starts, ends = torch.tensor(spans).T.contiguous()
    five = encoder.span_encoder(states[1:-1][torch.tensor(word_starts(kept))], starts, ends)
    return torch.nn.functional.normalize(
        encoder.head(encoder.pair_encoder(five[None], states[:1], empty=(starts == ends)[None]))[0], dim=0
    )


@torch.no_grad()
def test_contrast_is_between_views_without_lengths(step):
    spe, drawn, losses = step
    queries, keys = (
        [[vector(encoder, *text, shown) for shown in ((1, 3), (0, 2, 4))] for text in texts(drawn)]
        for encoder in (spe.model.encoder, spe.momentum_encoder.encoder)
    )
    negatives = spe.queue.negatives()
    total = 0.0
    for query, key in zip(queries, keys, strict=True):
        for view, queue in ((0, negatives.context_keys), (1, negatives.pair_keys)):
            logits = torch.stack([query[view] @ key[1 - view], *(queue @ query[view])]) / 0.07
            total += (torch.logsumexp(logits, 0) - logits[0]) / 2
    torch.testing.assert_close(losses[4], total, rtol=1e-4, atol=1e-4)
    assert total > 1


@torch.no_grad()
def test_hidden_pieces_and_permuted_spans_are_predicted_from_whole_sentences(step):
    spe, drawn, losses = step
    encoder, expected = spe.model.encoder, torch.zeros(4)
    sentences = list(texts(drawn))
    states = [states_of(encoder, flat(words))[1:-1] for words, _ in sentences]
    offsets = drawn.records.pieces.offsets.tolist()
    hidden = drawn.hidden
    for piece, anchor, offset in zip(hidden.pieces, hidden.anchors, hidden.offsets, strict=True):
        row = next(i for i, end in enumerate(offsets[1:]) if piece < end)
        state = states[row][anchor - offsets[row]][None]
        target = torch.tensor([int(drawn.records.pieces.values[piece])])
        loss, _ = spe.model.tbo(state, torch.tensor([int(offset)]), target)
        expected[0 if drawn.in_pair[piece] else 1] += loss.item()
    for row, span, kind in zip(drawn.permuted.records, drawn.permuted.spans, drawn.permuted.classes, strict=True):
        words, bounds = sentences[row]
        of_words = states[row][torch.tensor(word_starts(words))]
        vectors = encoder.span_encoder(of_words, *torch.tensor([bounds[span : span + 2]]).T.contiguous())
        loss, _ = spe.model.spo(vectors, torch.tensor([int(kind)]))
        expected[2 if span in (1, 3) else 3] += loss.item()
    torch.testing.assert_close(losses[:4], expected, rtol=1e-4, atol=1e-4)
    assert (expected > 0).all()
