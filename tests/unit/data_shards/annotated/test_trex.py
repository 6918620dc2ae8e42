"""Documents of T-REx and REBEL, and labels of DocRED's form that mean no relation."""

import json

import pytest

from data_shards.annotated.document import Fact, Mention
from data_shards.annotated.read import read_documents
from data_shards.annotated.read_report import MOVED, NO_RELATION, NOT_FOUND, WITH_ITSELF, WITHOUT_ENTITY
from data_shards.errors import UserError
from tests.unit.data_shards.annotated.test_formats import DOCRED, saved

TEXT = "Ada lived in London. London is in England."


def entity(uri, start, end, surface):
    return {"uri": uri, "boundaries": [start, end], "surfaceform": surface, "annotator": "Me"}


def triple(subject, code, name, object, **fields):
    predicate = {"uri": code, "boundaries": None, "surfaceform": name} | fields
    return {"subject": subject, "predicate": predicate, "object": object, "sentence_id": 0, "confidence": None}


ADA, LONDON, AGAIN = entity("Q7259", 0, 3, "Ada"), entity("Q84", 13, 19, "London"), entity("Q84", 21, 27, "London")
ITEM = {
    "docid": "1", "title": "Ada", "uri": "Q7259", "text": TEXT,
    "entities": [ADA, LONDON, AGAIN], "triples": [triple(ADA, "P551", "residence", LONDON)],
}  # fmt: skip


def read(tmp_path, **fields):
    (document,), report = read_documents(saved(tmp_path / "data.jsonl", ITEM | fields))
    return document, report


def test_mentions_with_one_uri_are_one_entity(tmp_path):
    document, report = read(tmp_path)
    assert report.format == "trex" and not report.findings
    assert document.identities == ("Q7259", "Q84") and document.name == "Ada" and document.text == TEXT
    assert document.mentions == tuple(
        Mention(*m) for m in ((0, 3, "entity", 0), (13, 19, "entity", 1), (21, 27, "entity", 1))
    )
    assert document.facts == (Fact(0, 1, "residence"),)


def test_uris_of_t_rex_are_cut_to_codes(tmp_path):
    base = "http://www.wikidata.org/"
    ada, london = ADA | {"uri": base + "entity/Q7259"}, LONDON | {"uri": base + "entity/Q84"}
    stated = triple(ada, base + "prop/direct/P551", "lived in", london, boundaries=[4, 12])  # words, not a name
    document, report = read(tmp_path, entities=[ada, london], triples=[stated])
    assert document.identities == ("Q7259", "Q84") and report.relation_names == {}
    assert document.facts == (Fact(0, 1, "P551"),)


def test_arguments_are_mentions_too_and_entities_without_uri_share_their_words(tmp_path):
    nameless = [entity(uri, *place, "London") for uri, place in (("None", (13, 19)), ("", (21, 27)))]
    document, _ = read(tmp_path, entities=nameless)  # and the triple's own
    assert document.identities == ("", "Q7259", "Q84")
    assert [mention.entity for mention in document.mentions] == [0, 0, 1, 2]


@pytest.mark.parametrize(("start", "surface", "place"), [(14, "London", 13), (19, "London", 21), (0, "England", 34)])
def test_boundaries_that_miss_are_moved_to_the_nearest_place(tmp_path, start, surface, place):
    document, report = read(tmp_path, entities=[entity("Q1", start, start + 3, surface)], triples=[])
    assert document.mentions[0][:2] == (place, place + len(surface))
    assert report.findings == {MOVED: 1}


def test_what_has_no_place_is_counted(tmp_path):
    lost, pronoun = entity("Q1", 0, 3, "Rome"), ADA | {"uri": "Q2", "boundaries": None}
    document, report = read(
        tmp_path, entities=[ADA, lost], triples=[triple(ADA, "P1", "", pronoun), triple(ADA, "P1", "", ADA)]
    )
    assert len(document.mentions) == 1 and document.facts == ()
    assert report.findings == {NOT_FOUND: 1, WITHOUT_ENTITY: 1, WITH_ITSELF: 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": 3}, r"data\.jsonl:1: text is 3: expected a text"),
        ({"entities": [{"uri": 3.5}]}, r"entities\[0\]\.uri"),
        ({"entities": [{"uri": "Q1", "boundaries": [0]}]}, r"entities\[0\]\.boundaries"),
        ({"triples": [{"subject": ADA, "object": LONDON}]}, r"no field 'triples\[0\]\.predicate'"),
        ({"triples": [triple(ADA, "", "", LONDON)]}, r"triples\[0\]\.predicate\.uri has the type ''"),
    ],
)
def test_wrong_fields_are_named(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, **fields)


def test_a_label_that_means_no_relation_is_left_out_and_counted(tmp_path):
    labels = [*DOCRED["labels"], {"h": 1, "t": 0, "r": "NR", "evidence": [None]}]
    path = saved(tmp_path / "data.jsonl", DOCRED | {"labels": labels})
    (document,), report = read_documents(path)
    assert [fact.type for fact in document.facts] == ["P551"] and report.findings == {NO_RELATION: 1}
    (document,), report = read_documents(path, keep_no_relation=True)
    assert [fact.type for fact in document.facts] == ["P551", "NR"] and not report.findings


def test_the_sample_of_rebel_is_json_lines_that_are_recognised(tmp_path):
    line = json.dumps(ITEM)
    (tmp_path / "data.json").write_text(f"{line}\n{line}\n")
    documents, report = read_documents(tmp_path / "data.json")
    assert (len(documents), report.format) == (2, "trex")
