"""Sentences of documents against a slow loop."""

from dataclasses import replace
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given

from data_shards.annotated.document import split_documents
from data_shards.errors import UserError
from data_shards.pipeline import derive
from data_shards.pipeline.build_config import SentencesConfig
from data_shards.pipeline.document_filter import DocumentFilter
from data_shards.pipeline.document_plan import DocumentPlan
from data_shards.pipeline.document_unit import DocumentUnit
from data_shards.pipeline.ner_pipeline import EntityPlan
from data_shards.pipeline.sentences import cut_sentences, sentences_of
from data_shards.shards import manifest
from data_shards.shards.manifest import RelationType
from tests.unit.data_shards.derive_here import derived_here
from tests.unit.data_shards.pipeline.test_document_unit import RELATIONS, TYPES, documents, word_pieces
from tests.unit.spe_dist.fact_sentences import write_fact_sentences

EVERYTHING = DocumentPlan(DocumentFilter(1, 0, 0, 99, 99), RELATIONS)


def row(records, layer, number):
    return records.layers[layer].row(number).tolist()


def expected_sentences(records, number):
    """The sentences of a document, each a dictionary of layers."""
    pieces, word_starts = row(records, "pieces", number), [*row(records, "words", number)]
    bounds = [*row(records, "sentence_starts", number), len(word_starts)]
    entities_of = row(records, "mention_entities", number)
    for first, last in pairwise(bounds):
        first_piece = word_starts[first]
        last_piece = word_starts[last] if last < len(word_starts) else len(pieces)
        mentions, of_mentions, entities = [], [], {}
        for (start, end, type), entity in zip(row(records, "entities", number), entities_of, strict=True):
            if first <= start < last:
                mentions.append([start - first, end - first, type])
                of_mentions.append(entities.setdefault(entity, len(entities)))
        facts = [
            [entities[head], entities[tail], relation]
            for head, tail, relation in row(records, "relations", number)
            if head in entities and tail in entities
        ]
        yield {
            "pieces": pieces[first_piece:last_piece],
            "words": [start - first_piece for start in word_starts[first:last]],
            "entities": mentions,
            "sentence_starts": [0],
            "mention_entities": of_mentions,
            "knowledge_ids": [row(records, "knowledge_ids", number)[entity] for entity in entities],
            "relations": sorted(facts),
        }


@given(documents(), documents())
def test_a_sentence_has_what_is_within_it(one, other):
    sentences = split_documents([one, other], "en")
    unit = DocumentUnit(EVERYTHING, sentences, word_pieces.locate_words(sentences.texts), 30)
    records, _ = unit.records(None, EntityPlan(TYPES, None, 0))
    found = sentences_of(records)
    layers = found.with_layers()
    expected = [sentence for number in range(len(records)) for sentence in expected_sentences(records, number)]
    assert [{name: row(layers, name, n) for name in layers.layers} for n in range(len(layers))] == expected
    pairs = [len({tuple(fact[:2]) for fact in sentence["relations"]}) for sentence in expected]
    assert found.pairs.tolist() == pairs
    kept = np.array(pairs, dtype=np.int64) > 0
    some = found.keep(kept).with_layers()
    assert [row(some, "relations", n) for n in range(len(some))] == [s["relations"] for s in expected if s["relations"]]


def test_what_was_cut_before_the_source_got_another_relation_is_cut_again(tmp_path):
    source, config = tmp_path / "source", SentencesConfig(str(tmp_path / "source"), tmp_path / "out")
    write_fact_sentences(source, 80, shards=2)
    with derived_here():
        with patch.object(derive, "finish_dataset", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            cut_sentences(config)
        found = manifest.load(source)
        relations = found.relation_types | {"ZZ9": RelationType("new", 0)}
        replace(found, relation_types=relations).save(source)
        assert list(cut_sentences(config).manifest.relation_types) == list(relations)


@pytest.mark.parametrize("options", [{"workers": 0}, {"min_entities": -1}, {"max_pieces": 2}])
def test_settings_are_checked(options, tmp_path):
    with pytest.raises(UserError, match=next(iter(options))):
        SentencesConfig("docs", tmp_path, **options)
