from spe_dist.extraction.data_warnings import data_warnings
from spe_dist.extraction.encoded_sentences import Labels
from tests.unit.spe_dist.extraction.tiny import LABELS, SENTENCES, sentence

NEW = sentence("Ann left Rome .", "0-1:PER 2-3:CITY", "0>1:left")


def test_nothing_is_said_where_nothing_is_odd():
    assert data_warnings(LABELS, SENTENCES[:2], {"dev": SENTENCES[2:]}) == []


def test_sentences_that_are_learned_from_and_tested_with():
    (line,) = data_warnings(LABELS, SENTENCES, {"dev": [sentence("new .")], "test": [*SENTENCES[:2], sentence("x")]})
    assert line.startswith("warning: 2 of 3 test sentences are learned from too")


def test_types_that_cannot_be_predicted_are_named():
    entities, relations = data_warnings(LABELS, SENTENCES, {"dev": [NEW]})
    assert entities.startswith("warning: dev has entity types") and entities.endswith(": CITY")
    assert relations.startswith("warning: dev has relation types") and relations.endswith(": left")


def test_data_without_relations():
    alone = [sentence("Warsaw", "0-1:LOC")]
    (line,) = data_warnings(Labels.of(alone), alone, {"dev": [sentence("x")]})
    assert "no file has a relation" in line
