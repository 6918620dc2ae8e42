"""Shards, fine-tuning, its scores and prediction make the same pieces of the same text."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity
from data_shards.annotated.document import Document, split_documents
from data_shards.text.word_pieces import WordPieces
from data_shards.text.word_rules import WordRules
from spe_dist.extraction.model.encoded_sentences import Labels, encode_sentences
from spe_dist.extraction.predict.cut_texts import cut_texts
from tests.unit.data_shards.text.test_word_pieces import byte_level
from tests.unit.spe_dist.extraction.tiny import word_pieces

ANY = st.characters(exclude_categories=["Cs"])
UNSEEN = st.sampled_from("\u200b\u200d\u200f\u202e\ufe0f\ufeff\x00\x07\xad\u0301\U000e0041")
TEXTS = st.text(st.one_of(ANY, UNSEEN, st.sampled_from(" .\n\u3000♥"), st.sampled_from("aBcé中")), max_size=60)
ROOM = 1 << 12
RULES = WordRules("en")


@pytest.fixture(scope="module", params=["uncased", "byte-level"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WordPieces:
    return word_pieces() if request.param == "uncased" else WordPieces.load(byte_level(tmp_path_factory.mktemp("bpe")))


@settings(deadline=None, max_examples=150)
@given(text=TEXTS)
@example(text="♥️ John \u200b Smith ♥️ lives in \u200f ♥️ Paris ♥️ . 👩\u200d👩\u200d👧 \x00 \u200b")
def test_all_read_the_same_pieces(tokenizer: WordPieces, text: str) -> None:
    sentences = split_documents([Document(text)], "en")
    places, offsets = sentences.locate_words(RULES)
    words = [[text[a:b] for a, b in places[i:j].tolist()] for i, j in pairwise(offsets)]
    shards = tokenizer.encode_sentences(sentences.texts)

    annotated = [AnnotatedSentence(tuple(one)) for one in words]
    learned = encode_sentences(annotated, Labels(("A",), ()), tokenizer, max_pieces=ROOM)
    raw, given_words = cut_texts([text], tokenizer, max_pieces=ROOM), cut_texts(words, tokenizer, max_pieces=ROOM)
    for rows in (raw.rows, given_words.rows):  # all know how the same words are written
        assert rows.shapes.tolist() == learned.rows.shapes.tolist()
    for records in (learned.records, raw.rows.records, given_words.rows.records):
        assert records.pieces.values.tolist() == shards.pieces.values.tolist()
        assert records.pieces.offsets.tolist() == shards.pieces.offsets.tolist()
        assert records.word_starts.values.tolist() == shards.word_starts.values.tolist()
    # What is found in these words is told in the person's: the same characters, the same numbers.
    assert learned.word_numbers.values.tolist() == given_words.word_numbers.tolist()
    first_words = np.repeat(offsets[:-1], learned.word_numbers.lengths)
    assert places[learned.word_numbers.values + first_words].tolist() == raw.word_characters.tolist()
    for sentence, number, (start, end) in zip(
        np.repeat(np.arange(len(words)), learned.word_numbers.lengths).tolist(),
        given_words.word_numbers.tolist(),
        given_words.word_characters.tolist(),
        strict=True,
    ):
        assert given_words.strings[sentence][start:end] == words[sentence][number]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.sampled_from(["Ann", "Paris", "x"]), st.text(UNSEEN, max_size=2)), max_size=8), st.data())
def test_an_entity_is_learned_on_the_words_that_are_read(words: list[str], data: st.DataObject) -> None:
    bounds = data.draw(st.lists(st.integers(0, len(words)), min_size=2, max_size=2, unique=True)) if words else []
    entities = (Entity(*sorted(bounds), "A"),) if bounds else ()
    encoded = encode_sentences(
        [AnnotatedSentence(tuple(words), entities)], Labels(("A",), ()), word_pieces(), max_pieces=64
    )
    read = encoded.word_numbers.values.tolist()
    assert [words[number] for number in read] == [word for word in words if word.isascii() and word.isalpha()]
    inside = [place for place, number in enumerate(read) if entities and min(bounds) <= number < max(bounds)]
    expected = [[inside[0], inside[-1] + 1]] if inside else []
    assert encoded.batch(np.array([0])).gold_spans.tolist() == expected
    assert encoded.left_out.without_pieces == (len(entities) if not inside else 0)
