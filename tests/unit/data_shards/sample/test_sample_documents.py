"""The documents of the embedded corpus: what the gold says, and that names alone tell it."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from data_shards.annotated.read import read_documents
from data_shards.sample.documents import SampleDocument, facts_of_world, generate_documents, write_documents
from data_shards.sample.world import build_world
from data_shards.text.sentences import split_sentences
from data_shards.text.word_rules import WordRules

pytestmark = pytest.mark.any_version

YEAR = "Year"


@cache
def sample(seed: int = 1, documents: int = 1_000) -> Sequence[SampleDocument]:
    return tuple(generate_documents(documents, seed=seed))


@cache
def written(folder: Path) -> Path:
    write_documents(folder, documents=300, seed=1, annotated={"train": 20, "dev": 0, "test": 30})
    return folder


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def sentences_of(vertex: list[dict]) -> set[int]:
    return {mention["sent_id"] for mention in vertex}


def test_same_seed_same_documents_and_a_longer_run_starts_like_a_shorter_one() -> None:
    assert (
        sample()[:100] == tuple(generate_documents(100, seed=1)) == tuple(islice(generate_documents(999, seed=1), 100))
    )
    assert sample()[:100] != tuple(generate_documents(100, seed=2))


def test_documents_are_dense() -> None:
    """Averages that a run on them needs: entities, facts, and pairs that no sentence tells by itself."""
    documents = [document.as_docred() for document in sample()]
    facts, entities = (sum(len(one[key]) for one in documents) / len(documents) for key in ("labels", "vertexSet"))
    pairs = [
        (one["vertexSet"], pair) for one in documents for pair in {(fact["h"], fact["t"]) for fact in one["labels"]}
    ]
    across = sum(not sentences_of(vertices[head]) & sentences_of(vertices[tail]) for vertices, (head, tail) in pairs)
    assert facts >= 12 and entities >= 8 and across >= 0.4 * len(pairs)
    relations = Counter(fact["r"] for one in documents for fact in one["labels"])
    assert len(relations) == 11 and min(relations.values()) >= 100
    assert sum(bool(fact["evidence"]) for one in documents for fact in one["labels"]) < 0.5 * sum(relations.values())


def test_sentences_keep_to_few_things() -> None:
    for document in sample():
        assert 7 <= len(document.sentences) <= 9
        assert 60 <= sum(len(sentence.words) for sentence in document.sentences) <= 9 * 30


def test_facts_are_all_of_the_world_between_the_entities() -> None:
    owners = {(thing.id, fact): other.id for pool in build_world().values() for thing in pool
              for fact, other in thing.facts.items()}  # fmt: skip
    for document in sample()[:200]:
        order = dict.fromkeys(e.id for sentence in document.sentences for e in sentence.entities if e.type != YEAR)
        numbers = {id: number for number, id in enumerate(order)}
        told = {(numbers[owner], numbers[other], fact) for (owner, fact), other in owners.items()
                if owner in numbers and other in numbers}  # fmt: skip
        labels = document.as_docred()["labels"]
        assert len({(fact["h"], fact["t"], fact["r"]) for fact in labels}) == len(labels) == len(told)
        assert all(fact["h"] != fact["t"] for fact in labels)
        either_way = Counter(frozenset(fact[:2]) for fact in told)
        assert either_way == Counter(frozenset((fact["h"], fact["t"])) for fact in labels)


def test_evidence_is_where_a_fact_is_stated() -> None:
    stated = 0
    for document in sample()[:200]:
        one = document.as_docred()
        for fact in one["labels"]:
            for number in fact["evidence"]:
                assert number in sentences_of(one["vertexSet"][fact["h"]]) & sentences_of(one["vertexSet"][fact["t"]])
                stated += fact["r"] != "married_to" or fact["h"] < fact["t"]
        relations = [r.type for sentence in document.sentences for r in sentence.relations]
        stated -= sum(not relation.endswith("_year") for relation in relations)
    assert stated == 0


def test_a_surname_alone_only_after_the_name() -> None:
    surnames = 0
    for document in sample():
        for vertex in document.as_docred()["vertexSet"]:
            first, *others = (mention["name"] for mention in vertex)
            if vertex[0]["type"] == "Person":
                assert len(first.split()) == 2 and set(others) <= {first, first.split()[1]}
                surnames += sum(other != first for other in others)
            else:
                assert set(others) <= {first}
    assert surnames > 1_000


def test_the_text_has_these_sentences_and_words() -> None:
    rules = WordRules("en")
    for document in sample():
        assert split_sentences(document.text) == [sentence.text for sentence in document.sentences]
        told = [word for sentence in document.sentences for word in sentence.words]
        assert [document.text[start:end] for start, end in rules.locate_words(document.text)] == told


def longest_matches(words: Sequence[str], names: dict[tuple[str, ...], str]) -> Iterator[tuple[int, int, str]]:
    start = 0
    while start < len(words):
        ends = [end for end in range(start + 8, start, -1) if tuple(words[start:end]) in names]
        if ends:
            yield start, ends[0], names[tuple(words[start : ends[0]])]
        start = ends[0] if ends else start + 1


def test_names_tell_what_is_mentioned(tmp_path: Path) -> None:
    """No name is that of two things, and none stands where nothing is mentioned: longest matches are the mentions."""
    names: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for id, *names_of_one in rows(written(tmp_path) / "kb" / "names.tsv"):
        for name in names_of_one:
            assert any(letter.isupper() for letter in name) and len(name) >= 3
            names[tuple(name.split())].add(id)
    assert all(len(ids) == 1 for ids in names.values())
    one_of = {name: id for name, (id,) in names.items()}
    for document in sample():
        words, mentions = list[str](), list[tuple[int, int, str]]()
        for sentence in document.sentences:
            begin, told = len(words), [(e.start, e.end, e.id) for e in sentence.entities if e.type != YEAR]
            assert list(longest_matches(sentence.words, one_of)) == told
            mentions += [(begin + start, begin + end, id) for start, end, id in told]
            words += sentence.words
        assert list(longest_matches(words, one_of)) == mentions


def test_files_of_documents(tmp_path: Path) -> None:
    folder = written(tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        "documents.json", "rel_info.json", "text.jsonl", "train.json", "test.json", "kb"
    }  # fmt: skip
    told = sample(1, 350)
    gold, train, test = (json.loads((folder / f"{name}.json").read_bytes()) for name in ("documents", "train", "test"))
    texts = [json.loads(line) for line in (folder / "text.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [one["title"] for one in (*gold, *train, *test)] == [document.title for document in told]
    assert texts == [{"title": document.title, "text": document.text} for document in told[:300]]
    names = json.loads((folder / "rel_info.json").read_bytes())
    assert names["head_office_in"] == "head office in" and len(names) == 11
    assert rows(folder / "kb" / "relations.tsv") == [[code, name] for code, name in names.items()]
    triples = rows(folder / "kb" / "triples.tsv")
    assert sorted(triples) == sorted([h, r, t] for (h, t), relations in facts_of_world().items() for r in relations)
    assert {end for head, _, tail in triples for end in (head, tail)} <= {
        row[0] for row in rows(folder / "kb" / "names.tsv")
    }


def test_gold_is_read_back_as_it_was_told(tmp_path: Path) -> None:
    folder = written(tmp_path)
    names = json.loads((folder / "rel_info.json").read_bytes())
    documents, report = read_documents(folder / "documents.json")
    assert report.format == "docred"
    for read, document in zip(documents, sample(), strict=False):
        one = document.as_docred()
        assert read.words == tuple(sentence.words for sentence in document.sentences)
        assert Counter((m.sentence, m.start, m.end, m.type, m.entity) for m in read.mentions) == Counter(
            (m["sent_id"], *m["pos"], m["type"], number)
            for number, vertex in enumerate(one["vertexSet"])
            for m in vertex
        )
        assert [(f.head, f.tail, f.type, list(f.evidence)) for f in read.facts] == [
            (fact["h"], fact["t"], names[fact["r"]], fact["evidence"]) for fact in one["labels"]
        ]


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = written(tmp_path / "one"), written(tmp_path / "other")
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert len(files) == 8 and all((one / path).read_bytes() == (other / path).read_bytes() for path in files)
