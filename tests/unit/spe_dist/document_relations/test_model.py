"""Windows, pairs, vectors and logits by loops over one document at a time."""

import itertools
import math

import numpy as np
import pytest
import torch

from data_shards.annotated.document import Document, Fact, Mention
from spe_dist.document_relations.encoded_documents import EncodedDocuments, distance_buckets, forwards
from spe_dist.document_relations.folder import DocumentModelDescription, build_model
from spe_dist.document_relations.graph import DocumentGraph
from spe_dist.document_relations.model import predict
from spe_dist.methods.erica.markers import PIECES
from spe_dist.models.saved_encoder import add_rows
from tests.unit.spe_dist.documents.tiny_documents import (
    RELATIONS,
    random_documents,
    states_alone,
    tiny_encoder,
    word_pieces,
)

POSITIONS = 24
WORD_PIECES = word_pieces()
NAMES = tuple(sorted(RELATIONS))
CPU = torch.device("cpu")


def encoded(documents: list[Document], max_pieces: int = POSITIONS) -> EncodedDocuments:
    items = [DocumentGraph.of(one, language="en") for one in documents]
    return EncodedDocuments.of(items, NAMES, WORD_PIECES, max_pieces=max_pieces)


def tiny_model(threshold: float | None = None, markers="none"):
    torch.manual_seed(1)
    description = DocumentModelDescription(
        relations=NAMES, entity_size=6, distance_size=3, threshold=threshold, markers=markers, language="en"
    )
    encoder = tiny_encoder(positions=POSITIONS)
    if markers == "numbered":
        add_rows(encoder, WORD_PIECES.vocab_size + PIECES)
    return build_model(description, encoder).eval()


def test_distances_fall_into_buckets():
    for distance in (*range(-300, 301), 511, 512, 10_000, -10_000):
        expected = 0 if distance == 0 else min(9, 1 + math.floor(math.log2(abs(distance))))
        assert distance_buckets(np.array([distance]))[0] == 10 + (expected if distance > 0 else -expected)


def test_windows_are_whole_sentences_and_hold_everything():
    rows = encoded(random_documents(60, seed=2, sentences=6))
    assert sum(len(one.windows) > 1 for one in rows.documents) > 30
    assert any(one.cut_sentences for one in rows.documents)
    for one in rows.documents:
        pieces, cuts = one.pieces, [*one.windows[:, 0].tolist(), int(one.windows[-1, 1])]
        assert one.windows[:, 1].tolist() == cuts[1:]
        assert cuts[0] == 0 and cuts[-1] == len(pieces.piece_ids)
        assert all(0 <= b - a <= POSITIONS - 2 for a, b in itertools.pairwise(cuts))
        within_sentences = [cut for cut in cuts if cut not in pieces.sentence_starts.tolist()]
        assert len(within_sentences) <= one.cut_sentences
        if not one.cut_sentences:
            assert not within_sentences
            np.testing.assert_array_equal(one.mentions, pieces.mentions)
    assert "are longer than the encoder's 24 positions: each is read in windows" in rows.about_windows(POSITIONS)
    assert not encoded(random_documents(3), 500).about_windows(500)


def test_a_mention_longer_than_a_window_keeps_its_beginning():
    document = Document.of_words([["Warsaw"] * 40], [Mention(0, 40, "X", 0), Mention(39, 40, "X", 1)])
    rows = encoded([document], 12)
    (one,) = rows.documents
    assert one.mentions[0].tolist() == [0, 0, 10]
    assert one.cut_sentences == len(one.windows) - 1 > 2


def test_a_sentence_longer_than_a_window_is_cut_between_mentions():
    document = Document.of_words([["in"] * 24], [Mention(8, 12, "X", 0), Mention(0, 1, "X", 1)])
    (one,) = encoded([document], 12).documents
    assert one.windows.tolist() == [[0, 8], [8, 18], [18, 24]] and one.cut_sentences == 2
    assert one.mentions.tolist() == [[0, 8, 12], [1, 0, 1]]


def slow_vectors(model, row: EncodedDocuments, number: int) -> torch.Tensor:
    one, special = row.documents[number], row.special
    states = []
    for begin, end in one.windows.tolist():
        ids = [special.cls, *one.pieces.piece_ids[begin:end].tolist(), special.sep]
        states += list(states_alone(model.sentence_encoder, ids)[1:-1])
    vectors = []
    for entity in range(len(one.pieces.numbers)):
        means = [torch.stack(states[a:b]).mean(0) for e, a, b in one.mentions.tolist() if e == entity]
        vectors.append(torch.stack(means).mean(0))
    return torch.stack(vectors) if vectors else torch.zeros(0, 16)


def slow_logits(model, vectors: torch.Tensor, first: list[int], pairs: list[list[int]]) -> torch.Tensor:
    head = model.classifier
    rows = []
    for h, t in pairs:
        bucket = int(distance_buckets(np.array([first[h] - first[t]]))[0])
        s = torch.cat([head.projection(vectors[h]), head.distances.weight[bucket]])
        back = int(distance_buckets(np.array([first[t] - first[h]]))[0])
        t_ = torch.cat([head.projection(vectors[t]), head.distances.weight[back]])
        rows.append(torch.stack([s @ weight @ t_ for weight in head.bilinear.weight]) + head.bilinear.bias)
    return torch.stack(rows) if rows else torch.zeros(0, 1 + len(NAMES))


