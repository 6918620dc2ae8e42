"""Words from pieces: what the tokenizer made of the words that went in."""

from data_shards.shards.record_words import RecordWords
from data_shards.text.word_pieces import WordPieces
from tests.unit.data_shards.text.test_word_pieces import random_sentences, word_pieces  # noqa: F401  (a fixture)


def test_words_are_those_that_went_in(word_pieces: WordPieces) -> None:  # noqa: F811
    sentences = random_sentences(100)
    records = word_pieces.encode_sentences(sentences)
    normalizer = word_pieces._tokenizer.normalizer
    found = RecordWords(word_pieces._tokenizer).words(records)
    compared = 0
    for words, sentence in zip(found, sentences, strict=True):
        expected = [word for word in word_pieces.words(sentence) if len(word_pieces.encode_words([word]).values)]
        for word, was in zip(words, expected, strict=True):
            if "[UNK]" not in word:
                compared += 1
                assert word == "".join((normalizer.normalize_str(was) if normalizer else was).split())
    assert compared > 1000
