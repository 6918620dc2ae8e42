import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from data_shards.errors import UserError
from data_shards.pipeline.build import BuildSummary
from data_shards.ragged import Ragged
from data_shards.shards.manifest import Manifest, Shard, Statistics, TokenizerInfo
from data_shards.shards.record_words import RecordWords
from data_shards.text.word_pieces import WordPieces
from data_shards.tokenizer.files import SpecialIds
from launcher.shards import layer_lines, main, summary_text
from tests.unit.spe_dist.tiny_run import write_dataset


def summary(workers: int, reused: int) -> BuildSummary:
    tokenizer = TokenizerInfo("tokenizer", {}, "a", 100, True, SpecialIds(1, 2, 3, 4, 5))
    counts = Statistics(10, 110, 100, 2000, 2500, {"too_few_words": 10}, 1)
    shard = Shard("a.tar", 1, 6000, 100, 2000, 2500, "b")
    manifest = Manifest("x", (shard,), ("pieces", "words"), 2048, 128, tokenizer, {}, counts)
    return BuildSummary(manifest, 5.0, workers, 4, reused)


def test_summary_says_what_came_out_and_how_fast() -> None:
    text = summary_text(summary(2, 0), Path("out"))
    for part in (
        "100 records in 1 shard, ",
        "20.0 words, 25.0 pieces, 60.0 bytes",
        "lower-cased",
        "10 with too few words",
    ):
        assert part in text
    assert "11 sentences/s and 200 words/s a core" in text
    assert "finished before: 3 of 4 units" in summary_text(summary(2, 3), Path("out"))
    assert "already built" in summary_text(summary(0, 0), Path("out"))


def test_summary_shows_what_spoils_a_corpus() -> None:
    plain = summary(2, 0)
    assert "unknown   0.00% of the pieces" in summary_text(plain, Path("out"))
    assert "warning" not in summary_text(plain, Path("out")) and "times" not in summary_text(plain, Path("out"))
    counts = replace(
        plain.manifest.statistics,
        dropped={"headings": 2870, "too_few_words": 3},
        unknown_pieces=26,  # of 2,500
        repeated={"See also the other page.": 1200, "a\x1b[31m" + "b" * 200: 70, "c": 3, "d": 2},
    )
    text = summary_text(replace(plain, manifest=replace(plain.manifest, statistics=counts)), Path("out"))
    assert "dropped 2,870 section headings, 3 with too few words" in text
    assert "warning: 1.0% of the pieces are unknown: use a tokenizer whose vocabulary covers" in text
    assert "  repeated  1,200 times or more: See also the other page.\n" in text
    assert "\x1b" not in text and "b" * 80 not in text and "3 times or more: c" in text and "2 times" not in text


def test_a_sample_becomes_a_vocabulary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, vocabulary = tmp_path / "c.jsonl", tmp_path / "v" / "vocab.txt"
    main(["sample-corpus", "--sentences", "50", "--seed", "2", "--out", str(corpus)])
    main(["train-vocab", str(corpus), "--size", "200", "--out", str(vocabulary)])
    assert "50 sentences" in capsys.readouterr().out
    assert vocabulary.read_text().split("\n")[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_a_sample_of_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sample-corpus", "--documents", "5", "--annotated", "3", "--out", str(tmp_path)])
    assert "5 documents in text.jsonl and documents.json, 3 in train.json, 2 in dev.json" in capsys.readouterr().out
    assert len((tmp_path / "text.jsonl").read_text().splitlines()) == 5
    with pytest.raises(UserError, match="--negatives are sentences"):
        main(["sample-corpus", "--documents", "5", "--negatives", "3", "--out", str(tmp_path)])


def test_problems_of_files_are_a_list_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "x")
    main(["verify", str(tmp_path / "x"), "--json"])
    assert json.loads(capsys.readouterr().out) == []
    (shard, *_) = (tmp_path / "x").glob("*.tar")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="x: 1 problem; copy or build the dataset again"):
        main(["verify", str(tmp_path / "x"), "--json"])
    (problem,) = json.loads(capsys.readouterr().out)
    assert shard.name in problem


def test_mistakes_rise_as_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        main(["verify", str(tmp_path / "missing")])
    with pytest.raises(UserError, match="no input"):
        main(["build", "--out", str(tmp_path / "out"), "--tokenizer", "x"])
    with pytest.raises(UserError, match="max_words"):
        main(["build", "a.txt", "--out", str(tmp_path / "out"), "--tokenizer", "x", "--max-words", "1"])
    with pytest.raises(UserError, match="no such folder"):
        main(["annotate", str(tmp_path / "missing"), "--out", str(tmp_path / "out"), "--ner", "x"])
    with pytest.raises(UserError, match="not from both"):
        main(["build", "a.txt", "--out", str(tmp_path), "--tokenizer", "x", "--ner", "x", "--gold-entities"])


def test_summary_of_a_dataset_with_entities() -> None:
    built = summary(2, 0)
    counts = replace(
        built.manifest.statistics, entities=250, dropped={"too_few_entities": 900}, entity_changes={"widened": 3}
    )
    manifest = replace(
        built.manifest, layers=("pieces", "words", "entities"), statistics=counts, entity_types={"A": 50, "B": 200}
    )
    text = summary_text(replace(built, manifest=manifest), Path("out"))
    assert "250, 2.50 a record: 200 B, 50 A" in text
    assert "not as they were listed: 3 widened" in text
    assert "100 records/s a core" in text and "words/s" not in text


def test_entities_of_a_record_are_shown_in_words(tmp_path: Path) -> None:
    main(["sample-corpus", "--sentences", "50", "--out", str(tmp_path / "c.jsonl")])
    main(["train-vocab", str(tmp_path / "c.jsonl"), "--size", "200", "--out", str(tmp_path / "vocab.txt")])
    word_pieces = WordPieces.load(str(tmp_path / "vocab.txt"))
    word_pieces.save(tmp_path)
    words = RecordWords(Tokenizer.from_file(str(tmp_path / "tokenizer.json")))
    records = word_pieces.encode_sentences(["Then Norbury was in old Talavia .", "no"])
    assert list(layer_lines(records, words, ("Place",))) == []
    entities = Ragged.from_lengths(np.array([[1, 2, 0], [4, 6, 1]]), np.array([2, 0]))
    records = records.with_layer("entities", entities)
    assert list(layer_lines(records, words, ("Place", "Land"))) == [
        "  entity   Place: norbury (words 1 to 1)",
        "  entity   Land: old talavia (words 4 to 5)",
    ]
