import json
from pathlib import Path

import pytest

from data_shards.errors import UserError
from launcher.cli import dispatch
from tests.unit.data_shards.test_ner_training import write_bio


def test_a_pipeline_is_trained_and_its_scores_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--width", "16", "--depth", "1", "--epochs", "2", "--batch-sentences", "8", "--lowercase"]
    dispatch(["ner", "train", write_bio(tmp_path / "a.bio", 60), "--out", str(tmp_path / "ner"), *options])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1 of 2") and "of sentences 6 dev, 6 test, 48 train" in lines[2]
    assert [line.split()[0] for line in lines[3:]] == ["test", "all", "LOC", "PER"]
    scores = json.loads((tmp_path / "ner" / "scores.json").read_text())
    assert scores["settings"]["lowercase"] is True and f"{scores['test']['overall']['f1']:.1%}" in lines[4]


def test_other_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    dispatch(["ner"])
    assert "spe ner train FILE" in capsys.readouterr().out
    with pytest.raises(UserError, match="no command 'tarin'"):
        dispatch(["ner", "tarin"])
