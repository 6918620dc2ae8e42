"""Whoever adds a task writes what `second_task.py` holds, and gets all that fine-tuning has."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cli import dispatch
from spe_dist import tasks
from spe_dist.finetuning.data import read_data
from spe_dist.finetuning.loop import describe, finetune
from spe_dist.finetuning.predictions import read_run
from spe_dist.finetuning.score_report import report_run
from spe_dist.finetuning.start import load_start
from spe_dist.recipe import config_values
from spe_dist.train.run_log import read_metrics
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.extraction.tiny_finetuning import config_in, finetune_until
from tests.unit.spe_dist.finetuning.second_task import HoldsConfig, HoldsScoring

pytestmark = pytest.mark.any_version


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "holds", HoldsConfig)


def holds(folder: Path, wanted: str = "ORG", **changes) -> HoldsConfig:
    values = config_values(config_in(folder, **{"train": {"epochs": 12, "batch_size": 2}, **changes}))
    for section in ("model", "sampling"):
        del values[section]
    return tasks.finetuning_config(values | {"task": "holds", "wanted": wanted}, source="test")


def test_it_trains_resumes_scores_and_is_compared(tmp_path, capsys):
    one, other = (holds(tmp_path, run={"folder": str(tmp_path), "name": name}) for name in ("a", "b"))
    result = run_ranks(finetune, 1, one)[0]
    assert (result.dev, result.test) == ({"accuracy": 1.0}, {"accuracy": 1.0})
    assert "5 sentences to learn from" in describe(one)
    run_ranks(finetune_until, 1, other, 5)
    assert run_ranks(finetune, 1, other)[0] == result  # as if it had not been stopped
    metrics = [read_metrics(Path(config.run_folder) / "seed-1") for config in (one, other)]
    assert [line["holds_loss"] for line in metrics[0]] == [line["holds_loss"] for line in metrics[1]]
    assert metrics[0][-1]["holds_accuracy"] == 1

    runs = [Path(config.run_folder) for config in (one, other)]
    assert "accuracy" in report_run(HoldsScoring(), runs[0])[1]
    assert json.loads((runs[0] / "scores" / "scores.json").read_text())["runs"][0]["accuracy"]["accuracy"]["mean"] == 1
    lines = (runs[1] / "predictions" / "seed-1.jsonl").read_text().splitlines()
    wrong = [json.dumps(json.loads(line) | {"holds": False}) for line in lines]
    (runs[1] / "predictions" / "seed-1.jsonl").write_text("\n".join(wrong) + "\n")
    capsys.readouterr()
    dispatch(["compare", *map(str, runs), "--resamples", "500", "--out", str(tmp_path / "out")])
    test = json.loads((tmp_path / "out" / "scores.json").read_text())["second_minus_first"]["accuracy"]
    assert test["difference"]["mean"] == pytest.approx(-0.4)
    assert "paired bootstrap over sentences and seeds" in capsys.readouterr().out
    assert "| accuracy | 100.00 | 100.00 |" in (runs[0] / "seed-1" / "model" / "README.md").read_text()


def test_it_starts_from_the_other_task_and_from_itself(learned, tmp_path):
    extraction = Path(learned[0].run_folder) / "seed-1" / "model"
    config = holds(tmp_path, start={"pretrained": str(extraction)}, train={"epochs": 1})
    run_ranks(finetune, 1, config)
    folder = Path(config.run_folder) / "seed-1"
    report = json.loads((folder / "inputs.json").read_text())["start"]
    assert (
        report.startswith(f"loaded: sentence encoder of {extraction}, extractor ") and "; new: classifiers;" in report
    )
    assert f"classifiers of {extraction} (of another task)" in report and "span pair encoder of" in report
    model = folder / "model"
    told = "The sentence encoder started from the fine-tuned model `tiny/seed-1`; classifiers from new weights."
    assert told in (model / "README.md").read_text()
    again = replace(config, start=replace(config.start, pretrained=str(model)))
    for wanted, loaded in (("ORG", True), ("LOC", False)):
        task = replace(again, wanted=wanted).build_task()
        start = load_start(task, read_data(task).description)
        assert ("classifiers" in start.report.loaded) == loaded
        assert start.report.left_out == (() if loaded else (f"classifiers of {model} (it has other labels)",))


def test_runs_of_two_tasks_are_not_compared(learned, tmp_path):
    config = holds(tmp_path, train={"epochs": 1})
    run_ranks(finetune, 1, config)
    with pytest.raises(tasks.UserError, match=r"is of the task extraction and .* of holds: name runs of one task"):
        dispatch(["compare", learned[0].run_folder, config.run_folder])
    other = replace(learned[0], run=config.run)
    with pytest.raises(tasks.UserError, match=r"another configuration .task was holds and is extraction"):
        finetune(other)


def test_a_task_that_is_not_there_is_named():
    with pytest.raises(tasks.UserError, match=r"x: task is 'hold'; these are offered: extraction, .*holds"):
        tasks.finetuning_config({"task": "hold"}, source="x")


def test_predictions_are_read_again(tmp_path):
    config = holds(tmp_path, train={"epochs": 1})
    run_ranks(finetune, 1, config)
    run = read_run(HoldsScoring(), Path(config.run_folder))
    assert [one.holds for one in run.gold] == [False, True, False, False, True]
    assert list(run.by_seed) == [1]
