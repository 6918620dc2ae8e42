"""Training a pipeline on a tiny scale."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_shards.errors import UserError
from data_shards.ner_pipeline import NerPipeline
from data_shards.ner_training import NerTrainingConfig, _read_parts, train_ner

NAMES = ["Ada", "Bell", "Cara", "Zoë"]
TOWNS = ["Oslo", "Rome", "Ankara", "Lima"]


def write_bio(path: Path, sentences: int, *, shift: int = 0) -> str:
    lines = []
    for number in range(shift, shift + sentences):
        rows = [(NAMES[number % 4], "B-PER"), ("Smith", "I-PER"), ("lives", "O"), ("in", "O")]
        rows += [(TOWNS[number // 4 % 4], "B-LOC"), (",", "O"), (str(number), "O"), (".", "O")]
        lines += [f"{word} {tag}" for word, tag in rows] + [""]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def config(tmp_path: Path) -> NerTrainingConfig:
    small = {"epochs": 6, "batch_sentences": 8, "width": 16, "depth": 1}
    return NerTrainingConfig((write_bio(tmp_path / "a.bio", 160),), tmp_path / "ner", lowercase=True, **small)


def test_learns_the_same_twice_and_writes_its_scores(config: NerTrainingConfig, tmp_path: Path) -> None:
    lines: list[str] = []
    result = train_ner(config, lines.append)
    assert result.sentences == {"dev": 16, "test": 16, "train": 128}
    assert len(lines) == 6 and "epoch 6 of 6" in lines[-1]
    assert result.test.overall.f1 > 0.9 and result.test.by_type["PER"].entities == 16
    again = train_ner(replace(config, out=tmp_path / "again"))
    one, two = (NerPipeline(str(folder)) for folder in (config.out, tmp_path / "again"))
    assert one.info.sha256 == two.info.sha256
    scores = json.loads((config.out / "scores.json").read_text())
    assert scores["test"]["overall"]["f1"] == again.test.overall.f1 == result.test.overall.f1
    assert scores["best_epoch"] == result.best_epoch and str(tmp_path) not in json.dumps(scores)
    found = one.find([["zoe", "smith", "lives", "in", "lima", "."]])
    assert found.row(0).tolist() == [[0, 2, one.info.types.index("PER")], [4, 5, one.info.types.index("LOC")]]
    with pytest.raises(UserError, match="is there already"):
        train_ner(config)


def test_parts_share_no_sentence_and_are_as_given(config: NerTrainingConfig, tmp_path: Path) -> None:
    parts = _read_parts(config)
    words = {name: {sentence.words for sentence in part} for name, part in parts.items()}
    assert sum(map(len, words.values())) == len(set().union(*words.values())) == 160
    assert any("zoe" in sentence for sentence in words["train"])  # as an uncased tokenizer writes Zoë
    assert _read_parts(replace(config, seed=1))["dev"] != parts["dev"] == _read_parts(config)["dev"]
    test = write_bio(tmp_path / "test.bio", 5, shift=1000)
    parts = _read_parts(replace(config, test=(test,), lowercase=False))
    assert {name: len(part) for name, part in parts.items()} == {"dev": 16, "test": 5, "train": 144}
    assert parts["test"][3].words[:2] == ("Zoë", "Smith")
    assert parts["test"][3].entities == ((0, 2, "PER"), (4, 5, "LOC"))


def test_json_with_sentences_is_read_too(tmp_path: Path) -> None:
    text = "Ada Smith lives in Oslo. Bell left Rome-bound trains."
    entities = [[0, 9, "PER"], [19, 23, "LOC"], [25, 29, "PER"], [35, 39, "LOC"]]
    (tmp_path / "a.jsonl").write_text((json.dumps({"text": text, "entities": entities}) + "\n") * 2)
    parts = _read_parts(NerTrainingConfig((str(tmp_path / "a.jsonl"),), tmp_path / "ner"))
    sentences = {sentence.words: sentence.entities for part in parts.values() for sentence in part}
    assert sentences[("Ada", "Smith", "lives", "in", "Oslo", ".")] == ((0, 2, "PER"), (4, 5, "LOC"))
    assert sentences[("Bell", "left", "Rome", "-", "bound", "trains", ".")] == ((0, 1, "PER"), (2, 3, "LOC"))


def test_offsets_count_what_is_said_and_are_looked_at(tmp_path: Path) -> None:
    text = {"text": "🎉🎉 Ada Smith lives here.", "entities": [[5, 14, "PER"]]}
    (tmp_path / "a.jsonl").write_text((json.dumps(text) + "\n") * 3)
    config = NerTrainingConfig((str(tmp_path / "a.jsonl"),), tmp_path / "ner")
    lines: list[str] = []
    assert _read_parts(config, lines.append)["train"][0].entities == ((2, 5, "PER"),)  # "Ada Smith lives"
    assert len(lines) == 1 and "a.jsonl: in 3 of 3 texts" in lines[0] and "--offsets utf16" in lines[0]
    parts = _read_parts(replace(config, offsets="utf16"), lines.append)
    assert parts["train"][0].entities == ((2, 4, "PER"),) and len(lines) == 1


def test_mistakes_are_one_line(config: NerTrainingConfig, tmp_path: Path) -> None:
    (tmp_path / "bad.bio").write_text("a B-X\nb Q\n")
    (tmp_path / "none.bio").write_text("a O\n\n" * 30)
    (tmp_path / "a.txt").write_text("text\n")
    for name, match in (
        ("bad.bio", r"bad\.bio:2: 'Q' is no tag"),
        ("none.bio", "with no entity"),
        ("a.txt", "has no entities"),
    ):
        with pytest.raises(UserError, match=match):
            train_ner(replace(config, inputs=(str(tmp_path / name),)))
    with pytest.raises(UserError, match="epochs must be at least 1"):
        replace(config, epochs=0)
    with pytest.raises(UserError, match="dropout"):
        replace(config, dropout=1.0)
    assert not config.out.exists()
