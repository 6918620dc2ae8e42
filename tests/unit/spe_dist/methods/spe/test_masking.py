from collections import Counter
from fractions import Fraction
from math import ceil

import numpy as np
import pytest

from spe_dist.methods.spe.masking import hide_pieces
from tests.unit.spe_dist.batches.sentences import excess, random_sentences, records_of, word_starts

pytestmark = pytest.mark.any_version

CAP = 20


def budget(num_pieces):
    return min(CAP, ceil(Fraction(15, 100) * num_pieces))


def hide(sentences, *, seed=0):
    uniforms = np.random.default_rng(seed).random(sum(len(sentence) for sentence in sentences))
    hidden = hide_pieces(records_of(sentences), uniforms, share=0.15, cap=CAP)
    items = zip(hidden.pieces.tolist(), hidden.anchors.tolist(), hidden.offsets.tolist(), strict=True)
    return uniforms.tolist(), list(items)


def hide_by_loops(sentences, uniforms):
    items, piece, word = [], 0, 0
    for sentence in sentences:
        num_pieces = sum(map(len, sentence))
        left = budget(num_pieces)
        numbers, starts = uniforms[word : word + len(sentence)], word_starts(sentence)
        for i in sorted(range(len(sentence)), key=numbers.__getitem__):
            for offset in range(1, len(sentence[i])):
                if left:
                    items.append((piece + starts[i] + offset, piece + starts[i], offset))
                    left -= 1
        piece, word = piece + num_pieces, word + len(sentence)
    return items


def test_hidden_pieces_are_the_ones_a_loop_over_words_in_random_order_hides():
    sentences = random_sentences(3000, seed=1, least=1)
    uniforms, items = hide(sentences)
    assert items == hide_by_loops(sentences, uniforms)


def test_hidden_pieces_are_inner_pieces_and_as_many_as_the_budget_allows():
    for sentence in random_sentences(1500, seed=2, least=1, longest=80):
        _, items = hide([sentence])
        starts = word_starts(sentence)
        inner = {start + offset for start, word in zip(starts, sentence, strict=True) for offset in range(1, len(word))}
        pieces = [piece for piece, _, _ in items]
        assert len(set(pieces)) == len(pieces) == min(len(inner), budget(sum(map(len, sentence))))
        assert set(pieces) <= inner
        assert all(anchor in starts and anchor + offset == piece for piece, anchor, offset in items)


def test_the_budget_is_15_percent_rounded_up_and_at_most_20():
    for num_pieces in range(2, 513):
        _, items = hide([[[5] * num_pieces]])
        assert len(items) == min(num_pieces - 1, budget(num_pieces))


def test_every_word_of_several_pieces_is_equally_likely_to_come_first():
    sentence = [[4, 5], [4], [4, 5], [4, 5]]  # seven pieces: two may be hidden
    _, items = hide([sentence] * 20_000)
    first = Counter(anchor % 7 for _, anchor, _ in items[::2])
    assert excess([first[0], first[3], first[5]], [20_000 / 3] * 3) < 4


def test_sentences_without_inner_pieces_have_nothing_hidden():
    _, items = hide([[[4], [5], [6]], [[7]]])
    assert items == []


def test_no_sentences():
    assert hide([]) == ([], [])
