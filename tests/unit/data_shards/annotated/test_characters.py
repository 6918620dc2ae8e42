"""Annotated text with characters, as annotation tools and `spe predict` write it."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.annotated.read import read_annotated
from data_shards.annotated.read_report import (
    ACROSS_SENTENCES,
    ENTITIES_ACROSS_SENTENCES,
    ENTITIES_WITHOUT_WORDS,
    NOT_ACCEPTED,
    SHARED_MENTION,
    SPANS_NOT_ACCEPTED,
    TEXTS_WITHOUT_WORDS,
    WIDENED,
    WITHOUT_ENTITY,
)
from data_shards.errors import UserError
from data_shards.text.offset_units import OffsetUnit
from data_shards.text.sentences import locate_sentences
from data_shards.text.word_rules import WordRules
from spe_dist.extraction.predict.extracted_text import ExtractedEntity, ExtractedRelation, ExtractedText

TEXT = "Who? Ada Byron lives in London.\nShe's there."
ADA, LONDON = (5, 14), (24, 30)
OURS = {
    "id": 7,
    "text": TEXT,
    "entities": [
        {"type": "Person", "start": 5, "end": 14, "text": "Ada Byron", "score": 0.9},
        {"type": "Place", "start": 24, "end": 30},
    ],
    "relations": [{"type": "lives in", "head": 0, "tail": 1}],
}
LISTED = {"id": 7, "text": TEXT, "entities": [[*ADA, "Person"], [*LONDON, "Place"]], "relations": OURS["relations"]}
DOCCANO = {
    "id": 7,
    "text": TEXT,
    "Comments": [],
    "entities": [
        {"id": 91, "label": "Person", "start_offset": 5, "end_offset": 14},
        {"id": 90, "label": "Place", "start_offset": 24, "end_offset": 30},
    ],
    "relations": [{"id": 3, "from_id": 91, "to_id": 90, "type": "lives in"}],
}
PERSON, PLACE = {"start": 5, "end": 14, "label": "Person"}, {"start": 24, "end": 30, "label": "Place"}
PRODIGY = {
    "id": 7,
    "text": TEXT,
    "tokens": [{"text": "Who", "start": 0, "end": 3, "id": 0}],
    "spans": [PERSON | {"token_start": 2, "token_end": 3}, PLACE],
    "relations": [{"head": 3, "child": 6, "label": "lives in", "head_span": PERSON, "child_span": PLACE}],
}
SENTENCES = [
    AnnotatedSentence(("Who", "?"), document="7", number=0),
    AnnotatedSentence(
        ("Ada", "Byron", "lives", "in", "London", "."),
        (Entity(0, 2, "Person"), Entity(4, 5, "Place")),
        (Relation(0, 1, "lives in"),),
        document="7",
        number=1,
    ),
    AnnotatedSentence(("She", "'s", "there", "."), document="7", number=2),
]


def saved(folder: Path, *items: object) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@pytest.mark.parametrize("item", [OURS, LISTED, DOCCANO, PRODIGY], ids=["ours", "listed", "doccano", "prodigy"])
def test_every_way_of_writing_gives_the_same_sentences(tmp_path: Path, item: dict) -> None:
    sentences, report = read_annotated(saved(tmp_path, item))
    assert sentences == SENTENCES
    assert (report.format, report.documents) == ("characters", 1)
    assert not report.findings


def test_texts_without_a_name_have_their_number(tmp_path: Path) -> None:
    unnamed = {"text": "Ada.", "entities": []}
    sentences, _ = read_annotated(saved(tmp_path, unnamed, unnamed))
    assert [sentence.document for sentence in sentences] == ["text 0", "text 1"]


def test_what_predict_writes_is_read(tmp_path: Path) -> None:
    entities = (
        ExtractedEntity(*ADA, "Ada Byron", "Person", 0.9),
        ExtractedEntity(*LONDON, "London", "Place", 0.8),
    )
    found = ExtractedText(TEXT, entities, (ExtractedRelation(0, 1, "lives in", 0.7),), ((0, 4), (5, 31), (32, 44)))
    sentences, report = read_annotated(saved(tmp_path, {"id": 7} | found.as_json()))
    assert sentences == SENTENCES
    assert set(report.unread_fields) == {"entities.score", "relations.score"}


def test_nothing_is_left_out_or_changed_without_a_count(tmp_path: Path) -> None:
    entities = [
        [6, 11, "Half"],  # "da By"
        [0, 8, "Across"],
        [4, 5, "Space"],
        [*ADA, "Half"],  # widened, the first is the same
        [32, 35, "Person"],  # "She"
        [*LONDON, "Place"],
        [24, 31, "Overlapping"],
    ]
    pairs = [(0, 5), (1, 5), (2, 5), (0, 3), (4, 5), (5, 6)]
    relations = [{"type": "r", "head": head, "tail": tail} for head, tail in pairs]
    sentences, report = read_annotated(saved(tmp_path, {"text": TEXT, "entities": entities, "relations": relations}))
    assert sentences[1].entities == (Entity(0, 2, "Half"), Entity(4, 5, "Place"), Entity(4, 6, "Overlapping"))
    assert sentences[1].relations == (Relation(0, 1, "r"), Relation(1, 2, "r"))
    assert sentences[2].entities == (Entity(0, 1, "Person"),)
    findings = {key: report.findings[key] for key in report.findings if "duplicate" not in key}
    assert findings == {
        WIDENED: 1,
        ENTITIES_ACROSS_SENTENCES: 1,
        ENTITIES_WITHOUT_WORDS: 1,
        WITHOUT_ENTITY: 2,
        SHARED_MENTION: 1,
        ACROSS_SENTENCES: 1,
    }


def test_unknown_names_of_tools_are_counted(tmp_path: Path) -> None:
    doccano = DOCCANO | {"relations": [{"from_id": 91, "to_id": 4, "type": "r"}]}
    other = {"label": "r", "head_span": PERSON, "child_span": PLACE | {"label": "City"}}
    sentences, report = read_annotated(saved(tmp_path, doccano, PRODIGY | {"relations": [other]}))
    assert report.findings == {WITHOUT_ENTITY: 2}
    assert not any(sentence.relations for sentence in sentences)


# As Prodigy writes them: an arc may end on a word in no span, and a text may have been refused.
ARC_TO_A_WORD = {
    "head": 1,
    "child": 2,
    "head_span": {"start": 2, "end": 6, "token_start": 1, "token_end": 1, "label": None},
    "child_span": PERSON,
    "color": "#c5bdf4",
    "label": "r",
}


def test_arcs_of_prodigy_that_end_on_no_span_are_counted(tmp_path: Path) -> None:
    item = PRODIGY | {"relations": [ARC_TO_A_WORD, *PRODIGY["relations"]], "answer": "accept"}
    sentences, report = read_annotated(saved(tmp_path, item))
    assert sentences == SENTENCES
    assert report.findings == {WITHOUT_ENTITY: 1}


@pytest.mark.parametrize("answer", ["reject", "ignore"])
def test_what_was_not_accepted_is_no_gold(tmp_path: Path, answer: str) -> None:
    sentences, report = read_annotated(saved(tmp_path, PRODIGY, PRODIGY | {"answer": answer}))
    assert sentences == SENTENCES
    assert report.findings == {NOT_ACCEPTED: 1}


def test_doccano_without_relations(tmp_path: Path) -> None:
    item = {"id": 7, "text": TEXT, "label": [[*ADA, "Person"], [*LONDON, "Place"]], "Comments": []}
    sentences, _ = read_annotated(saved(tmp_path, item))
    assert sentences[1].entities == SENTENCES[1].entities


def test_predictions_go_before_spans_that_were_there_before(tmp_path: Path) -> None:
    """`spe predict` keeps the fields of its input."""
    sentences, _ = read_annotated(saved(tmp_path, OURS | {"spans": [{"start": 0, "end": 3, "label": "Other"}]}))
    assert sentences == SENTENCES


@pytest.mark.parametrize("name", ["uid", "idx", "_id"])
def test_other_names_than_id_are_not_taken_for_a_misspelt_one(tmp_path: Path, name: str) -> None:
    sentences, report = read_annotated(saved(tmp_path, {"text": "Ada.", "entities": [], name: 3}))
    assert sentences[0].document == "text 0"
    assert set(report.unread_fields) == {name}


EMOJI = "🎉🎉🎉 Ada Byron met Bo\u0301 in Paris."
COUNTS = {"characters": (len, 4), "utf16": (lambda text: len(text.encode("utf-16-le")) // 2, 7),
          "bytes": (lambda text: len(text.encode()), 13)}  # fmt: skip


@pytest.mark.parametrize("offsets", COUNTS)
@pytest.mark.parametrize("way", ["ours", "doccano", "prodigy"])
def test_offsets_count_what_is_said(tmp_path: Path, offsets: OffsetUnit, way: str) -> None:
    count, first = COUNTS[offsets]
    spans = [(count(EMOJI[:a]), count(EMOJI[:b]), type) for a, b, type in ((4, 13, "P"), (18, 21, "P"), (25, 30, "L"))]
    assert spans[0][0] == first
    item = {
        "ours": {"entities": spans, "relations": [{"type": "r", "head": 0, "tail": 2}]},
        "doccano": {
            "entities": [
                {"id": i, "label": t, "start_offset": a, "end_offset": b} for i, (a, b, t) in enumerate(spans)
            ],
            "relations": [{"type": "r", "from_id": 0, "to_id": 2}],
        },
        "prodigy": {
            "spans": [{"start": a, "end": b, "label": t} for a, b, t in spans],
            "relations": [{"label": "r", "head_span": argument(spans[0]), "child_span": argument(spans[2])}],
        },
    }[way]
    sentences, report = read_annotated(saved(tmp_path, {"text": EMOJI} | item), offsets=offsets)
    assert sentences[0].entities == (Entity(3, 5, "P"), Entity(6, 7, "P"), Entity(8, 9, "L"))
    assert sentences[0].relations == (Relation(0, 2, "r"),)
    assert not report.findings and not report.warnings


def argument(span: tuple[int, int, str]) -> dict:
    return {"start": span[0], "end": span[1], "label": span[2]}


def test_a_likely_unit_is_named_with_the_place(tmp_path: Path) -> None:
    item = {"text": "🎉🎉🎉 Ada Byron came.", "entities": [[7, 16, "P"]]}
    _, report = read_annotated(saved(tmp_path, {"text": "Ada.", "entities": [[0, 3, "P"]]}, item))
    (line,) = report.warnings
    assert "in 1 of 2 texts" in line and "' Byron ca' in line 2, which becomes 'Byron came'" in line
    assert "UTF-16 units" in line and "--offsets utf16" in line and report.lines()[-1] == line


@pytest.mark.parametrize("span", [[1, 2], [2, 3]])
def test_an_offset_inside_a_surrogate_pair_is_an_error(tmp_path: Path, span: list[int]) -> None:
    item = {"text": "a🎉b🎉", "entities": [[*span, "X"]]}
    with pytest.raises(UserError, match=rf"jsonl:1: entity 0 of type 'X' is on UTF-16 units {span[0]} .* inside a "):
        read_annotated(saved(tmp_path, item), offsets="utf16")


def test_an_error_about_offsets_names_the_likely_unit(tmp_path: Path) -> None:
    beyond = {"text": "🎉🎉🎉 Ada", "entities": [[7, 10, "P"]]}
    inside = {"text": "🎉 Ada", "entities": [[2, 5, "P"]]}
    with pytest.raises(UserError, match=r"text has 7 \(10 UTF-16 units, .*counted in UTF-16 units, .*--offsets utf16"):
        read_annotated(saved(tmp_path, beyond))
    with pytest.raises(UserError, match=r"inside a character; counted in characters .*--offsets characters"):
        read_annotated(saved(tmp_path, inside), offsets="bytes")


@pytest.mark.parametrize("fields", [{"_input_hash": 1}, {"answer": "accept"}, {"tokens": [{"text": "Ada", "id": 0}]}])
@pytest.mark.parametrize("rest", [{}, {"spans": None, "relations": None, "answer": None}])
def test_texts_of_prodigy_without_spans_have_no_entities(tmp_path: Path, fields: dict, rest: dict) -> None:
    empty = {"text": "Ada sips."} | rest | fields
    for items in ([empty, PRODIGY], [PRODIGY, empty]):
        sentences, report = read_annotated(saved(tmp_path, *items))
        assert sorted(len(sentence.entities) for sentence in sentences) == [0, 0, 0, 2]
        assert report.format == "characters" and not report.findings


def test_spans_that_were_not_accepted_are_left_out(tmp_path: Path) -> None:
    item = PRODIGY | {"spans": [PERSON | {"answer": "reject"}, PLACE | {"answer": "accept"}]}
    sentences, report = read_annotated(saved(tmp_path, item))
    assert sentences[1].entities == (Entity(4, 5, "Place"),)
    assert report.findings == {SPANS_NOT_ACCEPTED: 1, WITHOUT_ENTITY: 1}


def test_texts_without_words_are_counted(tmp_path: Path) -> None:
    items = [{"text": text, "label": []} for text in ("", "  ", "Ada.")]
    sentences, report = read_annotated(saved(tmp_path, *items))
    assert len(sentences) == 1 and report.findings == {TEXTS_WITHOUT_WORDS: 2}


@pytest.mark.parametrize("id", [None, 7, "7", 7.0])
def test_names_may_be_numbers_or_null(tmp_path: Path, id: object) -> None:
    entities = [{"id": "1", "label": "P", "start_offset": 0, "end_offset": 3},
                {"id": 2, "label": "L", "start_offset": 7, "end_offset": 11}]  # fmt: skip
    relations = [{"from_id": 1, "to_id": "2", "type": "r"}]
    item = {"id": id, "text": "Ada in Rome", "entities": entities, "relations": relations}
    (sentence,), _ = read_annotated(saved(tmp_path, item))
    assert sentence.document == ("text 0" if id is None else "7") and sentence.relations == (Relation(0, 1, "r"),)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_text_of_an_entity_may_be_composed_or_not(tmp_path: Path, form: str) -> None:
    text = unicodedata.normalize("NFD", "José came.")
    entity = {"start": 0, "end": 5, "type": "P", "text": unicodedata.normalize(form, "JOSÉ")}
    (sentence,), _ = read_annotated(saved(tmp_path, {"text": text, "entities": [entity]}))
    assert sentence.entities == (Entity(0, 1, "P"),)


BAD_ITEMS = {
    "end beyond": (
        LISTED | {"entities": [[40, 99, "X"]], "relations": []},
        "'X' is on characters 40 .* has 44; correct its offsets",
    ),
    "empty": (LISTED | {"entities": [[5, 5, "X"]], "relations": []}, "begins at 5 and ends at 5, .*empty"),
    "other text": (
        OURS | {"entities": [{"type": "X", "start": 5, "end": 8, "text": "Ada Byron"}], "relations": []},
        "says 'Ada Byron', but its characters are 'Ada'",
    ),
    "no such entity": (OURS | {"relations": [{"type": "r", "head": 0, "tail": 2}]}, "has 2 entities, counted from 0"),
    "with itself": (OURS | {"relations": [{"type": "r", "head": 1, "tail": 1}]}, "of entity 1 with itself"),
    "doccano, no label": (DOCCANO | {"entities": [{"id": 1, "start_offset": 0, "end_offset": 2}]}, "no field .*label"),
    "doccano, same id": (DOCCANO | {"entities": DOCCANO["entities"] * 2}, "2 entities with the id '91'"),
    "doccano, with itself": (
        DOCCANO | {"relations": [{"from_id": 91, "to_id": 91, "type": "r"}]},
        "91 with itself",
    ),
    "prodigy, with itself": (
        PRODIGY | {"relations": [{"label": "r", "head_span": PERSON, "child_span": PERSON}]},
        r"of entity 'Person' \[5, 14\] with itself",
    ),
    "prodigy, no label": (PRODIGY | {"spans": [{"start": 0, "end": 2}]}, r"no field 'spans\[0\]\.label'"),
    "end before start": (LISTED | {"entities": [[8, 5, "X"]], "relations": []}, "begins at 8 and ends at 5"),
    "huge": (LISTED | {"entities": [[0, 10**30, "X"]], "relations": []}, "expected a smaller number"),
    "blank type": (LISTED | {"entities": [[0, 3, " "]], "relations": []}, r"entities\[0\]\[2\] has the type ' ': give"),
    "control": (LISTED | {"entities": [[0, 3, "a\tb"]], "relations": []}, r"'a\\tb', with a control character"),
    "null where a list belongs": (LISTED | {"entities": None}, "entities is null: expected a list"),
    "nothing listed": ({"text": "Ada."}, r"no field 'entities' \(Prodigy: 'spans'; Doccano"),
    "a label of the whole text": ({"text": "Ada.", "label": ["good"]}, "text classification"),
    "a choice": ({"text": "Ada.", "label": "good", "answer": "accept"}, "text classification"),
    "misspelt": (OURS | {"relations": [{"type": "r", "haed": 0, "tail": 1}]}, "unknown field 'haed'"),
}


@pytest.mark.parametrize(("item", "error"), BAD_ITEMS.values(), ids=BAD_ITEMS)
def test_what_cannot_be_right_is_an_error_that_says_where(tmp_path: Path, item: dict, error: str) -> None:
    with pytest.raises(UserError, match=rf"data\.jsonl:2: .*{error}"):
        read_annotated(saved(tmp_path, OURS, item))


def test_an_unknown_language_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no word rules for language 'xx-none'"):
        read_annotated(saved(tmp_path, OURS), language="xx-none")


ENGLISH = WordRules("en")


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from(["Ada", "U.S.", "x", "(", ")", "\n", " ", "\t", "…", "é", "O'Neil"]), max_size=20),
    st.data(),
)
def test_an_entity_has_the_words_that_it_touches(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], data: st.DataObject
) -> None:
    """Against a look at every word of every sentence."""
    text = "".join(parts)
    cut = [
        [(start + first, start + last) for first, last in ENGLISH.locate_words(text[start:end])]
        for start, end in locate_sentences(text)
    ]
    expected = []
    entities = []
    for start in range(len(text)):
        end = data.draw(st.integers(start + 1, len(text)))
        entities.append([start, end, f"{start}"])
        touched = [(s, w) for s, words in enumerate(cut) for w, (a, b) in enumerate(words) if a < end and b > start]
        if touched and touched[0][0] == touched[-1][0]:
            expected.append((touched[0][0], Entity(touched[0][1], touched[-1][1] + 1, f"{start}")))
    path = saved(tmp_path_factory.mktemp("texts"), {"text": text, "entities": entities})
    sentences, _ = read_annotated(path)
    assert [sentence.words for sentence in sentences] == [tuple(text[a:b] for a, b in words) for words in cut]
    assert [(sentence.number, entity) for sentence in sentences for entity in sentence.entities] == sorted(
        expected, key=lambda found: (found[0], int(found[1].type))
    )
