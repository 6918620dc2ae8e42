"""Which entities and pairs are drawn, and that their vectors are theirs."""

from collections import Counter

import torch

from data_shards.annotated.document import Document, Fact, Mention
from spe_dist.documents.labelled_points import cut_documents, entity_points, entity_vectors, pair_points
from tests.unit.spe_dist.documents.tiny_documents import random_documents, states_alone, tiny_encoder, word_pieces

PIECES = word_pieces()
WORDS = [["Marie", "Curie", "went", "to", "Paris"], ["Warsaw", "city", "of", "Curie"]]
MENTIONS = [
    Mention(3, 4, "PER", 0, 1),
    Mention(4, 5, "LOC", 1),
    Mention(0, 1, "LOC", 2, 1),
    Mention(0, 2, "ORG", 0),
]
FACTS = [
    Fact(0, 1, "a"), Fact(0, 1, "a", (0,)), Fact(0, 2, "a"), Fact(0, 2, "b"), Fact(2, 1, "b"), Fact(1, 0, "c"),
]  # fmt: skip
DOCUMENT = Document.of_words(WORDS, MENTIONS, FACTS)


def test_entities_have_the_type_and_name_of_their_first_mention() -> None:
    points = entity_points([Document.of_words([["a"]]), DOCUMENT])
    assert points.entities == ((1, 0), (1, 1), (1, 2))
    assert points.labels == ("PER", "LOC", "LOC")
    assert points.names == ("Curie", "Paris", "Warsaw")
    assert points.documents.tolist() == [1, 1, 1] and points.label_numbers.tolist() == [1, 0, 0]


def test_pairs_have_exactly_one_of_the_most_frequent_relations() -> None:
    points = pair_points([DOCUMENT], relations=2)
    assert points.entities == ((0, 0, 1), (0, 2, 1))  # (0, 2) has both, (1, 0) neither
    assert points.labels == ("a", "b")
    assert points.names == ("Curie → Paris", "Warsaw → Paris")
    everything = pair_points([DOCUMENT], relations=3)
    assert everything.entities == ((0, 0, 1), (0, 2, 1), (0, 1, 0))
    assert pair_points([DOCUMENT._replace(facts=())], relations=2).labels == ()


def test_points_beyond_a_cut_are_left_out() -> None:
    whole, short = (cut_documents([DOCUMENT], PIECES, max_pieces=most) for most in (90, 20))
    assert whole[0].numbers.tolist() == [0, 1, 2] and short[0].numbers.tolist() == [0, 1]
    points, pairs = entity_points([DOCUMENT]), pair_points([DOCUMENT], relations=3)
    assert points.within(whole) == points and points.within(short).entities == ((0, 0), (0, 1))
    assert pairs.within(short).entities == ((0, 0, 1), (0, 1, 0))


def test_vectors_are_those_of_the_entities() -> None:
    documents, encoder = random_documents(12, seed=9), tiny_encoder()
    cut = cut_documents(documents, PIECES, max_pieces=60)
    vectors = entity_vectors(encoder, cut, PIECES.special_ids)
    points = entity_points(documents).within(cut)
    special = PIECES.special_ids
    for (document, entity), found in zip(points.entities, points.vectors(cut, vectors), strict=True):
        of = cut[document]
        states = states_alone(encoder, [special.cls, *of.piece_ids.tolist(), special.sep])[1:]
        number = of.numbers.tolist().index(entity)
        means = [states[a:b].mean(dim=0) for e, a, b in of.mentions.tolist() if e == number]
        torch.testing.assert_close(found, torch.stack(means).mean(dim=0), atol=1e-5, rtol=1e-5)
    pairs = pair_points(documents, relations=4).within(cut)
    places = {place: row for row, place in enumerate(points.entities)}
    for (document, head, tail), found in zip(pairs.entities, pairs.vectors(cut, vectors), strict=True):
        of_both = points.vectors(cut, vectors)[[places[document, head], places[document, tail]]]
        assert torch.equal(found, of_both.flatten())


def test_some_points_are_drawn_at_random_in_their_order() -> None:
    points = entity_points(random_documents(40, seed=2))
    few = points.draw(10, 0)
    rows = [points.entities.index(one) for one in few.entities]
    assert rows == sorted(rows) and len(rows) == 10
    assert few == points.draw(10, 0) != points.draw(10, 1)
    assert points.draw(10_000, 0) == points
    often = Counter(entity for seed in range(200) for entity in points.draw(10, seed).entities)
    assert len(often) == len(points.entities)
