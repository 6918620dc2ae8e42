"""Questions and measures of the probes, each against a slow and obvious reading of its definition."""

from collections import Counter

import numpy as np
import pytest
import torch

from data_shards.annotated.document import Document, Fact, Mention
from data_shards.errors import UserError
from spe_dist.documents.document_pieces import DocumentPieces
from spe_dist.documents.probes import (
    WITH_HEAD,
    WITH_RELATION,
    WITHOUT,
    average,
    probe_documents,
)
from tests.unit.spe_dist.documents.tiny_documents import (
    POSITIONS,
    random_documents,
    states_alone,
    tiny_encoder,
    word_pieces,
)

PIECES = word_pieces()
SPECIAL = PIECES.special_ids
ENCODER = tiny_encoder()
DOCUMENTS = random_documents(30, seed=5)
DRAWN = probe_documents(DOCUMENTS, PIECES, positions=POSITIONS, seed=3)
NAMES = sorted({fact.type for document in DOCUMENTS for fact in document.facts})
with torch.no_grad():
    MEASURES = DRAWN.ask(ENCODER)


def slow_entities(document: DocumentPieces, prefix: list[int]) -> list[torch.Tensor]:
    ids = [SPECIAL.cls, *prefix, *document.piece_ids.tolist(), SPECIAL.sep]
    states = states_alone(ENCODER, ids)[1 + len(prefix) :]
    mentions = document.mentions.tolist()
    return [
        torch.stack([states[a:b].mean(dim=0) for e, a, b in mentions if e == entity]).mean(dim=0)
        for entity in range(len(document.numbers))
    ]


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def prefix_of(measure: str, document: DocumentPieces, head: int, relation: int) -> list[int]:
    name = PIECES.encode_sentences([NAMES[relation]]).pieces.values.tolist()[:16]
    mention = document.first_mention(head).tolist()[:14]
    return {WITH_RELATION: [*name, *mention, SPECIAL.sep], WITH_HEAD: [*mention, SPECIAL.sep], WITHOUT: []}[measure]


@pytest.mark.parametrize("measure", [WITH_RELATION, WITH_HEAD, WITHOUT])
def test_the_tail_is_ranked_among_all_entities_but_other_true_tails(measure) -> None:
    for document, (head, tail, relation), found in zip(
        DRAWN.documents, DRAWN.facts.tolist(), MEASURES[measure], strict=True
    ):
        vectors = slow_entities(document, prefix_of(measure, document, head, relation))
        facts = set(map(tuple, document.facts.tolist()))
        assert (head, tail, relation) in facts
        rivals = [e for e in range(len(vectors)) if e != head and (head, e, relation) not in facts]
        assert found == all(cosine(vectors[head], vectors[tail]) > cosine(vectors[head], vectors[e]) for e in rivals)
    assert 0 < MEASURES[measure].mean() < 1


def test_longest_relations_and_mentions_are_cut() -> None:
    """The encoder has positions for the longest prefix before the longest document."""
    words = ["physicist"] * 20
    facts = [Fact(0, 1, "a name of many words " * 4)]
    long = Document.of_words(
        [words, words], [Mention(0, 20, "X", 0), Mention(0, 2, "X", 1, 1), Mention(4, 5, "X", 2, 1)], facts
    )
    length = len(PIECES.encode_words(words).values)
    drawn = probe_documents([long, long], PIECES, positions=2 * length + 2 + 31)
    assert drawn.encodings[WITH_RELATION].forwards[0][0].longest == 2 * length + 2 + 31
    assert not any(document.is_cut for document in drawn.documents)
    with pytest.raises(UserError, match="at least two documents with a relation"):
        probe_documents([long, long], PIECES, positions=2 * length + 2 + 30)


def test_facts_are_drawn_once_each_and_alike_in_every_process() -> None:
    assert 10 < len(DRAWN.documents) <= sum(bool(document.facts) for document in DOCUMENTS)
    per_document = Counter(DRAWN.pairs[:, 0].tolist())
    assert max(per_document.values()) == 3
    for number, document in enumerate(DRAWN.documents):
        assert per_document[number] == min(3, len(document.facts))
        drawn = {tuple(row[1:]) for row in DRAWN.pairs.tolist() if row[0] == number}
        assert len(drawn) == per_document[number] and drawn <= set(map(tuple, document.facts.tolist()))
    again = probe_documents(DOCUMENTS, PIECES, positions=POSITIONS, seed=3)
    other = probe_documents(DOCUMENTS, PIECES, positions=POSITIONS, seed=4)
    assert np.array_equal(again.pairs, DRAWN.pairs) and not np.array_equal(other.pairs, DRAWN.pairs)


def test_every_fact_is_drawn_with_equal_chance() -> None:
    many = random_documents(200, seed=8, facts=9)
    of = next(d for d in many if len({(f.head, f.tail, f.type) for f in d.facts}) > 5)
    drawn = [probe_documents([of, of], PIECES, positions=POSITIONS, seed=s, measures=[]).facts for s in range(300)]
    counts = Counter(tuple(row) for facts in drawn for row in facts.tolist())
    number = len(probe_documents([of, of], PIECES, positions=POSITIONS).documents[0].facts)
    assert len(counts) == number
    expected = 600 / number
    assert (
        sum((count - expected) ** 2 / expected for count in counts.values()) < 30
    )  # chi², 8 degrees of freedom at most


