"""The embedded corpus: the same for the same seed, cut by the tokenizer as it was written, and true to one world."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import spacy

from data_shards.annotated.read import read_annotated
from data_shards.sample import corpus as sample_corpus
from data_shards.sample.corpus import (
    ENTITY_TYPES,
    RELATION_TYPES,
    Entity,
    Sentence,
    generate,
    generate_annotated,
    write_annotated,
    write_corpus,
)

pytestmark = pytest.mark.any_version

# Which types a relation connects, and whether the head or the tail determines the other end.
SIGNATURES = {
    "author_of": ("Person", "Work", "tail"),
    "born_in": ("Person", "Place", "head"),
    "born_in_year": ("Person", "Year", "head"),
    "capital_of": ("Place", "Place", "head"),
    "created_in_year": ("Work", "Year", "head"),
    "founded_by": ("Organisation", "Person", "head"),
    "founded_in_year": ("Organisation", "Year", "head"),
    "head_office_in": ("Organisation", "Place", "head"),
    "lives_in": ("Person", "Place", "head"),
    "located_in": ("Place", "Place", "head"),
    "married_to": ("Person", "Person", "head"),
    "part_of": ("Place", "Place", "head"),
    "studied_at": ("Person", "Organisation", "head"),
    "works_for": ("Person", "Organisation", "head"),
}


@cache
def sample(seed: int = 1, sentences: int = 20_000) -> Sequence[Sentence]:
    return tuple(generate(sentences, seed=seed))


def mention(sentence: Sentence, entity: Entity) -> tuple[str, ...]:
    return sentence.words[entity.start : entity.end]


def test_same_seed_same_sentences() -> None:
    assert list(generate(500, seed=7)) == list(generate(500, seed=7))
    assert list(generate(500, seed=7)) != list(generate(500, seed=8))


def test_a_longer_run_starts_like_a_shorter_one() -> None:
    assert list(islice(generate(5_000, seed=1), 300)) == list(generate(300, seed=1)) == list(sample()[:300])


@pytest.mark.parametrize("sentences", [0, 1, 17])
def test_as_many_as_asked(sentences: int) -> None:
    assert len(list(generate(sentences, seed=0))) == sentences


def test_spacy_cuts_the_text_into_the_words() -> None:
    tokenizer = spacy.blank("en").tokenizer
    for sentence in sample()[:8_000]:
        assert tuple(token.text for token in tokenizer(sentence.text)) == sentence.words


def test_entities_lie_in_order_inside_the_sentence_without_overlap() -> None:
    for sentence in sample():
        ends = [0, *(entity.end for entity in sentence.entities)]
        for entity, earlier_end in zip(sentence.entities, ends, strict=False):
            assert earlier_end <= entity.start < entity.end < len(sentence.words)
            assert entity.type in ENTITY_TYPES
        assert len({entity.id for entity in sentence.entities}) == len(sentence.entities)


def test_an_id_has_one_type_and_a_name_has_one_id() -> None:
    types, ids = defaultdict(set), defaultdict(set)
    for sentence in sample():
        for entity in sentence.entities:
            types[entity.id].add(entity.type)
            ids[mention(sentence, entity)].add(entity.id)
    assert all(len(found) == 1 for found in types.values())
    assert all(len(found) == 1 for found in ids.values())


def test_relations_connect_the_right_types_and_are_stated_once() -> None:
    assert set(RELATION_TYPES) == set(SIGNATURES)
    for sentence in sample():
        pairs = [(relation.head, relation.tail) for relation in sentence.relations]
        assert len(pairs) <= 4
        assert len({frozenset(pair) for pair in pairs}) == len(pairs)
        for relation in sentence.relations:
            head, tail = sentence.entities[relation.head], sentence.entities[relation.tail]
            assert (head.type, tail.type) == SIGNATURES[relation.type][:2]


def test_facts_are_the_same_in_every_sentence_and_for_every_seed() -> None:
    facts = defaultdict(set)
    for sentence in (*sample(1), *sample(2)):
        for relation in sentence.relations:
            ends = sentence.entities[relation.head].id, sentence.entities[relation.tail].id
            known, other = ends if SIGNATURES[relation.type][2] == "head" else ends[::-1]
            facts[relation.type, known].add(other)
            if relation.type == "married_to":
                facts[relation.type, other].add(known)
    assert all(len(others) == 1 for others in facts.values())


def test_every_relation_is_common_and_told_in_both_directions() -> None:
    forward, backward = Counter[str](), Counter[str]()
    for sentence in sample():
        for relation in sentence.relations:
            (forward if relation.head < relation.tail else backward)[relation.type] += 1
    for relation_type in RELATION_TYPES:
        assert forward[relation_type] >= 100
        assert (backward[relation_type] == 0) if relation_type == "married_to" else (backward[relation_type] >= 100)


def test_some_sentences_state_nothing_some_much() -> None:
    counts = Counter(len(sentence.relations) for sentence in sample())
    assert set(counts) == {0, 1, 2, 3, 4}
    assert min(counts.values()) >= 100


def test_sentences_rarely_repeat() -> None:
    assert len({sentence.words for sentence in sample()}) >= 0.95 * len(sample())


def test_lengths_are_mixed() -> None:
    lengths = sorted(len(sentence.words) for sentence in sample())
    assert lengths[0] >= 5 and lengths[-1] <= 30
    assert 13 <= sum(lengths) / len(lengths) <= 16
    assert lengths[len(lengths) // 10] <= 9 and lengths[-len(lengths) // 10] >= 20


def test_no_pronouns_and_tidy_punctuation() -> None:
    pronouns = {"he", "she", "it", "they", "him", "her", "his", "hers", "its", "their", "them"}
    for sentence in sample():
        assert not sentence.words[0][0].islower()
        assert sentence.words[-1] == "."
        assert not pronouns & {word.lower() for word in sentence.words}
        assert not any(mark in sentence.text for mark in (",,", ",.", ", .", ",;", "{", "<", "[", "|", "$", "*"))


def test_written_corpus_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "corpus.jsonl"
    write_corpus(path, sentences=50, seed=3)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [path] == list(path.parent.iterdir())
    for row, sentence in zip(rows, generate(50, seed=3), strict=True):
        assert row["text"] == sentence.text
        assert tuple(row["tokens"]) == sentence.words
        assert [tuple(entity) for entity in row["entities"]] == [
            (entity.start, entity.end, entity.type, entity.id) for entity in sentence.entities
        ]
        assert [tuple(relation) for relation in row["relations"]] == [
            (relation.head, relation.tail, relation.type) for relation in sentence.relations
        ]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "corpus.jsonl"
    write_corpus(path, sentences=2, seed=3)
    before = path.read_bytes()

    def broken(sentences: int, *, seed: int):
        yield from generate(1, seed=seed)
        raise OSError("disk full")

    monkeypatch.setattr(sample_corpus, "generate", broken)
    with pytest.raises(OSError, match="disk full"):
        write_corpus(path, sentences=2, seed=4)
    assert path.read_bytes() == before
    assert [path] == list(tmp_path.iterdir())


def test_annotated_parts_share_no_sentence_with_each_other_or_the_corpus() -> None:
    corpus = [sentence.words for sentence in sample(1, 3_000)]
    annotated = generate_annotated((900, 300, 900), sentences=3_000, seed=1)
    parts = [[sentence.words for sentence in part] for part in annotated]
    assert [len(part) for part in parts] == [900, 300, 900]
    together = [words for part in parts for words in part]
    assert len(set(together)) == len(together)
    assert not set(together) & set(corpus)
    goes_on = {sentence.words for sentence in generate(6_000, seed=1)}
    assert len(goes_on) < 6_000  # so the promise is not empty: the grammar does repeat itself
    assert set(together) <= goes_on


def test_a_part_does_not_depend_on_the_parts_after_it() -> None:
    one, other = (generate_annotated(sizes, sentences=100, seed=2) for sizes in ((50, 20, 30), (50, 40)))
    assert one[0] == other[0] and one[1] == other[1][:20]


def test_negatives_are_sentences_of_unrelated_entities_that_stand_nowhere_else() -> None:
    *parts, negatives = generate_annotated((300, 100), sentences=500, seed=2, negatives=200)
    assert parts == generate_annotated((300, 100), sentences=500, seed=2)
    assert len(negatives) == 200
    assert all(len(one.entities) > 1 and not one.relations for one in negatives)
    before = {one.words for part in (*parts, sample(2, 500)) for one in part}
    assert len({one.words for one in negatives} - before) == 200


def test_annotated_sentences_are_read_back_as_they_were_told(tmp_path: Path) -> None:
    (part,) = generate_annotated((40,), sentences=10, seed=3)
    write_annotated(tmp_path / "train.jsonl", part)
    sentences, report = read_annotated(tmp_path / "train.jsonl")
    assert report.format == "unified"
    for read, told in zip(sentences, part, strict=True):
        assert read.words == told.words
        assert [(e.word_start, e.word_end, e.type) for e in read.entities] == [
            (e.start, e.end, e.type) for e in told.entities
        ]
        assert [(r.head, r.tail, r.type) for r in read.relations] == [(r.head, r.tail, r.type) for r in told.relations]


def test_types_that_only_the_context_tells_apart() -> None:
    """Of pairs of the same two types, some are in one relation, some in another and some in none."""
    found = defaultdict(Counter)
    for sentence in sample():
        related = {(r.head, r.tail): r.type for r in sentence.relations}
        for head, one in enumerate(sentence.entities):
            for tail, other in enumerate(sentence.entities):
                if head != tail:
                    found[one.type, other.type][related.get((head, tail), "none")] += 1
    for types, relations in {
        ("Person", "Place"): {"born_in", "lives_in"},
        ("Person", "Organisation"): {"works_for", "studied_at"},
        ("Place", "Place"): {"located_in", "part_of", "capital_of"},
    }.items():
        assert set(found[types]) == relations | {"none"}
        assert all(count >= 200 for count in found[types].values())
