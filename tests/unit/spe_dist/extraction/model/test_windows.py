import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from spe_dist.extraction.model.windows import (
    Window,
    cut_windows,
    deciding_window,
    find_misfits,
    stitch,
    take_window,
)
from tests.unit.data_shards.annotated.sentences import annotated_sentences


@st.composite
def cuts(draw):
    max_pieces = draw(st.integers(1, 12))
    overlap = draw(st.integers(0, max_pieces - 1))
    return draw(st.lists(st.integers(0, 15), max_size=30)), max_pieces, overlap


def canonical(sentence: AnnotatedSentence) -> tuple:
    """The annotations without their numbers."""
    entities = sentence.entities
    return sentence.words, set(entities), {(entities[r.head], entities[r.tail], r.type) for r in sentence.relations}


@settings(deadline=None)
@given(cuts())
def test_windows_hold_every_word_and_every_short_run_and_fit(cut):
    word_pieces, max_pieces, overlap = cut
    windows = cut_windows(word_pieces, max_pieces, overlap)
    counts = [min(pieces, max_pieces) for pieces in word_pieces]
    assert windows == sorted(set(windows))
    assert {word for w in windows for word in range(w.word_start, w.word_end)} == set(range(len(counts)))
    assert all(sum(counts[w.word_start : w.word_end]) <= max_pieces for w in windows)
    for start in range(len(counts)):
        for end in range(start + 1, len(counts) + 1):
            if sum(counts[start:end]) <= overlap:
                assert any(w.word_start <= start and end <= w.word_end for w in windows), (start, end)


def test_windows_step_as_far_as_the_overlap_allows():
    assert cut_windows([1] * 10, 10, 4) == [Window(0, 10)]
    assert cut_windows([1] * 10, 6, 2) == [Window(0, 6), Window(4, 10)]  # the last one reaches back
    assert cut_windows([1] * 13, 6, 2) == [Window(0, 6), Window(5, 11), Window(7, 13)]
    assert cut_windows([3, 99, 3], 4, 0) == [Window(0, 1), Window(1, 2), Window(2, 3)]
    assert cut_windows([], 4, 0) == []


@pytest.mark.parametrize("overlap", [-1, 4])
def test_an_overlap_that_cannot_be_is_refused(overlap):
    with pytest.raises(ValueError, match="overlap must be"):
        cut_windows([1, 1], 4, overlap)


@settings(deadline=None)
@given(annotated_sentences(), st.data())
def test_stitched_gold_is_the_gold_that_fits(sentence, data):
    word_pieces = data.draw(st.lists(st.integers(1, 3), min_size=len(sentence.words), max_size=len(sentence.words)))
    max_pieces = data.draw(st.integers(3, 20))
    overlap = data.draw(st.integers(0, max_pieces - 1))
    windows = cut_windows(word_pieces, max_pieces, overlap)
    misfits = find_misfits(sentence, windows)
    words, entities, relations = canonical(sentence)
    gone = {(sentence.entities[r.head], sentence.entities[r.tail], r.type) for r in misfits.relations}
    stitched = stitch(sentence, windows, [take_window(sentence, window) for window in windows])
    assert canonical(stitched) == (words, entities - set(misfits.entities), relations - gone)
    assert (stitched.document, stitched.number) == (sentence.document, sentence.number)
    # What is not promised may be lost; what is promised may not.
    for entity in misfits.entities:
        assert sum(word_pieces[entity.word_start : entity.word_end]) > overlap
    for head, tail, _ in gone:
        start, end = min(head.word_start, tail.word_start), max(head.word_end, tail.word_end)
        assert sum(word_pieces[start:end]) > overlap


def test_the_window_with_context_on_both_sides_decides():
    windows = [Window(0, 10), Window(6, 16), Window(8, 20)]
    assert deciding_window(windows, 0, 1) == 0
    assert deciding_window(windows, 9, 10) == 1  # cut off in window 0, near the start of window 2
    assert deciding_window(windows, 17, 20) == 2
    assert deciding_window(windows, 3, 17) is None
    assert deciding_window([Window(0, 10), Window(5, 15), Window(7, 17), Window(12, 20)], 10, 12) == 1  # equal views


def test_what_a_window_cuts_short_is_not_believed():
    sentence = AnnotatedSentence(tuple("abcdefghijklmnop"))
    windows = [Window(0, 10), Window(6, 16)]
    # Words 8 to 11 are an entity; the first window sees two of them only and takes them for one.
    first = AnnotatedSentence(sentence.words[:10], (Entity(1, 2, "X"), Entity(8, 10, "X")), (Relation(0, 1, "r"),))
    second = AnnotatedSentence(sentence.words[6:], (Entity(2, 6, "X"), Entity(8, 9, "X")), (Relation(1, 0, "r"),))
    stitched = stitch(sentence, windows, [first, second])
    assert stitched.entities == (Entity(1, 2, "X"), Entity(8, 12, "X"), Entity(14, 15, "X"))
    assert stitched.relations == (Relation(2, 1, "r"),)


def test_a_relation_is_decided_once_by_the_window_around_both_arguments():
    sentence = AnnotatedSentence(tuple("abcdefghijklmnop"))
    windows = [Window(0, 10), Window(6, 16)]
    entities = [(7, 8), (9, 10)]
    first, second = (
        AnnotatedSentence(
            sentence.words[window.word_start : window.word_end],
            tuple(Entity(start - window.word_start, end - window.word_start, "X") for start, end in entities),
            (Relation(0, 1, type),),
        )
        for window, type in zip(windows, ("cut short", "seen whole"), strict=True)
    )
    assert [relation.type for relation in stitch(sentence, windows, [first, second]).relations] == ["seen whole"]


@settings(deadline=None)
@given(cuts(), st.data())
def test_the_deciding_window_is_the_best_of_all_that_hold_a_span(cut, data):
    word_pieces, max_pieces, overlap = cut
    windows = cut_windows(word_pieces, max_pieces, overlap)
    start = data.draw(st.integers(0, len(word_pieces)))
    end = data.draw(st.integers(start + 1, len(word_pieces) + 1))
    last = len(word_pieces)

    def poorer_side(window: Window) -> int:
        before = start - window.word_start if window.word_start > 0 else last
        return min(before, window.word_end - end if window.word_end < last else last)

    holding = [number for number, window in enumerate(windows) if window.holds(start, end)]
    best = max(holding, key=lambda number: poorer_side(windows[number]), default=None)  # the first of equal ones
    assert deciding_window(windows, start, end) == best
