import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from data_shards.errors import UserError
from data_shards.knowledge.audit import Precision, SampledFact, read_judgements, sample_facts, write_sample
from data_shards.shards.manifest import RelationType
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import BLOCKED, UNLINKED
from data_shards.shards.record_words import RecordWords
from launcher.audit import precision_json, precision_text
from launcher.cli import dispatch
from tests.unit.data_shards.knowledge.knowledge_bases import load_kb, write_kb
from tests.unit.spe_dist.random_documents import RELATIONS, write_documents

pytestmark = pytest.mark.any_version


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    folder = tmp_path_factory.mktemp("audit") / "documents"
    write_documents(folder, most_words=24)
    return ShardReader(folder)


def all_facts(reader: ShardReader) -> list[tuple[int, int, int]]:
    """(record, number in the record, relation) of every fact, by a loop."""
    records = reader.take(range(len(reader)))
    return [
        (record, fact, relation)
        for record in range(len(records))
        for fact, (_, _, relation) in enumerate(records.layers["relations"].row(record).tolist())
        if relation != BLOCKED
    ]


def test_a_sample_has_as_many_facts_of_each_relation_as_there_are(reader: ShardReader) -> None:
    there = Counter(relation for _, _, relation in all_facts(reader))
    for count in (1, 7, 10_000):
        sample = list(sample_facts(reader, count))
        assert [one.code for one in sample] == sorted(one.code for one in sample)
        assert Counter(one.code for one in sample) == {f"R{n}": min(count, there[n]) for n in range(RELATIONS)}
        assert len({(one.record, one.fact) for one in sample}) == len(sample)
    assert (
        list(sample_facts(reader, 7, seed=1)) == list(sample_facts(reader, 7, seed=1)) != list(sample_facts(reader, 7))
    )


