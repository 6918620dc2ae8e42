from dataclasses import replace

import pytest

from spe_dist.extraction.data.data_warnings import (
    data_warnings,
    file_warnings,
    negatives_warnings,
    type_warnings,
)
from spe_dist.extraction.model.encoded_sentences import Labels
from tests.unit.spe_dist.extraction.tiny import LABELS, SENTENCES, sentence

NEW = sentence("Ann left Rome .", "0-1:PER 2-3:CITY", "0>1:left")


def test_nothing_is_said_where_nothing_is_odd():
    assert data_warnings(LABELS, SENTENCES[:2], {"dev": SENTENCES[2:]}) == []


def test_sentences_that_are_learned_from_and_tested_with():
    (line,) = data_warnings(LABELS, SENTENCES, {"dev": [sentence("new .")], "test": [*SENTENCES[:2], sentence("x")]})
    assert line.startswith("warning: 2 of 3 test sentences are learned from too")


def test_types_that_cannot_be_predicted_are_named():
    entities, relations = data_warnings(LABELS, SENTENCES, {"dev": [NEW]})
    assert entities.startswith("warning: dev has entity types") and entities.endswith(": 'CITY'")
    assert relations.startswith("warning: dev has relation types") and relations.endswith(": 'left'")


def test_data_without_relations():
    alone = [sentence("Warsaw", "0-1:LOC")]
    (line,) = data_warnings(Labels.of(alone), alone, {"dev": [sentence("x")]})
    assert "no file has a relation" in line


@pytest.mark.parametrize("other", ["PER ", "per", "P\u200bER", "P_ER", "\xa0PER"])
def test_types_that_differ_in_little_are_named_with_quotes(other):
    (line,) = type_warnings(["LOC", "PER", other], ["LOC"])
    assert line.startswith("warning: entity types ") and "'PER'" in line and ascii(other) in line
    (line,) = type_warnings(["LOC"], ["PER", other])
    assert line.startswith("warning: relation types ")
    assert type_warnings(["LOC", "PERS"], ["PER", "PER2"]) == []


def test_composed_and_decomposed_types_are_told_apart():
    (line,) = type_warnings(["Ort\xe9", "Orte\u0301"], [])
    assert r"'Ort\xe9'" in line and r"'Orte\u0301'" in line


@pytest.mark.parametrize("type", ["no_relation", "NA", "N/A", "Other", "None", "no relation"])
def test_relations_that_stand_for_none_are_named(type):
    (line,) = type_warnings(["Other", "None"], ["born in", type])
    assert repr(type) in line and f"--without-relations {type!r}" in line
    labels = Labels(("PER",), ("left", type))
    assert data_warnings(labels, SENTENCES[:2], {}) == [line]


def test_what_is_odd_in_a_file():
    assert file_warnings("f", SENTENCES) == []
    assert file_warnings("f", []) == []
    (line,) = file_warnings("f", [sentence("x"), sentence("y")])
    assert "f has no entities at all" in line
    (line,) = file_warnings("f", [NEW, NEW, replace(NEW, entities=NEW.entities[:1], relations=()), sentence(".")])
    assert line.startswith("warning: 1 sentence of f occurred before with other annotations")
    (line,) = file_warnings("f", [replace(NEW, document="d"), replace(SENTENCES[0], document="d")])
    assert "1 sentence of f with the document and number of another one" in line


def test_sentences_are_compared_composed_or_not():
    one, other = (sentence(f"Jos{e} left .", "0-1:PER") for e in ("\xe9", "e\u0301"))
    (line, _) = data_warnings(Labels.of([one]), [one], {"dev": [other]})
    assert "1 of 1 dev sentences are learned from too" in line


EMPTY, RELATED = sentence("nothing ."), sentence("Ann left Rome .", "0-1:PER 2-3:LOC", "0>1:left")
UNRELATED = replace(RELATED, relations=())


@pytest.mark.parametrize(
    ("train", "lacking"),
    [
        ([RELATED] * 200, ["without entities", "two or more entities are without relations"]),
        ([RELATED] * 200 + [EMPTY, UNRELATED], ["without entities", "two or more entities are without relations"]),
        ([RELATED] * 190 + [EMPTY] * 10, ["two or more entities are without relations"]),
        ([RELATED] * 190 + [UNRELATED] * 10, ["without entities"]),
        ([RELATED] * 180 + [EMPTY] * 10 + [UNRELATED] * 10, []),
        ([RELATED] * 19, []),  # too few to wonder
        ([UNRELATED] * 99 + [EMPTY], []),  # no relation is learned at all
        ([EMPTY] * 99, []),  # no entity: another warning
    ],
)
def test_training_data_in_which_everything_is_something(train, lacking):
    lines = negatives_warnings("train.json", train)
    assert len(lines) == len(lacking)
    for line, what in zip(lines, lacking, strict=True):
        assert line.startswith("warning: ") and "of train.json" in line and what in line and "finds false" in line
    assert [line for line in data_warnings(LABELS, train, {}) if "hardly seen" in line] == [
        line.replace("train.json", "the training data") for line in lines
    ]
