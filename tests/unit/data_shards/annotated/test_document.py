"""Documents as readers give them, and what sentences and shards get of them."""

import json
import random
from pathlib import Path

import pytest

from data_shards.annotated.annotated_sentence import Entity, Relation
from data_shards.annotated.document import Document, Fact, Mention, split_documents
from data_shards.annotated.read import read_annotated, read_documents
from data_shards.errors import UserError
from data_shards.pipeline.corpus import WorkUnit, parse_annotated
from data_shards.text.offset_units import OffsetUnit

SENTENCES = [["Ada", "Byron", "left", "Oz"], [], [" "], ["She", "loved", "Bo", "."]]
RE_DOCRED = {
    "title": "Ada",
    "sents": SENTENCES,
    "vertexSet": [
        [
            {"name": "Ada Byron", "sent_id": 0, "pos": [0, 2], "type": "PER"},
            {"name": "She", "sent_id": 3, "pos": [0, 1], "type": "PER"},
        ],
        [{"name": "Oz", "sent_id": 0, "pos": [3, 4], "type": "LOC"}],
        [{"name": "Bo", "sent_id": 3, "pos": [2, 3], "type": "PER"}],
    ],
    "labels": [
        {"h": 0, "t": 1, "r": "P19", "evidence": [0]},
        {"h": 0, "t": 2, "r": "P26", "evidence": [0, 3]},
        {"h": 2, "t": 1, "r": "P19", "evidence": [None]},
    ],
}
DOCUMENT = Document.of_words(
    SENTENCES,
    [
        Mention(0, 2, "PER", 0, 0, "Ada Byron"),
        Mention(0, 1, "PER", 0, 3, "She"),
        Mention(3, 4, "LOC", 1, 0, "Oz"),
        Mention(2, 3, "PER", 2, 3, "Bo"),
    ],
    [Fact(0, 1, "P19", (0,)), Fact(0, 2, "P26", (0, 3)), Fact(2, 1, "P19")],
    name="Ada",
)


def parsed(fields: dict, text_field: str = "text", offsets: OffsetUnit = "characters") -> Document:
    line = json.dumps(fields).encode() + b"\n"
    documents, bad_lines = parse_annotated(WorkUnit(0, 0, 1, line), "jsonl", text_field, offsets)
    if bad_lines:
        raise ValueError(bad_lines[0].reason)
    return documents[0]


def named(document: Document) -> list[str]:
    """The text of each mention."""
    return [document.text[start:end] for start, end in document.characters()]


def test_identity_and_facts_across_sentences_of_docred_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([RE_DOCRED]))
    documents, report = read_documents(tmp_path / "a.json")
    assert documents == [DOCUMENT] and not report.unread_fields
    assert parsed(RE_DOCRED) == DOCUMENT._replace(facts=())
    sentences, report = read_annotated(tmp_path / "a.json")
    assert [sentence.number for sentence in sentences] == [0, 2, 3]
    assert sentences[0].entities == (Entity(0, 2, "PER"), Entity(3, 4, "LOC"))
    assert sentences[0].relations == (Relation(0, 1, "P19"),)
    assert sentences[2].relations == (Relation(0, 1, "P26"),)
    assert report.findings == {"relations across sentences left out": 1, "sentences without words left out": 1}


def test_relations_across_sentences_of_dygie_are_kept(tmp_path: Path) -> None:
    item = {"sentences": [["Ada", "left"], ["to", "Oz"]], "ner": [[[0, 0, "P"]], [[3, 3, "L"]]]}
    (tmp_path / "a.json").write_text(json.dumps(item | {"relations": [[[0, 0, 3, 3, "to"]], []]}))
    ((document,), _) = read_documents(tmp_path / "a.json")
    assert document.mentions == (Mention(0, 1, "P", 0, 0), Mention(1, 2, "L", 1, 1))
    assert document.facts == (Fact(0, 1, "to"),)


def test_words_become_characters_of_the_words_with_spaces_between() -> None:
    assert DOCUMENT.text == "Ada Byron left Oz\n\n \nShe loved Bo ."
    assert named(DOCUMENT) == ["Ada Byron", "She", "Oz", "Bo"]
    split = split_documents([Document("x"), DOCUMENT], "en")
    assert split.texts == ["x", "Ada Byron left Oz", "She loved Bo ."]
    laid = f"x\n{DOCUMENT.text}"
    assert [
        laid[start : start + len(text)] for start, text in zip(split.starts, split.texts, strict=True)
    ] == split.texts
    assert [laid[a:b] for a, b, _ in split.entities(("LOC", "PER"))] == ["Ada Byron", "She", "Oz", "Bo"]


def test_characters_equal_the_slow_way() -> None:
    chance = random.Random(0)
    for _ in range(300):
        sentences = [
            ["x" * chance.randrange(3) for _ in range(chance.randrange(4))] for _ in range(chance.randrange(1, 5))
        ]
        spans = [
            (number, a, b)
            for number, words in enumerate(sentences)
            for a in range(len(words))
            for b in range(a + 1, len(words) + 1)
        ]
        document = Document.of_words(sentences, [Mention(a, b, "T", 0, number) for number, a, b in spans])
        lines = [" ".join(words) for words in sentences]
        for (number, a, b), (start, end) in zip(spans, document.characters(), strict=True):
            before = "\n".join([*lines[:number], " ".join(sentences[number][:a])]) + (" " if a else "")
            assert (start, document.text[start:end]) == (len(before), " ".join(sentences[number][a:b]))
        assert [document.text[a:b] for a, b in document.locate_sentences("en")] == [
            line.strip() for line in lines if line.strip()
        ]


