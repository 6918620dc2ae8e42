import json
from pathlib import Path

import pytest

import launcher
from data_shards.errors import UserError
from launcher.plan import main
from tests.unit.spe_dist.tiny_run import write_dataset

RECIPE = str(Path(launcher.__file__).with_name("recipes") / "spe_wiki.yaml")
WITHOUT_SHARDS = ["--config", RECIPE, "--encoder.name-or-path", "null", "--pieces-per-record", "19.6"]


def test_a_plan_needs_neither_shards_nor_the_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*WITHOUT_SHARDS, "--gpu", "a100", "--mfu", "0.3", "--out", str(tmp_path)])
    text = capsys.readouterr().out
    written = json.loads((tmp_path / "spe_wiki_plan.json").read_text())
    assert (tmp_path / "spe_wiki_plan.md").read_text().strip() in text
    assert [prediction["gpus"] for prediction in written["scaling"]] == [2**power for power in range(13)]
    assert written["cluster"]["mfu"] == 0.3
    assert 105e6 < written["parameters"] < 115e6  # BERT-base and its heads
    for words in ("a100: 312 TFLOP/s", "reduction buffers", "| 4,096 |", "all-gather", "Assumptions:"):
        assert words in text


def test_shards_say_how_long_records_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_dataset(tmp_path / "shards")
    main(["--data.shards", str(tmp_path / "shards")])
    pieces = manifest.statistics.pieces / manifest.statistics.records
    assert f"A record has {pieces:.1f} pieces" in capsys.readouterr().out


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--pieces-per-record"):
        main(["--config", RECIPE, "--data.shards", str(tmp_path / "none")])
    with pytest.raises(UserError, match="sizes with --encoder"):
        main(["--config", RECIPE, "--encoder.name-or-path", str(tmp_path / "none"), "--pieces-per-record", "20"])
    with pytest.raises(UserError, match="--peak-tflops"):
        main([*WITHOUT_SHARDS, "--gpu", "abacus"])
