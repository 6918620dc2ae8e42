"""A document as pieces, against a slow reading of it."""

import pytest

from data_shards.annotated.document import Document, Fact, Mention
from spe_dist.documents.document_pieces import DocumentPieces
from tests.unit.spe_dist.documents.tiny_documents import RELATIONS, random_documents, word_pieces

PIECES = word_pieces()
NUMBERS = {name: number for number, name in enumerate(RELATIONS)}


def pieces_of(word: str) -> list[int]:
    return PIECES.encode_words([word]).values.tolist()


def slow(document: Document, max_pieces: int):
    """Piece ids; names of mentions by entity of the document; facts by these entities."""
    ids, places = [], {}
    for number, sentence in enumerate(document.words):
        if len(ids) + sum(len(pieces_of(word)) for word in sentence) > max_pieces - 2:
            break
        for index, word in enumerate(sentence):
            places[number, index] = (len(ids), len(ids) + len(pieces_of(word)))
            ids += pieces_of(word)
    mentions = {}
    for one in document.mentions:
        if (one.sentence, one.start) in places:
            start, end = places[one.sentence, one.start][0], places[one.sentence, one.end - 1][1]
            if start < end:
                mentions.setdefault(one.entity, set()).add((start, end))
    facts = {(f.head, f.tail, f.type) for f in document.facts if f.head in mentions and f.tail in mentions}
    return ids, mentions, facts


@pytest.mark.parametrize("max_pieces", [8, 20, 30, 500])
def test_cut_documents(max_pieces) -> None:
    cut = 0
    for document in random_documents(60, seed=max_pieces):
        found = DocumentPieces.of(document, PIECES, NUMBERS, max_pieces=max_pieces)
        ids, mentions, facts = slow(document, max_pieces)
        assert found.piece_ids.tolist() == ids
        numbers = sorted(mentions)
        rows = [(number, *place) for number, entity in enumerate(numbers) for place in sorted(mentions[entity])]
        assert list(map(tuple, found.mentions.tolist())) == rows
        told = {(numbers[head], numbers[tail], RELATIONS[relation]) for head, tail, relation in found.facts.tolist()}
        assert told == facts and len(found.facts) == len(facts)
        assert found.numbers.tolist() == numbers
        for number in range(len(numbers)):
            start, end = min(mentions[numbers[number]])
            assert found.first_mention(number).tolist() == ids[start:end]
        assert found.is_cut == (ids != slow(document, 10_000)[0] or len(ids) > max_pieces - 2)
        cut += found.is_cut
    assert (cut == 0) == (max_pieces == 500)


def test_a_text_gives_what_its_words_give() -> None:
    text = "Marie Curie, born in Warsaw. She went to Paris ."
    spans = {"Marie Curie": 0, "She": 0, "Warsaw": 1, "Paris": 2, "Warsaw. She": 2, " ": 3}
    mentions = [Mention(text.index(s), text.index(s) + len(s), "X", entity) for s, entity in spans.items()]
    facts = (Fact(0, 1, "country"), Fact(0, 3, "country"), Fact(2, 0, "spouse"))
    words = [["Marie", "Curie", ",", "born", "in", "Warsaw", "."], ["She", "went", "to", "Paris", "."]]
    places = [(0, 0, 2, 0), (1, 0, 1, 0), (0, 5, 6, 1), (1, 3, 4, 2)]
    of_words = Document.of_words(words, [Mention(a, b, "X", e, s) for s, a, b, e in places], (facts[0], facts[2]))
    for max_pieces in (500, 20):
        found, same = (
            DocumentPieces.of(one, PIECES, NUMBERS, max_pieces=max_pieces)
            for one in (Document(text, tuple(mentions), facts), of_words)
        )
        assert found.piece_ids.tolist() == same.piece_ids.tolist()
        assert found.mentions.tolist() == same.mentions.tolist()
        assert found.facts.tolist() == same.facts.tolist()
        assert found.is_cut == same.is_cut == (max_pieces == 20)


def test_nothing_is_listed_twice() -> None:
    mentions = [Mention(2, 3, "LATER", 7), Mention(0, 1, "FIRST", 7), Mention(0, 1, "FIRST", 7), Mention(1, 2, "B", 3)]
    facts = [Fact(7, 3, "spouse"), Fact(7, 3, "spouse"), Fact(3, 3, "spouse")]
    found = DocumentPieces.of(Document.of_words([["the", "of", "in"]], mentions, facts), PIECES, NUMBERS, max_pieces=9)
    assert found.numbers.tolist() == [3, 7]
    assert found.mentions.tolist() == [[0, 1, 2], [1, 0, 1], [1, 2, 3]]
    assert found.facts.tolist() == [[1, 0, NUMBERS["spouse"]]]


def test_documents_of_nothing() -> None:
    for document in (Document.of_words([]), Document(""), Document.of_words([["\u200b"]], [Mention(0, 1, "X", 0)])):
        found = DocumentPieces.of(document, PIECES, NUMBERS, max_pieces=9)
        assert (len(found.piece_ids), found.mentions.shape, found.facts.shape) == (0, (0, 3), (0, 3))
        assert not found.is_cut