def test_a_count_draws_that_many_documents_in_the_order_of_the_file() -> None:
    few = probe_documents(DOCUMENTS, PIECES, positions=POSITIONS, count=7, seed=1)
    assert len(few.documents) == 7
    pieces = [one.piece_ids.tolist() for one in DRAWN.documents]
    places = [pieces.index(one.piece_ids.tolist()) for one in few.documents]
    assert places == sorted(places) != list(range(7))
    assert len(probe_documents(DOCUMENTS, PIECES, positions=POSITIONS, count=99).documents) == len(DRAWN.documents)


def test_neighbours_are_facts_of_other_documents() -> None:
    entities = [slow_entities(document, []) for document in DRAWN.documents]
    pairs = [torch.cat([entities[d][head], entities[d][tail]]) for d, head, tail, _ in DRAWN.pairs.tolist()]
    documents, relations = DRAWN.pairs[:, 0].tolist(), DRAWN.pairs[:, 3].tolist()
    checked = Counter()
    for fact, pair in enumerate(pairs):
        others = [one for one in range(len(pairs)) if documents[one] != documents[fact]]
        others.sort(key=lambda one: -cosine(pair, pairs[one]))
        equal = [relations[one] == relations[fact] for one in others]
        near = [cosine(pair, pairs[one]) for one in others[:11]]
        if near[0] > near[1] + 1e-6:  # a pair with two relations is as near as itself
            assert MEASURES["rd_1_nn"][fact] == equal[0]
            checked["rd_1_nn"] += 1
        if near[9] > near[10] + 1e-6:
            assert MEASURES["rd_p_at_10"][fact] == pytest.approx(sum(equal[:10]) / 10)
            checked["rd_p_at_10"] += 1
        assert MEASURES["rd_chance"][fact] == pytest.approx(sum(equal) / len(equal))
    assert min(checked.values()) > 0.7 * len(pairs)


def test_who_guesses_and_who_takes_the_nearest_mention() -> None:
    guessed = nearest = 0.0
    for document, (head, tail, relation) in zip(DRAWN.documents, DRAWN.facts.tolist(), strict=True):
        facts, mentions = set(map(tuple, document.facts.tolist())), document.mentions.tolist()
        candidates = [
            e for e in range(len(document.numbers)) if e == tail or (e != head and (head, e, relation) not in facts)
        ]
        guessed += 1 / len(candidates)
        gaps = {
            e: min(max(a - d, c - b, 0) for e2, a, b in mentions if e2 == e for h, c, d in mentions if h == head)
            for e in candidates
        }
        least = [e for e in candidates if gaps[e] == min(gaps.values())]
        nearest += (tail in least) / len(least)
    averages = average(MEASURES)
    assert averages["ed_chance"] == pytest.approx(guessed / len(DRAWN.documents))
    assert averages["ed_nearest"] == pytest.approx(nearest / len(DRAWN.documents))


def test_equal_vectors_are_at_chance() -> None:
    """Of an encoder whose states are all equal, the tail is found as often as by guessing."""
    encoder = tiny_encoder()
    encoder.model.encoder.layer[-1].output.LayerNorm.weight.data.zero_()
    encoder.model.encoder.layer[-1].output.LayerNorm.bias.data.fill_(1.0)
    averages = average(DRAWN.ask(encoder))
    assert averages[WITHOUT] == pytest.approx(averages["ed_chance"], abs=0.05)


def test_an_encoder_in_training_is_asked_in_evaluation_and_left_as_it_was() -> None:
    encoder = tiny_encoder().train()
    encoder.model.requires_grad_(True)
    state = torch.get_rng_state()
    found = DRAWN.ask(encoder)
    assert encoder.training and encoder.model.encoder.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(np.array_equal(found[name], MEASURES[name]) for name in MEASURES)


def test_measures_that_are_not_asked_for_cost_no_forward() -> None:
    drawn = probe_documents(DOCUMENTS, PIECES, positions=POSITIONS, seed=3, measures=[WITH_RELATION])
    assert set(drawn.encodings) == {WITH_RELATION, WITHOUT}
    found = drawn.ask(ENCODER)
    assert all(np.array_equal(found[name], MEASURES[name]) for name in found)


def test_questions_with_one_candidate_are_not_asked() -> None:
    """Of two entities, or where all others are true tails, everybody finds the tail."""
    words = ["Marie", "in", "Warsaw", "Paris"]
    mentions = [Mention(0, 1, "X", 0), Mention(2, 3, "X", 1), Mention(3, 4, "X", 2)]
    all_true = [Fact(0, 1, "country"), Fact(0, 2, "country")]
    of_two = Document.of_words([words], mentions[:2], all_true[:1])
    asked = Document.of_words([words], mentions, [*all_true, Fact(1, 2, "spouse")])
    documents = [of_two, asked, Document.of_words([words], mentions, all_true), asked]
    for seed in range(5):
        drawn = probe_documents(documents, PIECES, positions=POSITIONS, seed=seed)
        assert len(drawn.documents) == 2 and drawn.facts.tolist() == [[1, 2, 1], [1, 2, 1]]
        assert len(drawn.pairs) == 6
    assert len(probe_documents(documents, PIECES, positions=POSITIONS, count=2).documents) == 2


def test_vectors_that_are_not_finite_give_no_measure() -> None:
    encoder = tiny_encoder()
    encoder.word_embeddings.weight[7:] = torch.nan
    found = average(DRAWN.ask(encoder))
    assert {name for name, value in found.items() if np.isnan(value)} == set(found) - {
        "ed_chance",
        "ed_nearest",
        "rd_chance",
    }


def test_documents_without_relations_are_refused() -> None:
    bare = [document._replace(facts=()) for document in DOCUMENTS]
    with pytest.raises(UserError, match="at least two documents with a relation"):
        probe_documents(bare, PIECES, positions=POSITIONS)