@pytest.mark.parametrize("markers", ["none", "numbered"])
@torch.no_grad()
def test_vectors_and_logits_are_those_of_slow_loops(markers):
    model = tiny_model(markers=markers)
    documents = random_documents(9, seed=4, sentences=6)
    rows = model.encode([DocumentGraph.of(one, language="en") for one in documents], WORD_PIECES)
    assert all(
        (one.pieces.piece_ids >= WORD_PIECES.vocab_size).any() == (markers == "numbered") for one in rows.documents
    )
    pairs = [one.all_pairs() for one in rows.documents]
    batch = rows.batch(np.arange(len(rows)), pairs)
    vectors = [slow_vectors(model, rows, number) for number in range(len(rows))]
    found = batch.pooled.means(model.sentence_encoder(batch.packed))
    torch.testing.assert_close(found, torch.cat(vectors), atol=1e-5, rtol=1e-5)
    logits = torch.cat(
        [
            slow_logits(
                model,
                of,
                [one.pieces.mentions[one.pieces.mentions[:, 0] == e][:, 1].min() for e in range(len(of))],
                two.tolist(),
            )
            for of, one, two in zip(vectors, rows.documents, pairs, strict=True)
        ]
    )
    torch.testing.assert_close(model.logits(batch), logits, atol=1e-4, rtol=1e-4)
    truth, row = torch.zeros_like(logits), 0
    for item, one, two in zip(rows.items, rows.documents, pairs, strict=True):
        for h, t in two.tolist():
            told = {e.type for e in item.edges if (e.head, e.tail) == (one.pieces.numbers[h], one.pieces.numbers[t])}
            for name in told:
                truth[row, 1 + NAMES.index(name)] = 1
            truth[row, 0] = not told
            row += 1
    torch.testing.assert_close(batch.targets, truth)
    losses = model(batch)
    expected = [
        -(y * math.log(1 / (1 + math.exp(-x))) + (1 - y) * math.log(1 / (1 + math.exp(x))))
        for x, y in zip(logits.flatten().tolist(), truth.flatten().tolist(), strict=True)
    ]
    assert losses.losses.item() == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert losses.counts.item() == len(logits)


def test_all_related_pairs_and_three_times_as_many_others_are_drawn_anew():
    rows = encoded(random_documents(30, seed=5))
    seen = {}
    for row, one in enumerate(rows.documents):
        related = {(h, t) for h, t, _ in one.pieces.facts.tolist()}
        others = set(map(tuple, one.all_pairs().tolist())) - related
        draws = [rows.draw_pairs(row, unrelated=1.0, seed=1, epoch=epoch).tolist() for epoch in range(12)]
        again = rows.draw_pairs(row, unrelated=1.0, seed=1, epoch=0).tolist()
        assert draws[0] == again
        for draw in draws:
            pairs = list(map(tuple, draw))
            assert len(set(pairs)) == len(pairs) == len(related) + min(len(others), len(related))
            assert set(pairs[: len(related)]) == related and set(pairs[len(related) :]) <= others
        seen[row] = {tuple(map(tuple, sorted(draw))) for draw in draws}
        assert len(rows.draw_pairs(row, unrelated=3.0, seed=1, epoch=0)) == len(related) + min(
            len(others), 3 * len(related)
        )
    assert max(map(len, seen.values())) > 3


def test_predictions_do_not_depend_on_what_is_in_a_forward():
    documents = random_documents(9, seed=7, sentences=6)
    rows, model = encoded(documents), tiny_model()
    together = predict(model, rows, CPU)
    for number, document in enumerate(documents):
        (alone,) = predict(model, encoded([document]), CPU)
        assert together[number].scores.pairs.tolist() == alone.scores.pairs.tolist()
        np.testing.assert_allclose(together[number].scores.scores, alone.scores.scores, atol=1e-5)
    threshold = float(np.median(np.concatenate([one.scores.scores.ravel() for one in together])))
    decided = predict(tiny_model(threshold), rows, CPU)
    for one, other in zip(together, decided, strict=True):
        kept = {
            (h, t, name)
            for row, (h, t) in enumerate(one.scores.pairs.tolist())
            for r, name in enumerate(NAMES)
            if one.scores.scores[row, r] >= np.float32(threshold)
        }
        assert {edge.fact for edge in other.edges} == kept and other.scores is None
    groups = forwards(np.array([5, 1, 9, 30, 2]), 10)
    assert [group.tolist() for group in groups] == [[1, 4, 0], [2], [3]]


def test_documents_without_entities_pieces_or_relations_pass_through():
    documents = [
        Document.of_words([["the"]]),
        Document.of_words([["​"]], [Mention(0, 1, "X", 0), Mention(0, 1, "X", 1)], [Fact(0, 1, NAMES[0])]),
        Document.of_words([["in", "Paris"]], [Mention(1, 2, "X", 2)]),
    ]
    rows, model = encoded(documents), tiny_model().train()
    assert (rows.without_related_pairs(), rows.lost_facts()) == (3, 1)
    batch = rows.batch(np.arange(3), [rows.draw_pairs(row, unrelated=3, seed=1, epoch=0) for row in range(3)])
    model.requires_grad_(True)
    losses = model(batch)
    losses.losses.sum().backward()
    assert losses.losses.tolist() == [0] and losses.counts.tolist() == [0]
    assert all(weight.grad is not None for weight in model.classifier.parameters())
    assert [len(one.scores.pairs) for one in predict(model.eval(), rows, CPU)] == [0, 0, 0]