def test_wrong_relations_spoil_no_line_of_a_build() -> None:
    assert parsed({"tokens": ["a"], "entities": [[0, 1, "X"]], "relations": [[0, 0, "r"], 7]}).mentions


def test_numbers_of_relations_in_lists(tmp_path: Path) -> None:
    fields = {"tokens": ["a", "b"], "entities": [[0, 1, "X", "id"], [1, 2, "Y"]], "relations": [[1, 0, "r"]]}
    (tmp_path / "a.jsonl").write_text(json.dumps(fields))
    ((sentence,), _) = read_annotated(tmp_path / "a.jsonl")
    assert sentence.relations == (Relation(1, 0, "r"),)
    (tmp_path / "a.jsonl").write_text(json.dumps(fields | {"relations": [[1, 2, "r"]]}))
    with pytest.raises(UserError, match="from entity 1 to 2, but the sentence has 2 entities"):
        read_annotated(tmp_path / "a.jsonl")


def test_characters_of_a_text() -> None:
    found = parsed({"body": "Ada 🙂 here", "entities": [{"start": 4, "end": 5, "type": "X"}, [0, 3, "P", 7]]}, "body")
    assert found.mentions == (Mention(4, 5, "X", 0), Mention(0, 3, "P", 1))
    assert named(found) == ["🙂", "Ada"]


@pytest.mark.parametrize(("offsets", "end"), [("utf16", 6), ("bytes", 8)])
def test_offsets_in_another_unit(offsets: OffsetUnit, end: int) -> None:
    fields = {"text": "Ada 🙂 here", "entities": [[4, end, "X"]]}
    assert parsed(fields, offsets=offsets).mentions == (Mention(4, 5, "X", 0),)
    with pytest.raises(ValueError, match=r"entity 0 .* inside a character"):
        parsed(fields | {"entities": [[4, 5, "X"]]}, offsets=offsets)
    words = {"tokens": ["🙂", "🙂"], "entities": [[1, 2, "X"]]}  # are counted, whatever is in them
    assert parsed(words, offsets=offsets) == parsed(words)


def test_a_text_that_was_refused_is_passed_over() -> None:
    lines = [
        {"text": "Ada", "spans": [{"start": 0, "end": 3, "label": "P"}], "answer": answer}
        for answer in ("reject", "accept")
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    documents, bad_lines = parse_annotated(WorkUnit(0, 0, 1, content), "jsonl", "text")
    assert [named(document) for document in documents] == [["Ada"]] and not bad_lines


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": "abc"}, "no fields of annotated data, such as 'entities', only text"),
        ({"text": "abc", "entites": []}, "unknown field 'entites', did you mean 'entities'"),
        ({"entities": []}, "no fields of annotated data"),
        ({"text": "abc", "entities": {}}, "entities is {}: expected a list"),
        ({"text": "abc", "entities": [[0, 4, "A"]]}, "^entity 0 .*on characters 0 up to.* 4, but the text has 3"),
        ({"text": "abc", "entities": [[0, 1, "A"], [2, 2, "A"]]}, "entity 1 .*begins at 2 and ends at 2"),
        ({"text": "abc", "entities": [[-1, 1, "A"]]}, r"entities\[0\]\[0\] is -1: expected 0 or more"),
        ({"tokens": ["a", "b"], "entities": [[0, 3, "A"]]}, "on words 0 up to.* 3, but the sentence has words 0 to 1"),
        ({"tokens": "ab", "entities": []}, "expected a list"),
        ({"tokens": [1], "entities": []}, "expected a text in quotes"),
        ({"text": "abc", "entities": [{"start": 0, "end": 1}]}, r"no field 'entities\[0\].type'"),
        ({"text": "abc", "entities": [[0, 1]]}, r"no field 'entities\[0\]\[2\]'"),
        ({"text": "abc", "entities": [[0, 1, " "]]}, r"entities\[0\]\[2\] has the type ' ': give it a name"),
        ({"text": "abc", "entities": [["0", 1, "A"]]}, "expected a whole number"),
        ({"text": "abc", "entities": [True]}, "expected an object"),
        ({"text": "abc", "entities": [[False, True, "A"]]}, "expected a whole number"),
        ({"text": "abc", "entities": [[0, 1, "A\n"]]}, "with a control character"),
        ({"text": "abc", "entities": None}, "entities is null: expected a list"),
        ({"tokens": ["\ud800"], "entities": []}, "surrogate"),
        ({"text": "abc", "entities": [[0, 1, "\ud800"]]}, "surrogate"),
        ({"data": {}, "annotations": []}, "no field 'data.text' holds the text"),
    ],
)
def test_what_is_malformed_is_told(fields: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parsed(fields)
