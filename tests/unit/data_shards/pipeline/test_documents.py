"""Builds of documents in this process; tests/integration/test_build.py builds them by Ray."""

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from data_shards.annotated.read import read_documents
from data_shards.errors import UserError
from data_shards.pipeline.build_config import BuildConfig
from data_shards.sample.documents import write_documents
from data_shards.shards.reader import ShardReader, verify
from data_shards.shards.record import BLOCKED, UNLINKED, Records
from data_shards.shards.record_words import RecordWords
from launcher.shards import main
from tests.unit.data_shards.conftest import DEBUG_VOCAB, build_here
from tests.unit.data_shards.entity_pipelines import write_ruler

LIMITS: dict[str, Any] = {"documents": True, "min_words": 20, "unit_documents": 25, "block_records": 16}


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gold documents, the same as text with a knowledge base, and others to exclude."""
    folder = tmp_path_factory.mktemp("sample")
    write_documents(folder, documents=80, seed=2, annotated={"test": 40})
    return folder


def settings(sample: Path, out: Path, name: str, **options: Any) -> BuildConfig:
    return BuildConfig((str(sample / name),), out, DEBUG_VOCAB, **LIMITS | options)


def built(config: BuildConfig) -> ShardReader:
    build_here(config)
    assert verify(config.out) == []
    return ShardReader(config.out)


def everything(reader: ShardReader) -> Records:
    return reader.take(range(len(reader)))


def rows(records: Records, layer: str) -> list[list[Any]]:
    return [records.layers[layer].row(number).tolist() for number in range(len(records))]


def facts(reader: ShardReader) -> list[set[tuple[int, int, str]]]:
    """The facts of each record, with codes of relations; None for blocked pairs."""
    codes = [*reader.manifest.relation_types]
    return [
        {(head, tail, "blocked" if relation == BLOCKED else codes[relation]) for head, tail, relation in record}
        for record in rows(everything(reader), "relations")
    ]


def uncased(name: str) -> str:
    """A name as the tokenizer of these tests leaves it."""
    return unicodedata.normalize("NFD", name.lower()).encode("ascii", "ignore").decode()


def words_of(reader: ShardReader, records: Records) -> list[list[str]]:
    return RecordWords(Tokenizer.from_file(str(reader.tokenizer_folder() / "tokenizer.json"))).words(records)


@pytest.fixture(scope="session")
def gold(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    return built(settings(sample, tmp_path_factory.mktemp("gold") / "out", "documents.json"))


@pytest.fixture(scope="session")
def linked(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    return built(settings(sample, tmp_path_factory.mktemp("linked") / "out", "text.jsonl", kb=sample / "kb"))


def test_names_of_a_knowledge_base_in_text_give_the_gold_documents(gold: ShardReader, linked: ShardReader) -> None:
    one, other = everything(gold), everything(linked)
    assert len(one) > 70
    for layer in ("pieces", "words", "sentence_starts", "mention_entities"):
        assert rows(one, layer) == rows(other, layer)
    places = [[mention[:2] for mention in record] for record in rows(one, "entities")]
    assert places == [[mention[:2] for mention in record] for record in rows(other, "entities")]
    assert facts(gold) == facts(linked)
    assert {number for record in rows(one, "knowledge_ids") for number in record} == {UNLINKED}
    assert UNLINKED not in {number for record in rows(other, "knowledge_ids") for number in record}


def test_the_manifest_tells_relations_and_what_was_found(gold: ShardReader, linked: ShardReader, sample: Path) -> None:
    names = json.loads((sample / "rel_info.json").read_text())
    counts = gold.manifest.statistics
    stored = [relation for record in rows(everything(gold), "relations") for _, _, relation in record]
    for number, (code, relation) in enumerate(gold.manifest.relation_types.items()):
        assert relation.name == names[code] and relation.facts == stored.count(number)
    assert gold.manifest.build["documents"] == {
        "min_words": 20, "min_entities": 4, "min_facts": 4, "max_entities": 64, "max_facts": 60, "rules": 1,
        "from": {"gold_relations": list(gold.manifest.relation_types)}, "excluded_facts": None,
    }  # fmt: skip
    assert gold.manifest.build["entities"]["min_entities"] == 4
    assert counts.found["records"] == len(gold) + sum(counts.dropped.values())
    assert counts.further["relations"] == len(stored) and counts.documents == 80
    assert linked.manifest.statistics.found["linked_mentions"] == counts.found["mentions"]
    source = linked.manifest.build["documents"]["from"]
    assert source["names"] > source["entities"] and source["facts"] > 5000 and source["keep_unlinked"] is False
    assert set(linked.manifest.relation_types) >= set(gold.manifest.relation_types)


@pytest.mark.parametrize("name", ["documents.json", "text.jsonl"])
def test_no_pair_of_evaluation_data_is_related_or_unrelated(sample: Path, tmp_path: Path, name: str) -> None:
    kb = {} if name == "documents.json" else {"kb": sample / "kb"}
    options = {"exclude_facts": (str(sample / "test.json"),), "min_facts": 1, "max_facts": 500, **kb}
    blocked = built(settings(sample, tmp_path / "blocked", name, **options))
    excluded = set(excluded_names(sample / "test.json"))
    plain = built(settings(sample, tmp_path / "plain", name, **options | {"exclude_facts": ()}))
    records, counts = everything(blocked), blocked.manifest.statistics
    words = words_of(blocked, records)
    found = 0
    known = {tuple(pieces): own for pieces, own in zip(rows(everything(plain), "pieces"), facts(plain), strict=True)}
    for number, own in enumerate(facts(blocked)):
        names: dict[int, set[str]] = {}
        mentions = zip(records.entities.row(number).tolist(), rows(records, "mention_entities")[number], strict=True)
        for (start, end, _), entity in mentions:
            names.setdefault(entity, set()).add(uncased("".join(words[number][start:end])))
        expected = {
            pair
            for pair in permutations(names, 2)
            if any((a, b) in excluded for a in names[pair[0]] for b in names[pair[1]])
        }
        assert {(head, tail) for head, tail, relation in own if relation == "blocked"} == expected
        before = known[tuple(records.pieces.row(number).tolist())]
        assert {fact for fact in own if fact[2] != "blocked"} == {fact for fact in before if fact[:2] not in expected}
        found += len(expected)
    assert found > 50 and counts.found["blocked_pairs"] >= found
    assert counts.found["records_without_blocking"] == len(plain)


def excluded_names(path: Path) -> Iterator[tuple[str, str]]:
    """The pairs of names of a file, in both orders."""
    documents, _ = read_documents(path)
    for document in documents:
        assert document.words is not None
        named = [
            (one.entity, uncased("".join(document.words[one.sentence][one.start : one.end])))
            for one in document.mentions
        ]
        for fact in document.facts:
            for one, name in named:
                for other, other_name in named:
                    if (one, other) in ((fact.head, fact.tail), (fact.tail, fact.head)):
                        yield name, other_name


def test_a_pipeline_must_find_entities_too_and_its_others_can_be_kept(
    linked: ShardReader, sample: Path, tmp_path: Path
) -> None:
    """It knows half of the names, and `said`, which no knowledge base does."""
    names = [line.split("\t")[1] for line in (sample / "kb" / "names.tsv").read_text().splitlines()]
    ner = write_ruler(tmp_path / "ner", {"Half": names[::2], "Verb": ["was", "is"]}, lowercase=False)
    options = {"kb": sample / "kb", "ner": ner, "min_entities": 2, "min_facts": 0, "max_facts": 500}
    both = built(settings(sample, tmp_path / "both", "text.jsonl", **options))
    more = built(settings(sample, tmp_path / "more", "text.jsonl", **options, unlinked=True))
    found = both.manifest.statistics.found
    assert found["linked_mentions"] + found["linked_mentions_not_named"] == linked.manifest.statistics.found["mentions"]
    assert list(both.manifest.entity_types) == ["Half", "Verb"] and both.manifest.entity_types["Verb"] == 0
    assert more.manifest.entity_types["Verb"] > 0
    records = everything(more)
    words = words_of(more, records)
    for number in range(len(records)):
        ids, verbs = rows(records, "knowledge_ids")[number], {}
        mentions = zip(records.entities.row(number).tolist(), rows(records, "mention_entities")[number], strict=True)
        for (start, end, type), entity in mentions:
            assert (ids[entity] == UNLINKED) == (type == 1)
            if type == 1:
                verbs.setdefault(" ".join(words[number][start:end]), set()).add(entity)
        assert all(len(entities) == 1 for entities in verbs.values())  # the same words, the same entity
        assert not any(
            ids[end] == UNLINKED for row in records.layers["relations"].row(number).tolist() for end in row[:2]
        )


def test_lines_of_text_are_documents(sample: Path, linked: ShardReader, tmp_path: Path) -> None:
    lines = [json.loads(line)["text"] for line in (sample / "text.jsonl").read_text().splitlines()]
    (sample / "lines.txt").write_text("\n".join(lines) + "\n")
    of_lines = built(settings(sample, tmp_path / "out", "lines.txt", kb=sample / "kb"))
    assert rows(everything(of_lines), "relations") == rows(everything(linked), "relations")


def test_sizes_of_units_do_not_change_records(gold: ShardReader, sample: Path, tmp_path: Path) -> None:
    other = built(settings(sample, tmp_path / "out", "documents.json", unit_documents=7))
    assert other.manifest.statistics == gold.manifest.statistics
    for layer in everything(gold).layers:
        assert rows(everything(other), layer) == rows(everything(gold), layer)


def test_documents_are_described(linked: ShardReader, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", str(linked.location), "--record", "3"])
    shown = capsys.readouterr().out
    assert "record 3: " in shown and "entity 0 (entity, " in shown and " in the knowledge base): " in shown
    assert "  fact     " in shown and " → " in shown and "(sentence 0, word " in shown
    main(["info", str(linked.location)])
    told = capsys.readouterr().out
    assert " mentions: " in told and "  blocked   0 pairs" in told and " linked mentions" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"documents": False, "min_facts": 3}, "--min-facts is about documents: add --documents"),
        ({"documents": False, "exclude_facts": ("a",)}, "--exclude-facts is about documents"),
        ({"documents": False, "kb": Path("kb")}, "--kb is about documents"),
        ({"max_words": 9}, "--max-words has no effect with --documents: leave it out"),
        ({"gold_entities": True}, "--gold-entities has no effect with --documents"),
        ({"ner": "x"}, "--ner has no effect with --documents: add --kb FOLDER"),
        ({"unlinked": True, "kb": Path("kb")}, "--unlinked keeps entities that --ner finds"),
        ({"min_entities": 9, "max_entities": 8}, r"max_entities \(8\) must not be below min_entities \(9\)"),
        ({"min_facts": -1}, "min_facts must not be negative"),
        ({"offsets": "utf16", "kb": Path("kb")}, "needs entities in the input"),
    ],
)
def test_settings_that_contradict_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BuildConfig(("a.jsonl",), tmp_path, "t", **{"documents": True} | options)


def test_what_cannot_be_built_is_said_in_a_line(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no record of a document was kept \(dropped: .*too_few_words"):
        build_here(settings(sample, tmp_path / "1", "documents.json", min_words=400))
    with pytest.raises(UserError, match="is not a knowledge base, it lacks names"):
        build_here(settings(sample, tmp_path / "2", "text.jsonl", kb=tmp_path))
    with pytest.raises(UserError, match=r"no relations between entities in text.*--kb FOLDER finds them in plain text"):
        build_here(settings(sample, tmp_path / "3", "text.jsonl"))
    (tmp_path / "none.json").write_text(json.dumps({"sents": [["a"]], "vertexSet": [], "labels": []}))
    with pytest.raises(UserError, match=r"no relations between entities in none\.json"):
        build_here(replace(settings(sample, tmp_path / "4", "x"), inputs=(str(tmp_path / "none.json"),)))
    with pytest.raises(UserError, match="no such file"):
        build_here(settings(sample, tmp_path / "5", "documents.json", exclude_facts=("nowhere.json",)))