def test_facts_are_drawn_from_all_records(reader: ShardReader) -> None:
    drawn = Counter(
        (int(one.record), int(one.fact)) for seed in range(150) for one in sample_facts(reader, 3, seed=seed)
    )
    facts = [(record, fact) for record, fact, relation in all_facts(reader)]
    expected = 150 * 3 * RELATIONS / len(facts)
    assert set(drawn) <= set(facts)
    halves = np.array([drawn[fact] for fact in facts])
    assert abs(halves[: len(facts) // 2].mean() - expected) < 0.2 * expected


def test_a_sampled_fact_is_what_the_record_says(reader: ShardReader, tmp_path: Path) -> None:
    kb = load_kb(tmp_path / "kb", {f"Q{n}": (f"N{n}",) for n in range(30)})
    words = RecordWords(Tokenizer.from_file(str(reader.tokenizer_folder() / "tokenizer.json")))
    checked = 0
    for one in sample_facts(reader, 20, kb=kb):
        record = reader.take([int(one.record)])
        bounds = record.layers["sentence_starts"].row(0)
        if ((bounds > record.entities.row(0)[:, :1]) & (bounds < record.entities.row(0)[:, 1:2])).any():
            continue  # these random sentences may end within a mention
        checked += 1
        (text,) = words.words(record)
        head, tail, relation = record.layers["relations"].row(0)[int(one.fact)].tolist()
        assert one.code == f"R{relation}"
        mentions, entities = record.entities.row(0).tolist(), record.layers["mention_entities"].row(0).tolist()
        names = {"head": set(), "tail": set()}
        for (start, end, _), entity in zip(mentions, entities, strict=True):
            for kind, number in (("head", head), ("tail", tail)):
                if entity == number:
                    names[kind].add(" ".join(text[start:end]))
        for kind in ("head", "tail"):
            found = re.findall(f"<{kind}>(.*?)</{kind}>", one.text)
            assert found
            assert set(found) <= names[kind]
            assert getattr(one, kind) in names[kind]
        plain = re.sub("</?(head|tail)>", "", one.text)
        assert all(part in " ".join(text) for part in plain.split(" … "))
        ids = record.layers["knowledge_ids"].row(0)
        assert (one.head_id, one.tail_id) == tuple("" if ids[n] == UNLINKED else f"Q{ids[n]}" for n in (head, tail))
    assert checked > 20


def sampled(right: str, code: str = "R1", text: str = 'a "b" = c') -> SampledFact:
    return SampledFact(right, "mayor of", "a", "b", text, code, "Q1", "", "3", "0")


@pytest.mark.parametrize("name", ["facts.tsv", "facts.jsonl"])
def test_judgements_are_counted_by_relation(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / name
    facts = [*map(sampled, ("yes", "no", "", "Y", "1")), sampled("no", "R2")]
    assert write_sample(facts, path) == 6
    assert read_judgements(path) == {"R1": Precision(3, 4), "R2": Precision(0, 1)}


def test_a_table_goes_to_a_spreadsheet_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    write_sample([sampled("yes"), sampled("no")], path)
    rows = list(csv.reader(path.open(newline=""), delimiter="\t"))
    assert rows[1][4] == 'a "b" = c'
    saved = [[*row[5:], row[0].upper(), "a note"] for row in rows[1:]]  # other columns, in another order
    lines = [[*rows[0][5:], "right", "notes"], *saved]
    path.write_text("".join("\t".join(line) + "\r\n" for line in lines), encoding="utf-8-sig")
    assert read_judgements(path) == {"R1": Precision(1, 2)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "right\tcode\nperhaps\tR1\n", "a.tsv:2: right is 'perhaps': write yes or no"),
        ("a.tsv", "right\tcode\n\tR1\n", "a.tsv: no fact is judged"),
        ("a.tsv", "wrong\tcode\nyes\tR1\n", "a.tsv:2: no columns 'right' and 'code'"),
        ("a.tsv", b"\xff\xfe", "a.tsv: cannot be read as a table"),
        ("a.jsonl", '{"right": "yes"}\n', "a.jsonl:1: no columns 'right' and 'code'"),
        ("a.txt", "", "a.txt: name a file that ends in .tsv"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=re.escape(message)):
        read_judgements(tmp_path / name)


@pytest.mark.parametrize(
    ("right", "judged", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 5, 0.0, 0.4345), (5, 5, 0.5655, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_wilson_intervals_are_those_of_tables(right: int, judged: int, low: float, high: float) -> None:
    assert Precision(right, judged).interval == pytest.approx((low, high), abs=1e-4)


def test_a_relation_counts_by_its_facts_not_by_how_many_were_judged() -> None:
    judged = {"A": Precision(1, 2), "B": Precision(9, 9)}
    relations = {"A": RelationType("a", 3), "B": RelationType("b", 1)}
    assert precision_json(judged, relations)["weighted_precision"] == (3 * 0.5 + 1 * 1.0) / 4
    assert precision_text(judged, relations).endswith("62.5%")


def test_the_command_samples_and_sums_up(reader: ShardReader, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "facts.jsonl"
    dispatch(["shards", "audit", str(reader.location), "--out", str(out), "--per-relation", "4", "--seed", "2"])
    assert f"{out}: 24 facts" in capsys.readouterr().out
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    judged = [row | {"right": "no" if number % 4 else "yes"} for number, row in enumerate(rows)]
    out.write_text("".join(json.dumps(row) + "\n" for row in judged))
    dispatch(["shards", "audit", str(reader.location), "--judged", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["born", "in", "R0", "1", "4", "1", "25.0%", "4.6%", "to", "69.9%"]
    assert lines[-3].split() == ["all", "judged", "6", "24", "6", "25.0%", "12.0%", "to", "44.9%"]
    assert lines[-1].endswith("25.0%")
    dispatch(["shards", "audit", str(reader.location), "--judged", str(out), "--json"])
    found = json.loads(capsys.readouterr().out)
    of_relation = found["relations"]["R0"]
    assert [of_relation[name] for name in ("name", "facts", "right", "judged")] == ["born in", 1, 1, 4]
    assert of_relation["interval"] == pytest.approx([0.046, 0.699], abs=1e-3) and found["weighted_precision"] == 0.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to do: --out FILE writes a sample, --judged FILE"),
        (["--out", "a.tsv", "--judged", "a.tsv"], "say what to do"),
        (["--out", "a.tsv", "--per-relation", "0"], "--per-relation 0: must be at least 1"),
        (["--out", "a.tsv", "--json"], "--json is for what judged facts show: give --judged FILE"),
        (["--out", "a.tsv", "--kb", "{kb}"], "has 2 entities, but the documents name number"),
    ],
)
def test_wrong_arguments(reader: ShardReader, tmp_path: Path, arguments: list[str], message: str) -> None:
    kb = write_kb(tmp_path / "kb", {"a": (), "b": ()})
    with pytest.raises(UserError, match=re.escape(message)):
        dispatch(["shards", "audit", str(reader.location), *(one.format(kb=kb) for one in arguments)])
