import time

import pytest
import sentencex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_shards.sample.corpus import generate
from data_shards.text import sentences
from data_shards.text.sentences import locate_sentences, split_sentences

PIECES = st.sampled_from(
    [" ", ". ", "! ", "?", "\n", "\r", "\t", "\u3000", "Ada", "he ", '"', "• ", "(2) ", "b) ", "。"]
)
TEXTS = st.lists(st.one_of(PIECES, st.characters(exclude_categories=["Cs"])), max_size=40).map("".join)


@settings(deadline=None)
@given(TEXTS)
@example("Dr. Smith left. 😀 He was late!\r\n\n  “Yes.” \u2028 Who? 2) What? • A. B.")
def test_sentences_stand_where_they_say_and_nothing_but_white_space_is_left_out(document):
    places = locate_sentences(document)
    assert [document[start:end] for start, end in places] == split_sentences(document)
    assert all("\n" not in document[start:end].strip() == document[start:end] for start, end in places)
    assert places == sorted(places) and all(start < end for start, end in places)
    between = zip([0, *(end for _, end in places)], [*(start for start, _ in places), len(document)], strict=True)
    assert all(not document[before:after].strip() for before, after in between)


def test_without_list_items_sentences_are_the_splitters():
    told = "Dr. Smith left at 9 p.m. on Jan. 3. 😀 “He was late!” she said (so they say. No?). A. Smith came. Who? Me."
    document = f"{told}\n{' '.join(generated(30))}"
    assert len(document) < sentences._WINDOW
    expected = [part.strip() for line in document.split("\n") for part in sentencex.segment("en", line)]
    assert split_sentences(document) == expected and len(expected) == 35


def generated(count):
    return [" ".join(sentence.words) for sentence in generate(count, seed=4)]


@pytest.mark.parametrize(
    "items",
    [
        ["• Ada came home.", "Bob was there.", "Was Cy?"],
        ["(2) Ada came home.", "Bob was there."],
        ["(a) We cut.", "(b) We glued.", "Then we slept.", "It was late."],
        ["We had rules.", "1) Be kind.", "To all.", "2) Be brief.", "Then go home.", "Good night."],
        ["■ It was red.", "▪ Not blue."],
        ["• 1) Ada came home.", "Bob was there.", "2) Cy left.", "Dee stayed."],
        ["(iv) Dr. Smith left.", "“He was late. And tired.”"],
    ],
)
def test_list_items_are_split_behind_their_markers(items):
    assert split_sentences(" ".join(items)) == items


def test_text_without_newlines_keeps_its_sentences():
    """A quotation mark without a partner spoils what is near it and no more."""
    wanted = generated(3000)
    for number in range(100, 3000, 300):
        wanted[number] = f'{wanted[number].removesuffix(" .")} " .'
    text = " ".join(wanted)
    found = split_sentences(text)
    assert len(text) > 100_000
    assert len(set(wanted) & set(found)) > 0.95 * len(set(wanted))
    assert max(len(sentence) for sentence in found) < sentences._WINDOW


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("zh", "安倍晋三在东京出生后来加入公司。"),
        ("ja", "彼は「東京で生まれた。」と言った。"),
        ("ar", "ولد في القاهرة وعاش فيها. ثم سافر؟ "),
        ("th", "เขาเกิดที่กรุงเทพและอาศัยอยู่ที่นั่น "),
        ("en", "(a) A. 1) B. • C. "),
    ],
)
def test_a_megabyte_in_one_line_takes_seconds(language, text):
    """Whole, a third of the Chinese took sentencex a minute: its time grows with the square."""
    text *= 1_000_000 // len(text.encode())
    began = time.perf_counter()
    found = split_sentences(text, language)
    assert time.perf_counter() - began < 8
    assert len(found) == 1 if language == "th" else len(found) > 10_000


@pytest.mark.parametrize("space", ["\u3000", "\u2003", "\xa0"])
def test_runs_of_wide_spaces_end_no_build(space):
    """sentencex 1.0 panics at some of them; the characters of sentences are those of the text."""
    text = f"One ends here. B{space}{space}{space}."
    assert "".join(split_sentences(text)).replace(" ", "") == text.replace(" ", "")
    assert [text[start:end] for start, end in locate_sentences(text)] == split_sentences(text)
