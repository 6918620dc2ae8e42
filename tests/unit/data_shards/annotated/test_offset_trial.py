"""What is said about offsets that count something else."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from data_shards.annotated.document import Document, Mention
from data_shards.annotated.offset_trial import OffsetTrial, try_documents
from data_shards.text.offset_units import OffsetUnit

NAMES = ("Ada Hill", "Borlo Labs", "Paris")
BODY = "Ada Hill joined Borlo Labs in Paris, and her old friends were glad."
Count = Callable[[str], int]  # the offset behind a beginning of a text


def length(encoding: str, size: int) -> Count:
    return lambda text: len(text.encode(encoding)) // size


def listed(text: str, count: Count) -> list[tuple[int, int]]:
    places = [text.index(name) for name in NAMES]
    return [(count(text[:at]), count(text[: at + len(name)])) for at, name in zip(places, NAMES, strict=True)]


def document(text: str, spans: list[tuple[int, int]]) -> Document:
    return Document(text, tuple(Mention(a, b, "X", number) for number, (a, b) in enumerate(spans)))


def warnings(
    *texts: tuple[str, list[tuple[int, int]]], unit: OffsetUnit = "characters", language: str = "en"
) -> list[str]:
    documents = [document(text, spans) for text, spans in texts]
    return try_documents(documents, unit, language, "file")


WAYS = {
    "utf16": ("🎉🎉🎉 " + BODY, length("utf-16-le", 2), "counted in UTF-16 units, .*: add --offsets utf16 if"),
    "bytes": ("Été, à Orléans: " + BODY, length("utf-8", 1), "counted in bytes of UTF-8, .*: add --offsets bytes if"),
    "newlines": (
        "One\r\nTwo\nThree\n\nFour\n" + BODY,
        lambda text: len(text.replace("\r\n", "\n").replace("\n", "\r\n")),
        "two characters for each",
    ),
    "crlf": ("One\r\nTwo\r\nThree\r\n" + BODY, lambda text: len(text.replace("\r\n", "\n")), "one character for each"),
    "graphemes": ("E\u0301te\u0301 a\u0300 👩🏽\u200d🚒 " + BODY, None, "grapheme clusters"),
    "inclusive": (BODY, None, "ends that are inclusive, .*: add 1 to each end"),
    "from 1": (BODY, None, "counted from 1, .*: subtract 1"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_likely_cause_is_named(way: str) -> None:
    text, count, expected = WAYS[way]
    spans = listed(text, count or len)
    shifts = {"graphemes": (-6, -6), "inclusive": (0, -1), "from 1": (1, 1)}
    start, end = shifts.get(way, (0, 0))
    spans = [(a + start, b + end) for a, b in spans]
    (line,) = warnings((text, spans))
    assert line.startswith("warning: file: in 1 of 1 texts with entities, entities begin or end inside words")
    assert re.search(expected, line), line


def test_nothing_is_said_where_entities_begin_and_end_with_words() -> None:
    text = "🎉🎉🎉 Été\r\n" + BODY
    assert warnings((text, listed(text, len))) == []
    for unit, encoding, size in (("utf16", "utf-16-le", 2), ("bytes", "utf-8", 1)):
        trial = OffsetTrial(unit, "en")
        trial.add(document(text, listed(text, len)), "line 1")
        assert trial.warnings("file") == []
        assert trial.explain(Document(text), np.array(listed(text, length(encoding, size)))) == ""


def test_an_option_that_breaks_other_texts_is_not_offered() -> None:
    text = "🎉🎉🎉 " + BODY
    odd, right = (text, listed(text, length("utf-16-le", 2))), (text, listed(text, len))
    (line,) = warnings(odd, odd, right)
    assert "in 2 of 3 texts" in line and "so do those of 1 other text" in line and "--offsets" not in line
    (line,) = warnings(odd, right, right)
    assert "no other unit of offsets explains this" in line


def test_a_few_careless_ends_are_not_taken_for_inclusive_ones() -> None:
    right = (BODY, listed(BODY, len))
    (line,) = warnings((BODY, [(a, b - 1) for a, b in right[1]]), right, right)
    assert "in 1 of 3 texts" in line and "no other unit" in line


def test_a_part_of_the_entities_is_enough_where_a_way_explains_all() -> None:
    text = BODY.replace("Paris", "🎉 Paris")
    spans = listed(text, length("utf-16-le", 2))
    assert spans[:2] == listed(text, len)[:2]
    (line,) = warnings((text, spans))
    assert "counted in UTF-16 units" in line


def test_the_way_back_to_characters_is_found() -> None:
    text = "🎉🎉🎉 " + BODY
    trial = OffsetTrial("utf16", "en")
    assert "add --offsets characters" in trial.explain(Document(text), np.array(listed(text, len)))


@pytest.mark.parametrize(
    ("text", "names", "code"),
    [
        ("安倍晋三在东京出生。", ("安倍晋三", "东京"), "zh"),
        ("安倍晋三は東京で生まれた。", ("安倍晋三", "東京"), "ja"),
        ("สมชายเกิดที่กรุงเทพ", ("สมชาย", "กรุงเทพ"), "th"),
    ],
)
def test_scripts_without_spaces(text: str, names: tuple[str, ...], code: str) -> None:
    spans = [(text.index(name), text.index(name) + len(name)) for name in names]
    odd, same = warnings((text, spans))
    assert f"add --language {code}" in odd
    assert "2 entities widened to the same words as another one" in same


def test_texts_without_words_or_entities_say_nothing() -> None:
    assert warnings(("   ", [(0, 2)]), ("Ada.", [])) == []
