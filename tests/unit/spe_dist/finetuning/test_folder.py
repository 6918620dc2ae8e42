"""What the folder of a fine-tuning holds, and which runs may go on in it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_shards.annotated.unified import write_unified
from data_shards.errors import UserError
from spe_dist.extraction.scores.joint_scoring import JointScoring
from spe_dist.finetuning.folder import (
    check_same_run,
    check_same_start,
    check_start,
    format_result,
    prepare_folder,
    read_result,
    seed_folder,
)
from spe_dist.finetuning.loop import finetune
from spe_dist.finetuning.predictions import write_predictions
from spe_dist.finetuning.score_report import report_run
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.extraction.tiny import SENTENCES
from tests.unit.spe_dist.extraction.tiny_finetuning import (
    config_in,
    finetune_until,
    read_data_of,
    start_of,
)

pytestmark = pytest.mark.any_version

SCORING = JointScoring()


def test_a_run_that_is_over_has_only_its_results(learned, tmp_path):
    config, result = learned
    folder = Path(config.run_folder) / "seed-1"
    assert not (folder / "checkpoints").exists()
    assert json.loads((folder / "result.json").read_text())["best_epoch"] == result.best_epoch
    before = (folder / "metrics.jsonl").read_bytes()
    assert run_ranks(finetune, 1, config)[0] == result  # not trained again
    assert (folder / "metrics.jsonl").read_bytes() == before
    written = json.loads((folder / "result.json").read_text())
    assert written["start"]["kind"] == "encoder" and written["start"]["new"][0] == "sentence encoder"
    older = replace(config, run=replace(config.run, folder=str(tmp_path)))
    seed_folder(older).mkdir(parents=True)
    del written["start"]  # a run of before it was kept
    (seed_folder(older) / "result.json").write_text(json.dumps(written))
    assert read_result(older) == replace(result, start=None)


def test_another_configuration_is_refused(learned):
    config, _ = learned
    other = replace(config, optimizer=replace(config.optimizer, clip=2.0))
    with pytest.raises(UserError, match=r"optimizer\.clip was 1\.0 and is 2\.0.*give this one its own --name"):
        prepare_folder(other)


def test_an_export_is_no_start(tmp_path):
    (tmp_path / "encoder.onnx").touch()
    config = config_in(tmp_path)
    with pytest.raises(UserError, match="is an export for fast prediction on CPUs: name the model that it was made of"):
        check_start(replace(config, start=replace(config.start, pretrained=str(tmp_path))))


def test_a_wrong_path_can_be_mended(tmp_path):
    config = config_in(tmp_path)
    with pytest.raises(UserError, match=r"wrong\.jsonl"):
        finetune(replace(config, data=replace(config.data, train=str(tmp_path / "wrong.jsonl"))))
    prepare_folder(config)


def test_the_other_seeds_of_a_run_must_have_its_configuration(learned):
    config, _ = learned
    third = replace(config, run=replace(config.run, seed=3))
    prepare_folder(replace(third, seeds=5, cluster=replace(config.cluster, parallel=2)))
    with pytest.raises(UserError, match=r"seed-1 holds a fine-tuning of another configuration \(optimizer\.clip"):
        prepare_folder(replace(third, optimizer=replace(config.optimizer, clip=2.0)))


def test_curves_end_with_the_scores_of_the_best_epoch(learned):
    config, result = learned
    *_, scores_line, where = (Path(config.run_folder) / "seed-1" / "finetune.log").read_text().splitlines()
    assert format_result(result) in scores_line and "result.json and TensorBoard, under best/" in where
    board = EventAccumulator(str(Path(config.run_folder) / "seed-1" / "tensorboard")).Reload()
    assert len(board.Scalars("dev/entity_f1")) == 40  # not purged by what is written later
    for name, scores in (("dev", result.dev), ("test", result.test)):
        for measure, value in scores.items():
            assert [point.value for point in board.Scalars(f"best/{name}_{measure}")] == pytest.approx([value])


def test_scores_of_all_seeds_lie_in_the_run_and_are_printed(learned):
    config, _ = learned
    run = Path(config.run_folder)
    text, headline = report_run(SCORING, run)
    assert re.fullmatch(r".*, test: entity_f1 [\d.]+ \[[\d.]+, [\d.]+\], .*relation_strict_f1 [^\n]*", headline)
    assert (run / "scores" / "scores.txt").read_text() in text
    assert "tiny, test" in text and "tiny, dev: entity_f1 100.0" in text
    scores = json.loads((run / "dev" / "scores" / "scores.json").read_text())
    assert scores["runs"][0]["micro_f1"]["relation_strict_f1"]["mean"] == 1
    assert (run / "scores" / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_the_subset_that_was_learned_from_is_kept(tmp_path):
    config = config_in(tmp_path, data={"fraction": 0.4}, train={"epochs": 1})
    run_ranks(finetune, 1, config)
    kept = json.loads((Path(config.run_folder) / "seed-1" / "subset.json").read_text())
    assert (kept["fraction"], kept["sentences"], kept["of"]) == (0.4, 2, 5)
    data = read_data_of(config)
    assert [SENTENCES[number].words for number in kept["numbers"]] == [one.words for one in data.train]


def test_a_run_of_before_there_was_a_setting_for_offsets_goes_on(learned):
    config, _ = learned
    third = replace(config, run=replace(config.run, seed=3))
    path = Path(config.run_folder) / "seed-1" / "config.yaml"
    text = path.read_text()
    try:
        path.write_text(text.replace("  offsets: characters\n", ""))
        check_same_run(third)
        with pytest.raises(UserError, match=r"data\.offsets was characters and is bytes"):
            check_same_run(replace(third, data=replace(third.data, offsets="bytes")))
    finally:
        path.write_text(text)


def test_seeds_of_other_data_or_other_weights_are_refused(tmp_path):
    config = config_in(tmp_path, train={"epochs": 1}, run={"folder": str(tmp_path), "name": "mixed"})
    run_ranks(finetune, 1, config)
    second = replace(config, run=replace(config.run, seed=2))
    prepare_folder(second)
    check_same_start(second, str(start_of(config).report))
    with pytest.raises(
        UserError, match=r"seed-1 started from other weights \(loaded: .*now of x, step 9.*own run\.name"
    ):
        check_same_start(second, "of x, step 9")
    write_unified(SENTENCES[:4], Path(config.data.train))
    for one in (config, second):  # also the seed that is done: its scores are of the old data
        with pytest.raises(UserError, match=r"seed-1 holds a fine-tuning of other data: data\.train, data\.dev, data"):
            prepare_folder(one)


def test_predictions_of_a_seed_whose_folder_is_gone_are_not_averaged_with_others(tmp_path):
    config = config_in(tmp_path)
    write_predictions(SCORING, Path(config.run_folder), 4, SENTENCES)
    with pytest.raises(UserError, match=r"seed-4\.jsonl .* seed-4 is missing"):
        prepare_folder(config)
    (Path(config.run_folder) / "seed-4").mkdir()
    prepare_folder(config)


def test_a_seed_goes_on_though_its_pre_training_has_gone_on(tmp_path):
    config = config_in(tmp_path, train={"epochs": 4, "batch_size": 5})
    run_ranks(finetune_until, 1, config, 2)
    inputs = Path(config.run_folder) / "seed-1" / "inputs.json"
    began = json.loads(inputs.read_text())
    check_same_start(config, "of x, step 9")
    assert json.loads(inputs.read_text()) == began
    assert began["start"].startswith("loaded: ") and len(began["data.train"]) == 64
