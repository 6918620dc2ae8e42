import gzip
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.annotated.read import read_annotated
from data_shards.annotated.read_report import (
    ACROSS_SENTENCES,
    ARGUMENT_OF_SEVERAL_TYPES,
    DUPLICATE_ENTITIES,
    DUPLICATE_RELATIONS,
    SHARED_MENTION,
    TEXTS_WITHOUT_WORDS,
    WITHOUT_ENTITY,
    WITHOUT_WORDS,
)
from data_shards.annotated.unified import write_unified
from data_shards.errors import UserError
from tests.unit.data_shards.annotated.sentences import annotated_sentences

WORDS = ["Ada", "Byron", "lives", "in", "London", "."]
ADA = AnnotatedSentence(tuple(WORDS), (Entity(0, 2, "Person"), Entity(4, 5, "Place")), (Relation(0, 1, "lives in"),))
OBJECTS = {
    "tokens": WORDS,
    "entities": [{"type": "Person", "start": 0, "end": 2}, {"type": "Place", "start": 4, "end": 5}],
    "relations": [{"type": "lives in", "head": 0, "tail": 1}],
}
LISTS = {"tokens": WORDS, "entities": [[0, 2, "Person"], [4, 5, "Place"]], "relations": [[0, 2, 4, 5, "lives in"]]}
DYGIE = {
    "doc_key": "d",
    "sentences": [["Who", "?"], WORDS],
    "ner": [[], [[2, 3, "Person"], [6, 6, "Place"]]],
    "relations": [[], [[2, 3, 6, 6, "lives in"]]],
}
SPE = {
    "sentId": 7,
    "articleId": "d",
    "sentText": " ".join(WORDS),
    "entityMentions": [
        {"emId": "T1", "text": "ada byron", "offset": [0, 2], "label": "Person"},
        {"emId": "T2", "text": "London", "offset": [4, 5], "label": "Place"},
    ],
    "relationMentions": [{"em1Id": "T1", "em2Id": "T2", "em1Text": "Ada", "em2Text": "London", "label": "lives in"}],
    "wordpieceSentText": "[CLS] ada …",
}
DOCRED = {
    "title": "d",
    "sents": [["Ada", "!"], WORDS],
    "vertexSet": [
        [
            {"name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "Person"},
            {"name": "Ada Byron", "sent_id": 1, "pos": [0, 2], "type": "Person"},
        ],
        [{"name": "London", "sent_id": 1, "pos": [4, 5], "type": "Place"}],
    ],
    "labels": [{"h": 0, "t": 1, "r": "P551", "evidence": [1]}],
}


def saved(path: Path, *items: object) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def changed(item: dict, **fields: object) -> dict:
    return {name: value for name, value in (item | fields).items() if value is not None}


def without_loops(sentence: AnnotatedSentence) -> AnnotatedSentence:
    """Relations of an entity with itself are refused."""
    return replace(sentence, relations=tuple(one for one in sentence.relations if one.head != one.tail))


@pytest.mark.parametrize(
    ("item", "format"),
    [(OBJECTS, "unified"), (LISTS, "unified"), (DYGIE, "dygie"), (SPE, "spe"), (DOCRED, "docred")],
    ids=["objects", "lists", "dygie", "spe", "docred"],
)
def test_every_format_gives_the_same_sentence(tmp_path, item, format):
    (tmp_path / "rel_info.json").write_text('{"P551": "lives in"}')
    sentences, report = read_annotated(saved(tmp_path / "data.jsonl", item))
    found = sentences[-1]
    assert (found.words, found.entities, found.relations) == (ADA.words, ADA.entities, ADA.relations)
    assert found.document == ("" if format == "unified" else "d")
    assert (report.format, report.documents, report.sentences) == (format, 1, len(sentences))
    assert not report.findings
    assert read_annotated(tmp_path / "data.jsonl", format)[0] == sentences


def test_sentences_of_a_document_are_numbered_and_keep_their_own_entities(tmp_path):
    for item in (DYGIE, DOCRED):
        sentences, _ = read_annotated(saved(tmp_path / "data.json", item))
        assert [(sentence.document, sentence.number) for sentence in sentences] == [("d", 0), ("d", 1)]
    assert sentences[0].entities == (Entity(0, 1, "Person"),)
    assert sentences[1].relations == (Relation(0, 1, "P551"),)  # no rel_info.json: the code


@pytest.mark.parametrize("layout", ["lines", "list", "indented object", "gzip", "byte order mark", "CRLF"])
def test_layouts_of_json(tmp_path, layout):
    path = tmp_path / "data.json"
    lines = f"{json.dumps(OBJECTS)}\n\n{json.dumps(LISTS)}\n"
    contents = {
        "lines": lines.encode(),
        "list": json.dumps([OBJECTS, LISTS], indent=1).encode(),
        "indented object": json.dumps(OBJECTS, indent=1).encode(),
        "gzip": gzip.compress(lines.encode()),  # told by its content, not its name
        "byte order mark": b"\xef\xbb\xbf" + lines.encode(),
        "CRLF": lines.replace("\n", "\r\n").encode(),
    }
    path.write_bytes(contents[layout])
    sentences, _ = read_annotated(path)
    assert len(sentences) == (1 if layout == "indented object" else 2)
    assert {(s.words, s.entities, s.relations) for s in sentences} == {(ADA.words, ADA.entities, ADA.relations)}


@settings(deadline=None)
@given(
    st.lists(annotated_sentences().map(without_loops), min_size=1, max_size=5),
    st.sampled_from(["a.jsonl", "a.jsonl.gz", "a.jsonl.bz2"]),
)
def test_what_was_written_is_read_again(tmp_path_factory, sentences, name):
    path = tmp_path_factory.mktemp("unified") / name
    write_unified(sentences, path)
    again, report = read_annotated(path)
    assert again == sentences
    assert not report.findings and not report.unread_fields


def test_we_write_the_fields_that_others_read(tmp_path):
    write_unified([ADA], tmp_path / "new" / "a.jsonl")
    assert json.loads((tmp_path / "new" / "a.jsonl").read_text()) == OBJECTS


def test_nothing_is_left_out_or_merged_without_a_count(tmp_path):
    listed = changed(
        LISTS,
        entities=[[0, 2, "Person"], [4, 5, "Place"], [0, 2, "Person"], [4, 5, "City"], [1, 5, "Odd"]],
        relations=[
            [0, 2, 4, 5, "lives in"],
            [0, 2, 4, 5, "lives in"],
            [0, 2, 5, 6, "ends with"],
        ],
        orig_id=3,
    )
    sentences, report = read_annotated(saved(tmp_path / "a.jsonl", listed, {"tokens": [], "entities": []}))
    assert len(sentences) == 1
    assert sentences[0].entities == (
        *ADA.entities,
        Entity(4, 5, "City"),
        Entity(1, 5, "Odd"),  # overlaps others: kept
    )
    assert sentences[0].relations == ADA.relations
    assert report.findings == {
        DUPLICATE_ENTITIES: 1,
        DUPLICATE_RELATIONS: 1,
        WITHOUT_ENTITY: 1,
        ARGUMENT_OF_SEVERAL_TYPES: 2,
        WITHOUT_WORDS: 1,
    }
    assert report.unread_fields == {"orig_id": 1}
    assert "1 duplicate entities merged" in "\n".join(report.lines())
    assert "fields that are not read: orig_id (1, first in line 1)" in "\n".join(report.lines())
    assert report.places == [f"{tmp_path / 'a.jsonl'}:1"]


def test_numbers_of_entities_follow_merged_ones(tmp_path):
    merged = changed(
        OBJECTS,
        entities=[OBJECTS["entities"][0], *OBJECTS["entities"]],
        relations=[{"type": "lives in", "head": 1, "tail": 2}],
    )
    assert read_annotated(saved(tmp_path / "a.jsonl", merged))[0] == [ADA]


def test_relations_across_sentences_are_counted(tmp_path):
    dygie = changed(DYGIE, ner=[[[0, 0, "X"]], DYGIE["ner"][1]], relations=[[[0, 0, 6, 6, "r"]], [[2, 3, 5, 5, "r"]]])
    sentences, report = read_annotated(saved(tmp_path / "a.jsonl", dygie))
    assert report.findings == {ACROSS_SENTENCES: 1, WITHOUT_ENTITY: 1}
    assert [len(sentence.entities) for sentence in sentences] == [1, 2]
    apart = changed(DOCRED, vertexSet=[DOCRED["vertexSet"][0][:1], DOCRED["vertexSet"][1]])
    sentences, report = read_annotated(saved(tmp_path / "b.json", apart))
    assert report.findings == {ACROSS_SENTENCES: 1}
    assert not any(sentence.relations for sentence in sentences)
    assert not report.unread_fields


def test_a_fact_of_docred_holds_between_all_mentions_in_a_sentence(tmp_path):
    twice = changed(
        DOCRED,
        vertexSet=[
            [{"sent_id": 1, "pos": [0, 1], "type": "Person"}, {"sent_id": 1, "pos": [1, 2], "type": "Person"}],
            DOCRED["vertexSet"][1],
        ],
    )
    sentences, _ = read_annotated(saved(tmp_path / "a.json", twice))
    assert sentences[1].relations == (Relation(0, 2, "P551"), Relation(1, 2, "P551"))


def test_a_relation_listed_with_another_sentence_is_found_by_its_words(tmp_path):
    sentences, report = read_annotated(
        saved(tmp_path / "a.json", changed(DYGIE, relations=[DYGIE["relations"][1], []]))
    )
    assert sentences[1].relations == ADA.relations and not report.findings


def test_unknown_ids_of_the_spe_program_are_counted_and_tokens_win(tmp_path):
    item = changed(
        SPE,
        tokens=["Ada\xa0Byron", *WORDS[2:]],
        entityMentions=[{"emId": 1, "text": "Ada Byron", "offset": [0, 1], "label": "Person"}],
        relationMentions=[{"em1Id": 1, "em2Id": 9, "label": "r"}],
    )
    sentences, report = read_annotated(saved(tmp_path / "a.json", item))
    assert sentences[0].words[0] == "Ada\xa0Byron"
    assert report.findings == {WITHOUT_ENTITY: 1}
    item = changed(item, tokens=None, sentText="Ada\xa0Byron lives in London .")
    assert read_annotated(saved(tmp_path / "b.json", item))[0][0] == sentences[0]


BAD_ITEMS = {
    "end beyond": (changed(OBJECTS, entities=[{"type": "X", "start": 4, "end": 7}]), "words 4 up to.*words 0 to 5"),
    "empty span": (
        changed(OBJECTS, entities=[{"type": "X", "start": 4, "end": 4}]),
        "begins at word 4 and ends at 4",
    ),
    "list end beyond": (changed(LISTS, entities=[[5, 7, "X"]]), "words 5 up to"),
    "negative": (changed(LISTS, entities=[[-1, 2, "X"]]), r"entities\[0\]\[0\] is -1: expected 0 or more"),
    "word for a number": (
        changed(OBJECTS, entities=[{"type": "X", "start": "0", "end": 1}]),
        r"entities\[0\]\.start",
    ),
    "true for number": (
        changed(LISTS, entities=[[True, 2, "X"]]),
        r"entities\[0\]\[0\] is true: expected a whole number",
    ),
    "no type": (changed(OBJECTS, entities=[{"start": 0, "end": 1}]), r"no field 'entities\[0\]\.type'"),
    "short list": (changed(LISTS, entities=[[0, 2]]), r"no field 'entities\[0\]\[2\]'"),
    "number of no entity": (changed(OBJECTS, relations=[{"type": "r", "head": 0, "tail": 2}]), "has 2 entities"),
    "tokens as text": (changed(OBJECTS, tokens="Ada Byron"), 'tokens is "Ada Byron": expected a list'),
    "token that is no text": (changed(OBJECTS, tokens=["a", 1]), r"tokens\[1\] is 1: expected a text in quotes"),
    "half a character": (changed(OBJECTS, tokens=["\ud800"]), r"tokens\[0\] has half of a surrogate pair"),
    "dygie, offsets of the sentence": (changed(DYGIE, ner=[[], [[0, 1, "X"]]]), "sentence 1: .*is words 2 to 7"),
    "dygie, end beyond": (changed(DYGIE, ner=[[], [[6, 8, "X"]]]), "words 6 to 8"),
    "dygie, lists missing": (changed(DYGIE, ner=[[]]), "1 lists in 'ner' for 2 sentences"),
    "dygie, relation beyond": (changed(DYGIE, relations=[[], [[2, 3, 6, 8, "r"]]]), "document has words 0 to 7"),
    "spe, wrong text": (
        changed(SPE, entityMentions=[{"emId": "a", "text": "London", "offset": [3, 4], "label": "X"}]),
        r"says 'London', but its words \[3, 4\] are 'in'",
    ),
    "spe, same id": (
        changed(SPE, entityMentions=[SPE["entityMentions"][0]] * 2),
        "two entity mentions with emId 'T1'",
    ),
    "spe, no words": (changed(SPE, sentText=None), "neither 'sentText' nor 'tokens'"),
    "misspelt, optional": (
        changed(OBJECTS, relations=None, relation=[]),
        r"unknown field 'relation', did you mean 'relations'\? \(format unified\)$",
    ),
    "misspelt, required": (
        changed(OBJECTS, entities=None, entites=[]),
        "unknown field 'entites', did you mean 'entities'",
    ),
    "misspelt, inside": (
        changed(OBJECTS, relations=[{"type": "r", "haed": 0, "tail": 1}]),
        r"relations\[0\]: unknown field 'haed', did you mean 'head'",
    ),
    "missing": (changed(OBJECTS, entities=None), r"no field 'entities' \(format unified\)$"),  # no doubt of the format
    "text of other words": (
        changed(OBJECTS, entities=[{"type": "X", "start": 0, "end": 1, "text": "Ada Byron"}]),
        r"entity 0 says 'Ada Byron', but its words \[0, 1\] are 'Ada'",
    ),
    "relation with itself": (
        changed(OBJECTS, relations=[{"type": "r", "head": 1, "tail": 1}]),
        "relation 'r' of 'London' .* with itself",
    ),
    "relation with itself, list": (changed(LISTS, relations=[[0, 2, 0, 2, "r"]]), "of 'Ada Byron' .* with itself"),
    "dygie, relation with itself": (changed(DYGIE, relations=[[], [[2, 3, 2, 3, "r"]]]), "with itself"),
    "docred, relation with itself": (changed(DOCRED, labels=[{"h": 0, "t": 0, "r": "r"}]), "entity 0 with itself"),
    "docred, sentence": (
        changed(DOCRED, vertexSet=[[{"name": "Ada", "sent_id": 2, "pos": [0, 1], "type": "X"}]]),
        "'Ada' in sentence 2, but the document has 2",
    ),
    "docred, words": (
        changed(DOCRED, vertexSet=[[{"sent_id": 0, "pos": [1, 3], "type": "X"}]]),
        "sentence 0: entity of type 'X' on words 1 up to, not including, 3",
    ),
    "docred, entity": (changed(DOCRED, labels=[{"h": 0, "t": 2, "r": "r"}]), "'vertexSet' has 2 entities"),
}


@pytest.mark.parametrize(("item", "error"), BAD_ITEMS.values(), ids=BAD_ITEMS)
@pytest.mark.parametrize("layout", ["lines", "list"])
def test_what_cannot_be_right_is_an_error_that_says_where(tmp_path, item, error, layout):
    formats = (good for good in (DOCRED, DYGIE, SPE) if good.keys() & item.keys() - {"relations", "tokens"})
    good = next(formats, OBJECTS)
    path = tmp_path / "data.json"
    path.write_text(json.dumps([good, item]) if layout == "list" else f"{json.dumps(good)}\n\n{json.dumps(item)}")
    place = rf"data\.json{': item 2' if layout == 'list' else ':3'}"
    with pytest.raises(UserError, match=f"{place}.*{error}"):
        read_annotated(path)


BAD_FILES = {
    "empty": (b" \n", "is empty"),
    "empty list": (b"[]", "empty list"),
    "no json": (b'{"tokens": [], "entities": []}\n{"tokens"\n', "data:2: invalid JSON: .* column 10: fix it"),
    "no json in a list": (b'[{"tokens": [], "entities": []},\n{"tokens"]', r"data: line 2, column 10: .*\(not JSON\)"),
    "no object": (b'[{"tokens": [], "entities": []}, 3]', "item 2: expected an object with fields, found 3"),
    "no object in a line": (
        b'{"tokens": [], "entities": []}\n"x"',
        'data:2: expected an object with fields, found "x"',
    ),
    "no format": (b'{"text": "x"}', "data:1: no known format, its fields are: text; .*--format"),
    "not utf-8": (b'{"tokens":\n\xff', "data: line 2: invalid UTF-8"),
    "damaged or truncated": (gzip.compress(b"x" * 99)[:-9], "damaged or truncated"),
    "nested too deep": (b"[" * 100_000, "data: line 1, column 2: nested too deeply"),
}


@pytest.mark.parametrize(("content", "error"), BAD_FILES.values(), ids=BAD_FILES)
def test_files_that_hold_no_sentences(tmp_path, content, error):
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(UserError, match=error):
        read_annotated(tmp_path / "data")


OTHER_PROGRAMS = {
    "predictions for Label Studio": {"id": 1, "data": {"text": "Ada"}, "predictions": []},
    "Doccano before": {"id": 1, "data": "Ada", "label": [[0, 3, "P"]]},
    "INCEpTION": {"%TYPES": {}, "%FEATURE_STRUCTURES": []},
    "PubAnnotation": {"text": "Ada", "denotations": []},
    "spaCy": {"text": "Ada", "ents": [], "tokens": [{"id": 0, "start": 0, "end": 3}]},
    "TACRED": {"token": ["Ada"], "relation": "no_relation", "subj_start": 0},
    "a tagging data set": {"tokens": ["Ada"], "ner_tags": [1]},
}


@pytest.mark.parametrize(("program", "item"), OTHER_PROGRAMS.items(), ids=OTHER_PROGRAMS)
def test_files_of_other_programs_are_named(tmp_path, program, item):
    with pytest.raises(UserError, match=rf"a\.jsonl:1: this looks like {re.escape(program)}.*, which is not read: "):
        read_annotated(saved(tmp_path / "a.jsonl", item))


@pytest.mark.parametrize("name", [None, 12, "12"])
def test_null_is_as_if_it_were_not_there_and_names_may_be_numbers(tmp_path, name):
    unified = {"tokens": ["Ada"], "entities": [], "relations": None, "document": name, "number": None, "x": None}
    dygie = {"doc_key": name, "sentences": [["Ada"]], "ner": [[]], "relations": None}
    docred = {"title": name, "sents": [["Ada"]], "vertexSet": [], "labels": None}
    spe = {"articleId": name, "tokens": ["Ada"], "sentText": None, "entityMentions": [], "relationMentions": None}
    for item in (unified, dygie, docred, spe):
        (sentence,), report = read_annotated(saved(tmp_path / "a.jsonl", item))
        assert sentence.document == ("" if name is None else "12")
        assert not report.unread_fields


def test_documents_without_sentences_are_counted(tmp_path):
    items = [{"sentences": [], "ner": []}, {"sentences": [["a"]], "ner": [[]]}]
    assert read_annotated(saved(tmp_path / "a.jsonl", *items))[1].findings == {TEXTS_WITHOUT_WORDS: 1}
    items = [{"sents": [], "vertexSet": []}]
    assert read_annotated(saved(tmp_path / "b.jsonl", *items))[1].findings == {TEXTS_WITHOUT_WORDS: 1}


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_annotated(tmp_path / "missing.json")
    with pytest.raises(UserError, match="is a folder: name the files in it"):
        read_annotated(tmp_path)


def test_a_misspelt_first_item_is_told(tmp_path):
    item = changed(OBJECTS, entities=None, entites=[])
    with pytest.raises(UserError, match=r"a\.jsonl:1: unknown field 'entites', did you mean 'entities'"):
        read_annotated(saved(tmp_path / "a.jsonl", item))


def test_the_text_of_an_entity_may_differ_in_spaces(tmp_path):
    entity = {"type": "Person", "start": 0, "end": 2, "text": "AdaByron"}
    found = read_annotated(saved(tmp_path / "a.jsonl", changed(OBJECTS, entities=[entity], relations=None)))[0]
    assert found[0].entities == ADA.entities[:1]


def test_mentions_that_two_entities_of_docred_share(tmp_path):
    shared = changed(DOCRED, vertexSet=[DOCRED["vertexSet"][0], DOCRED["vertexSet"][0][1:]])
    sentences, report = read_annotated(saved(tmp_path / "a.json", shared))
    assert report.findings == {DUPLICATE_ENTITIES: 1, SHARED_MENTION: 1}
    assert not any(sentence.relations for sentence in sentences)


def test_a_format_named_wrongly_says_so(tmp_path):
    with pytest.raises(UserError, match="no field 'sentences' \\(format dygie; --format names another"):
        read_annotated(saved(tmp_path / "a.jsonl", OBJECTS), "dygie")


def test_names_of_relations_must_be_names(tmp_path):
    (tmp_path / "rel_info.json").write_text("[]")
    with pytest.raises(UserError, match=r"rel_info\.json: expected an object"):
        read_annotated(saved(tmp_path / "a.json", DOCRED))


@pytest.mark.skipif("SPE_DIST_REAL_DATA" not in os.environ, reason="SPE_DIST_REAL_DATA names no folder of real data")
def test_real_data():
    folder = Path(os.environ["SPE_DIST_REAL_DATA"])
    counts = {}
    for name in ("conll04/train.CoNLL04.json", "scierc/train.json", "re_docred/dev_revised.json", "cdr/dev.json"):
        sentences, _ = read_annotated(folder / name)
        counts[name] = (
            len(sentences),
            sum(len(sentence.entities) for sentence in sentences),
            sum(len(sentence.relations) for sentence in sentences),
        )
    assert counts["conll04/train.CoNLL04.json"] == (922, 3377, 1283)
    assert counts["scierc/train.json"] == (1861, 5598, 3215)
    assert counts["re_docred/dev_revised.json"][:2] == (4110, 13153)
