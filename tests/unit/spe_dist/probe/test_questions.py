"""Candidates of a question differ in nothing but the words of the pair."""

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from data_shards.errors import UserError
from spe_dist.probe.questions import _APART, draw_questions
from tests.unit.spe_dist.batches.sentences import SPECIAL, records_of, sentences_of

CHANCE = random.Random(4)
WORDS = [[CHANCE.randrange(4, 90) for _ in range(CHANCE.choice([1, 1, 1, 2]))] for _ in range(80)]
SENTENCES = [CHANCE.choices(WORDS, k=CHANCE.randint(6, 14)) for _ in range(4000)]
N = 8


def draw(sentences=SENTENCES, *, questions=50, candidates=N, seed=3):
    return draw_questions(
        records_of(sentences), SPECIAL, questions=questions, candidates=candidates, seed=seed, source="text"
    )


QUESTIONS = draw()
ROWS = np.arange(len(QUESTIONS))


def sequences(packed):
    starts = packed.sequence_starts.tolist()
    return [packed.piece_ids[a:b].tolist() for a, b in pairwise(starts)]


def places(views, sequence):
    """Where words and spans of a sequence begin and end, counted from its first piece."""
    start, end = views.packed.sequence_starts[sequence : sequence + 2].tolist()
    first_word = views.word_spans[sequence, 0, 0].item()
    words = [word - start for word in views.word_pieces.tolist() if start <= word < end]
    return words, (views.word_spans[sequence] - first_word).tolist()


@pytest.mark.parametrize("mask_unit", ["piece", "span"])
def test_all_candidates_of_a_question_have_one_frame(mask_unit):
    pairs = replace(QUESTIONS, mask_unit=mask_unit).pair_views(ROWS)
    ids = sequences(pairs.packed)
    assert len(ids) == len(QUESTIONS) * N
    for question in ROWS:
        of_question = range(question * N, (question + 1) * N)
        assert len({len(ids[i]) for i in of_question}) == 1
        assert all(places(pairs, i) == places(pairs, question * N) for i in of_question)
        masks = {tuple(piece == SPECIAL.mask for piece in ids[i]) for i in of_question}
        assert len(masks) == 1
        assert len({tuple(ids[i]) for i in of_question}) == N  # and each has other words


def test_with_one_mask_for_a_span_the_same_words_are_shown():
    usual, other = QUESTIONS, replace(QUESTIONS, mask_unit="span")
    for views in ("context_views", "pair_views"):
        masked, collapsed = (sequences(getattr(questions, views)(ROWS).packed) for questions in (usual, other))
        visible = [[piece for piece in sequence if piece != SPECIAL.mask] for sequence in masked]
        assert visible == [[piece for piece in sequence if piece != SPECIAL.mask] for sequence in collapsed]
        assert sum(map(len, collapsed)) < sum(map(len, masked))
        assert all(sequence.count(SPECIAL.mask) <= 3 for sequence in collapsed)
        assert all(SPECIAL.mask in sequence for sequence in collapsed)


def test_the_frame_is_that_of_the_context_and_both_together_are_the_sentence_with_its_own_pair():
    contexts, pairs = QUESTIONS.context_views(ROWS), QUESTIONS.pair_views(ROWS)
    shown, own = sequences(contexts.packed), sequences(pairs.packed)[::N]
    for question, sentence in enumerate(sentences_of(QUESTIONS.records)):
        assert places(contexts, question) == places(pairs, question * N)
        pieces = [SPECIAL.cls, *(piece for word in sentence for piece in word), SPECIAL.sep]
        together = [b if a == SPECIAL.mask else a for a, b in zip(shown[question], own[question], strict=True)]
        assert together == pieces
        hidden = [
            (a == SPECIAL.mask) != (b == SPECIAL.mask) for a, b in zip(shown[question], own[question], strict=True)
        ]
        assert all(hidden[1:-1])


def test_candidates_are_pairs_of_other_texts_with_as_many_pieces_in_each_word():
    """Found in the dataset by looking for every sentence that holds them."""
    texts = {}
    for row, sentence in enumerate(SENTENCES):
        texts.setdefault(str(sentence), []).append(row)
    for question, sentence in enumerate(sentences_of(QUESTIONS.records)[:10]):
        rows = texts[str(sentence)]
        _, a, b, c, d, _ = QUESTIONS.word_boundaries[question]
        frame = [len(word) for word in sentence[a:b] + sentence[c:d]]
        for candidate in range(1, N):
            pieces = QUESTIONS.candidates.row(question * N + candidate).tolist()
            assert len(pieces) == sum(frame)
            cut = np.split(np.array(pieces), np.cumsum(frame)[:-1])
            words = [part.tolist() for part in cut]
            first, second = words[: b - a], words[b - a :]
            holders = [row for row, other in enumerate(SENTENCES) if holds(other, first) and holds(other, second)]
            assert any(abs(row - own) > _APART for row in holders for own in rows)


def holds(sentence, words):
    return any(sentence[i : i + len(words)] == words for i in range(len(sentence) - len(words) + 1))


def test_plain_texts_are_the_sentence_without_its_pair_and_the_words_of_the_pairs():
    contexts, pairs = sequences(QUESTIONS.context_texts(ROWS)), sequences(QUESTIONS.pair_texts(ROWS))
    views = sequences(QUESTIONS.context_views(ROWS).packed)
    assert contexts == [[piece for piece in view if piece != SPECIAL.mask] for view in views]
    views = sequences(QUESTIONS.pair_views(ROWS).packed)
    assert pairs == [[piece for piece in view if piece != SPECIAL.mask] for view in views]


def test_strata_say_what_they_are():
    for question, sentence in enumerate(sentences_of(QUESTIONS.records)):
        _, a, b, c, d, end = QUESTIONS.word_boundaries[question]
        assert QUESTIONS.touches_end[question] == (a == 0 or d == end)
        pair, context = sentence[a:b] + sentence[c:d], sentence[:a] + sentence[b:c] + sentence[d:]
        if QUESTIONS.shares_word[question]:  # some words in common are no content words
            assert any(word in context for word in pair)
    assert 0 < QUESTIONS.shares_word.sum() < len(QUESTIONS)
    assert 0 < QUESTIONS.touches_end.sum() < len(QUESTIONS)


def test_the_seed_says_which_questions_they_are():
    again, other = draw(), draw(seed=4)
    assert torch.equal(again.pair_views(ROWS).packed.piece_ids, QUESTIONS.pair_views(ROWS).packed.piece_ids)
    assert again.candidates.values.tolist() != other.candidates.values.tolist()


def test_candidates_differ_though_every_pair_occurs_many_times():
    questions = draw([CHANCE.choices([[piece] for piece in range(4, 10)], k=3) for _ in range(4000)], questions=20)
    ids = sequences(questions.pair_views(np.arange(20)).packed)
    assert all(len({tuple(i) for i in ids[question * N : (question + 1) * N]}) == N for question in range(20))


def test_too_few_sentences_of_one_frame_are_named():
    with pytest.raises(UserError, match=r"text: only .* of 900 sentences have 7 others .* --questions or --cand"):
        draw(SENTENCES[:450] * 2)
