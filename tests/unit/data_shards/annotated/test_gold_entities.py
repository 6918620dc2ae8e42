"""Entities that documents list."""

import json

import pytest

from data_shards.annotated.gold_entities import Document, GoldEntity, document_of_json
from data_shards.offset_units import OffsetUnit


def test_characters_of_a_text() -> None:
    line = json.dumps({"body": "Ada 🙂 here", "entities": [{"start": 4, "end": 5, "type": "X", "id": 3}, [0, 3, "P"]]})
    assert document_of_json(line, "body") == Document("Ada 🙂 here", (GoldEntity(4, 5, "X"), GoldEntity(0, 3, "P")))


@pytest.mark.parametrize(("offsets", "end"), [("utf16", 6), ("bytes", 8)])
def test_offsets_in_another_unit(offsets: OffsetUnit, end: int) -> None:
    line = json.dumps({"text": "Ada 🙂 here", "entities": [[4, end, "X"]]})
    assert document_of_json(line, "text", offsets).entities == (GoldEntity(4, 5, "X"),)
    with pytest.raises(ValueError, match=r"entity 0 .* a part of a character"):
        document_of_json(line.replace(f" {end},", " 5,"), "text", offsets)
    words = json.dumps({"tokens": ["🙂", "🙂"], "entities": [[1, 2, "X"]]})  # are counted, whatever is in them
    assert document_of_json(words, "text", offsets) == document_of_json(words, "text")


def test_words_become_characters_of_the_words_with_spaces_between() -> None:
    tokens = ["", "New", "York", "x"]
    for start in range(4):
        for end in range(start + 1, 5):
            line = json.dumps({"text": "else", "tokens": tokens, "entities": [[start, end, "P", "id"]]})
            found = document_of_json(line, "text")
            (entity,) = found.entities
            assert found.is_sentence and found.text == " New York x"
            assert found.text[entity.start : entity.end] == " ".join(tokens[start:end])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": "abc"}, "no field 'entities'"),
        ({"entities": []}, "no field 'text'"),
        ({"text": "abc", "entities": {}}, "is not a list"),
        (
            {"text": "abc", "entities": [[0, 4, "A"]]},
            "entity 0 is on characters 0 up to.* 4, but the text has 3",
        ),
        ({"text": "abc", "entities": [[0, 1, "A"], [2, 2, "A"]]}, "entity 1 begins at 2 and ends at 2"),
        ({"text": "abc", "entities": [[-1, 1, "A"]]}, "entity 0 is on characters -1"),
        (
            {"tokens": ["a", "b"], "entities": [[0, 3, "A"]]},
            "entity 0 is on words 0 up to.* 3, but there are 2",
        ),
        ({"tokens": "ab", "entities": []}, "not a list of strings"),
        ({"tokens": [1], "entities": []}, "not a list of strings"),
        ({"text": "abc", "entities": [{"start": 0, "end": 1}]}, r"entity 0 is not \{start, end, type\}"),
        ({"text": "abc", "entities": [[0, 1]]}, "entity 0 is not"),
        ({"text": "abc", "entities": [[0, 1, " "]]}, "entity 0 has the type ' ': give it a name"),
        ({"text": "abc", "entities": [["0", 1, "A"]]}, "entity 0 is not"),
        ({"text": "abc", "entities": [True]}, "entity 0 is not"),
        ({"text": "abc", "entities": [[False, True, "A"]]}, "entity 0 is not"),
        ({"text": "abc", "entities": [[0, 1, "A\n"]]}, "with a control character"),
        ({"text": "abc", "entities": None}, "not a list: write"),
        ({"tokens": ["\ud800"], "entities": []}, "surrogate"),
        ({"text": "abc", "entities": [[0, 1, "\ud800"]]}, "surrogate"),
    ],
)
def test_what_is_malformed_is_told(fields: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        document_of_json(json.dumps(fields), "text")
