import json
from pathlib import Path

import pytest

import launcher
from data_shards.errors import UserError
from launcher.plan import main
from tests.unit.spe_dist.tiny_run import write_dataset

RECIPE = str(Path(launcher.__file__).with_name("recipes") / "spe_wiki.yaml")
NEW_ENCODER = ["--config", RECIPE, "--encoder.name-or-path", "null"]


def rows_of(text: str) -> dict[str, list[float]]:
    rows = [line.rsplit(maxsplit=3) for line in text.splitlines()]
    numbers = [row for row in rows if len(row) == 4 and row[3][0].isdigit()]
    return {row[0]: [float(cell.replace(",", "")) for cell in row[1:]] for row in numbers}


def test_a_plan_needs_neither_shards_nor_the_encoder(capsys: pytest.CaptureFixture[str]) -> None:
    main([*NEW_ENCODER, "--vocabulary", "28996", "--cluster.workers", "4"])
    text = capsys.readouterr().out
    parameters = int(text.split()[1].replace(",", ""))
    assert 105e6 < parameters < 115e6  # BERT-base and its heads
    assert "bf16, 4 ranks with" in text and text.count("ZeRO-3") == 2
    rows = rows_of(text)
    assert rows["weights"] == pytest.approx([2 * parameters, 2 * parameters, 0.5 * parameters], rel=1e-4)
    assert rows["Adam moments"] == pytest.approx([2 * parameters] * 3, rel=1e-4)
    assert rows["weights (all-gather)"][0] == pytest.approx(2 * parameters * 3 / 4, rel=1e-4)
    assert rows["queues"] == [65_536 * (2 * 768 * 4 + 8)] * 3
    main([*NEW_ENCODER, "--vocabulary", "28996", "--cluster.workers", "4", "--json"])
    planned = json.loads(capsys.readouterr().out)
    assert (planned["parameters"], planned["ranks"]) == (parameters, 4)
    assert planned["bytes_of_a_rank"]["weights"] == pytest.approx(rows["weights"], abs=1)


def test_sizes_come_from_the_shards_if_no_vocabulary_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "shards")
    main(["--data.shards", str(tmp_path / "shards")])
    assert "debug: " in capsys.readouterr().out
    for way in ("--compute.no-packed", "--compute.checkpoint-activations"):
        main(["--data.shards", str(tmp_path / "shards"), way])
        text = capsys.readouterr().out
        assert "bytes of a rank, without activations" in text and "kept by the largest forward" not in text


def test_a_step_of_eight_times_the_records_fits_where_one_did_if_forwards_are_cut_by_pieces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "shards")
    kept, abouts = [], []
    for lanes, budget in (("32", None), ("256", None), ("256", "2048")):
        cut = ["--batch.pieces-per-forward", budget] if budget else []
        batch = ["--batch.lanes", lanes, "--batch.lanes-per-forward", lanes, "--cluster.workers", "1", *cut]
        main(["--data.shards", str(tmp_path / "shards"), *batch])
        text = capsys.readouterr().out
        abouts.append(text.split(" forward")[0].rpartition(" with ")[2])
        kept.append(rows_of(text)["kept by the largest forward"])
    assert kept[1] > [4 * size for size in kept[0]]
    assert kept[2] < kept[0] and len(set(kept[2])) == 1
    number = abouts.pop().removeprefix("about ")
    assert abouts == ["1", "1"] and int(number) >= 2048 * 12 / 2048


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--vocabulary"):
        main(["--config", RECIPE, "--data.shards", str(tmp_path / "none")])
    with pytest.raises(UserError, match="none"):
        main(["--config", RECIPE, "--encoder.name-or-path", str(tmp_path / "none"), "--vocabulary", "30000"])
