import gzip
import json
import os
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
from tests.unit.data_shards.annotated.items import ADA, DOCRED, DYGIE, LISTS, OBJECTS, SPE, WORDS, changed, saved
from tests.unit.data_shards.annotated.sentences import annotated_sentences


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


def test_the_text_of_an_entity_may_differ_in_spaces(tmp_path):
    entity = {"type": "Person", "start": 0, "end": 2, "text": "AdaByron"}
    found = read_annotated(saved(tmp_path / "a.jsonl", changed(OBJECTS, entities=[entity], relations=None)))[0]
    assert found[0].entities == ADA.entities[:1]


def test_mentions_that_two_entities_of_docred_share(tmp_path):
    shared = changed(DOCRED, vertexSet=[DOCRED["vertexSet"][0], DOCRED["vertexSet"][0][1:]])
    sentences, report = read_annotated(saved(tmp_path / "a.json", shared))
    assert report.findings == {DUPLICATE_ENTITIES: 1, SHARED_MENTION: 1}
    assert not any(sentence.relations for sentence in sentences)


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
