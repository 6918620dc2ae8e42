"""Pairs of sentences against slow loops, and as a dataset."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from data_shards.errors import UserError
from data_shards.pipeline.build_config import PairConfig
from data_shards.pipeline.pairs import FactTable, choose_pairs, join_pairs, pair_sentences
from data_shards.shards.reader import ShardReader, verify
from data_shards.shards.record import BLOCKED, UNLINKED, Records
from tests.unit.data_shards.derive_here import derived_here
from tests.unit.spe_dist.fact_sentences import LENGTH, fact_sentences, write_fact_sentences
from tests.unit.spe_dist.random_documents import write_records


def row(records, layer, number):
    return [tuple(one) if isinstance(one, list) else one for one in records.layers[layer].row(number).tolist()]


def facts_by_hand(records):
    """(sentence, row, head id, tail id) of the first fact of each pair of linked entities."""
    for number in range(len(records)):
        ids, seen = row(records, "knowledge_ids", number), set()
        for index, (head, tail, relation) in enumerate(row(records, "relations", number)):
            if relation != BLOCKED and UNLINKED not in (ids[head], ids[tail]) and (head, tail) not in seen:
                seen.add((head, tail))
                yield number, index, ids[head], ids[tail]


def test_facts_are_those_of_linked_entities():
    records = fact_sentences(60, seed=2)
    table = FactTable.of(records, 7)
    found = zip(
        (table.sentences - 7).tolist(), *(c.tolist() for c in (table.rows, table.heads, table.tails)), strict=True
    )
    assert list(found) == list(facts_by_hand(records))


@pytest.mark.parametrize(("count", "ids", "most"), [(200, 4, 8), (200, 4, 3), (120, 12, 2), (3, 2, 8), (0, 1, 2)])
def test_pairs_are_all_positives_of_a_few_sentences_and_as_many_hard_negatives(count, ids, most):
    draw = np.random.default_rng(count + most)
    heads, tails = draw.integers(ids, size=count), 100 + draw.integers(ids, size=count)
    positives, negatives = (part.tolist() for part in choose_pairs(heads, tails, most=most, seed=5))
    facts_of = {}
    for fact, pair in enumerate(zip(heads.tolist(), tails.tolist(), strict=True)):
        facts_of.setdefault(pair, []).append(fact)
    found = {frozenset(pair) for pair in positives}
    assert len(found) == len(positives)
    expected = 0
    for facts in facts_of.values():
        here = {fact for pair in found for fact in pair} & {*facts}
        size = min(len(facts), most)
        assert len(here) == (size if size > 1 else 0)
        assert {frozenset(two) for two in combinations(sorted(here), 2)} <= found
        expected += size * (size - 1) // 2
    assert len(found) == expected  # so there are no others
    remaining = Counter(anchor for anchor, _ in positives)
    for anchor, other in negatives:
        assert (heads[anchor] == heads[other]) != (tails[anchor] == tails[other])
        remaining[anchor] -= 1
    for anchor, left in remaining.items():
        has_any = ((heads == heads[anchor]) != (tails == tails[anchor])).any()
        assert left == (0 if has_any else sum(one == anchor for one, _ in positives))


def test_negatives_are_drawn_uniformly():
    heads, tails = np.array([0, 0, 0, 0, 1, 2]), np.array([5, 5, 6, 7, 5, 6])
    drawn = Counter(choose_pairs(heads, tails, most=2, seed=seed)[1][0, 1] for seed in range(600))
    assert {*drawn} == {2, 3, 4}
    assert sum((count - 200) ** 2 / 200 for count in drawn.values()) < 14


def test_a_pair_has_both_sentences_and_the_entities_of_one_fact_of_each():
    sentences = fact_sentences(40, seed=4)
    rows = [0 if number % 3 else len(row(sentences, "relations", number)) - 1 for number in range(40)]
    rows = [0 if row(sentences, "relations", n)[r][2] == BLOCKED else r for n, r in enumerate(rows)]
    joined = join_pairs(sentences, np.array(rows))
    assert len(joined) == 20
    for number in range(20):
        pieces, words, entities, of_mentions, ids, relations, starts = [], [], [], [], [], [], []
        for side, sentence in enumerate((2 * number, 2 * number + 1)):
            head, tail, relation = row(sentences, "relations", sentence)[rows[sentence]]
            new = {old: len(ids) + n for n, old in enumerate(sorted((head, tail)))}
            mentions = zip(
                row(sentences, "entities", sentence), row(sentences, "mention_entities", sentence), strict=True
            )
            kept = [(first, last, type, entity) for (first, last, type), entity in mentions if entity in new]
            starts.append(len(words))
            entities += [(first + len(words), last + len(words), type) for first, last, type, _ in kept]
            of_mentions += [new[entity] for *_, entity in kept]
            words += [start + len(pieces) for start in row(sentences, "words", sentence)]
            pieces += row(sentences, "pieces", sentence)
            ids += [row(sentences, "knowledge_ids", sentence)[old] for old in new]
            relations.append((new[head], new[tail], relation))
            assert len(pieces) == (side + 1) * LENGTH
        expected = {
            "pieces": pieces, "words": words, "entities": entities, "sentence_starts": starts,
            "mention_entities": of_mentions, "knowledge_ids": ids, "relations": relations,
        }  # fmt: skip
        assert {name: row(joined, name, number) for name in joined.layers} == expected


def test_a_dataset_of_pairs(tmp_path):
    write_fact_sentences(tmp_path / "sentences", 90, shards=3)
    config = PairConfig(str(tmp_path / "sentences"), tmp_path / "pairs", most_sentences=4)
    with derived_here():
        manifest = pair_sentences(config).manifest
    assert verify(tmp_path / "pairs") == []
    assert manifest.language == "en" and manifest.max_pieces == 2 * 160 - 2
    records = ShardReader(tmp_path / "pairs").take(np.arange(manifest.statistics.records))
    kinds = Counter()
    for number in range(len(records)):
        ids = row(records, "knowledge_ids", number)
        pairs = [(ids[head], ids[tail]) for head, tail, _ in row(records, "relations", number)]
        shared = sum(one == other for one, other in zip(*pairs, strict=True))
        kinds[shared] += 1
    found = manifest.statistics.found
    assert kinds == {2: found["positive_pairs"], 1: found["negative_pairs"]}
    again = tmp_path / "again"
    with derived_here(backwards=True):
        pair_sentences(PairConfig(config.dataset, again, name="pairs", most_sentences=4))
    names = {path.name for path in again.iterdir() if path.is_file()}
    assert {path.name for path in (tmp_path / "pairs").iterdir() if path.is_file()} == names and len(names) == 4
    assert all((tmp_path / "pairs" / name).read_bytes() == (again / name).read_bytes() for name in names)
    with pytest.raises(UserError, match="spe shards sentences"):
        pair_sentences(PairConfig(str(tmp_path / "pairs"), tmp_path / "out"))


def test_sentences_that_no_knowledge_base_links_are_refused(tmp_path):
    layers = dict(fact_sentences(20, seed=1).layers)
    ids = layers["knowledge_ids"]
    layers["knowledge_ids"] = replace(ids, values=np.full_like(ids.values, UNLINKED))
    write_records(tmp_path / "sentences", Records(**layers), shards=1, documents_cut={"build": {"language": "en"}})
    with pytest.raises(UserError, match=r"no fact of entities with ids of a knowledge base.*--kb FOLDER"):
        pair_sentences(PairConfig(str(tmp_path / "sentences"), tmp_path / "pairs"))


@pytest.mark.parametrize("options", [{"workers": 0}, {"most_sentences": 1}, {"seed": -1}])
def test_settings_are_checked(options, tmp_path):
    with pytest.raises(UserError, match=next(iter(options))):
        PairConfig("sentences", tmp_path, **options)
