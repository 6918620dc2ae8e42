"""How words are written."""

import pytest

from spe_dist.extraction.model.word_shapes import SHAPES, word_shape, word_shapes


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("no letters or digits", [".", "--", "$", "", "\u200b"]),
        ("lower case", ["of", "co-op", "it's", "\u4e2d\u6587", "\u0645\u0631"]),  # Chinese and Arabic have no case
        (
            "Capitalised",
            ["Paris", "Jean-luc", "\u00c9mile", "U.s.", "\u01c5ep"],
        ),
        ("CAPITALS", ["NATO", "U.S.", "\u00c9T\u00c9"]),
        ("Initial", ["A", "J.", "(B)"]),
        ("miXed", ["McDonald", "iPhone", "Jean-Luc", "eBay"]),
        ("digits", ["1984", "3.5", "10,000"]),
        ("letters and digits", ["B52", "20th", "covid-19"]),
    ],
)
def test_shapes(shape, words):
    assert {SHAPES[word_shape(word)] for word in words} == {shape}
    assert word_shapes(words).tolist() == [SHAPES.index(shape)] * len(words)


def test_no_words_have_no_shapes():
    assert word_shapes([]).tolist() == []
