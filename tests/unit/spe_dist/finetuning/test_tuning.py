"""Tuning: grids, the order of their points, what is best, and what a folder of another tuning refuses."""

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean

import pytest

from data_shards.errors import UserError
from launcher.finetune import read_arguments
from spe_dist.finetuning.folder import Result, seed_folder, write_result
from spe_dist.finetuning.tuning import (
    Trial,
    Tuning,
    best_trial,
    check_same_tuning,
    draw_points,
    names_of_starts,
    read_grid,
    read_trial,
    sections_to_tune,
    with_point,
)
from spe_dist.finetuning.tuning_report import recipe_path, tuning_json, write_report
from tests.unit.spe_dist.extraction.tiny_finetuning import config_in

SECTIONS = ["model", "sampling", "optimizer", "train"]
GRID = {"optimizer.learning_rate": (1e-4, 2e-4, 4e-4), "train.epochs": (25, 60)}


def tuning_in(folder: Path, **more) -> Tuning:
    plain = replace(config_in(folder), seeds=2)
    plain = replace(plain, data=replace(plain.data, test=None))
    pretrained = replace(plain, start=replace(plain.start, pretrained="runs/spe"))
    return Tuning(folder=folder / "t", starts={"bert": plain, "spe": pretrained}, **{"grid": GRID, **more})


def trial(number: int, *scores: float, failure: str | None = None) -> Trial:
    dev = {"entity_f1": scores, "relation_f1": scores, "relation_strict_f1": tuple(s / 2 for s in scores)}
    score = -math.inf if failure else 1.5 * fmean(scores)
    return Trial(number, {"train.epochs": number}, {} if failure else dev, score, 36.0, failure)


def test_a_grid_is_written_as_settings_with_values_or_as_a_file(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("train.batch-size: [4, 8]\n")
    parts = ["optimizer.learning-rate=1e-4,2.5e-5", "--model.relation_sizes=[],[300,128]", str(file)]
    assert read_grid(parts, SECTIONS) == {
        "optimizer.learning_rate": (1e-4, 2.5e-5),
        "model.relation_sizes": ([], [300, 128]),
        "train.batch_size": (4, 8),
    }


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([], "nothing to tune"),
        (["data.fraction=0.1,1"], r"data\.fraction: not a setting to tune"),
        (["encoder.layers=2,4"], r"encoder\.layers: not a setting to tune"),
        (["train.epochs=2,2"], r"train\.epochs: a value is given twice"),
        (["train.epochs=2", "train.epochs=3"], r"train\.epochs is given twice"),
        (["train.epochs="], r"train\.epochs: no list of values"),
        (["train.epochs=[2"], r"train\.epochs=\[2: not values"),
    ],
)
def test_a_wrong_grid_is_refused_in_words(parts, what):
    with pytest.raises(UserError, match=what):
        read_grid(parts, SECTIONS)


def test_all_that_starts_do_not_share_may_be_tuned(tmp_path):
    assert sorted(sections_to_tune(config_in(tmp_path))) == sorted(SECTIONS)


def test_points_are_drawn_in_an_order_of_the_seed_each_once_and_a_larger_budget_begins_with_a_smaller_one():
    everything = draw_points(GRID, None, seed=1)
    assert sorted(tuple(point.values()) for point in everything) == sorted(product(*GRID.values()))
    assert draw_points(GRID, 4, seed=1) == everything[:4]
    assert draw_points(GRID, 99, seed=1) == everything
    assert len({json.dumps(draw_points(GRID, None, seed=seed)) for seed in range(5)}) == 5


def test_every_start_gets_the_same_trials_and_nothing_of_them_is_test(tmp_path):
    tuning = tuning_in(tmp_path, trials=4)
    of_starts = []
    for start in tuning.starts:
        configs = [tuning.trial(start, number, point) for number, point in enumerate(tuning.points, start=1)]
        assert [config.run_folder for config in configs] == [f"{tmp_path}/t/{start}/trial-00{n}" for n in range(1, 5)]
        assert {config.data.test for config in configs} == {None}
        of_starts.append([(c.optimizer.learning_rate, c.train.epochs, c.seeds, c.run.seed) for c in configs])
    assert of_starts[0] == of_starts[1]
    assert len(set(of_starts[0])) == 4


def test_a_wrong_name_or_value_of_a_setting_is_one_line_that_names_it(tmp_path):
    config = config_in(tmp_path)
    with pytest.raises(UserError, match=r"unknown key 'optimizer\.learning_rat', did you mean 'optimizer\.learning_ra"):
        with_point(config, {"optimizer.learning_rat": 1e-4})
    with pytest.raises(UserError, match=r"train\.epochs: .* \(given: 0\)"):
        with_point(config, {"train.epochs": 0})
    with pytest.raises(UserError, match=r"train\.epochs\.x: epochs is a single setting, not a section of settings"):
        with_point(config, {"train.epochs.x": 1})
    assert with_point(config, {"model.span_encoder.channels": 30}).model.span_encoder.channels == 30


def test_starts_are_named_after_their_folders():
    assert names_of_starts(["bert", "runs/spe/"]) == {"bert": "bert", "spe": "runs/spe/"}
    assert names_of_starts(["a/export", "b/export"]) == {"a-export": "a/export", "b-export": "b/export"}
    with pytest.raises(UserError, match="runs/spe is given twice"):
        names_of_starts(["runs/spe", "runs/spe/"])


@pytest.mark.parametrize("starts", [("x/a", "y/a", "x-a"), ("/x/a", "x/a"), ("a-b/c", "a/b/c"), ("x-a", "y/a", "x/a")])
def test_starts_of_one_name_are_refused(starts):
    with pytest.raises(UserError, match=r"^--from .* and --from .* would both be kept in a folder ") as caught:
        names_of_starts(starts)
    assert sum(f"--from {start} " in str(caught.value) for start in starts) == 2


def test_the_best_trial_has_the_highest_mean_of_entities_and_strict_relations():
    trials = [trial(1, 0.5, 0.7), trial(2, 0.1, 0.9), trial(3, 0.6, 0.6), trial(4, failure="no memory")]
    assert best_trial(trials) is trials[0]  # of equal ones the first
    assert best_trial(trials[1:]) is trials[2]
    assert best_trial(trials[3:]) is None


def test_a_trial_is_over_when_all_its_seeds_are_or_one_has_failed(tmp_path):
    tuning = tuning_in(tmp_path)
    config = tuning.trial("bert", 1, tuning.points[0])
    first, second = config.of_each_seed()
    scores = {"entity_f1": 0.5, "relation_f1": 0.4, "relation_strict_f1": 0.3}
    for seed in (first, second):
        assert read_trial(config, 1, {}) is None
        seed_folder(seed).mkdir(parents=True)
        write_result(seed, Result(seed.run.seed, 3, 2, scores, None))
    (seed_folder(first) / "metrics.jsonl").write_text(
        '{"step": 1, "epoch": 1, "elapsed_seconds": 2.5}\n{"step": 2, "ep'
    )
    done = read_trial(config, 1, {})
    assert done is not None
    assert (done.dev["entity_f1"], done.seconds, done.score) == ((0.5, 0.5), 2.5, 0.8)
    failed = read_trial(config, 1, {}, "no memory")
    assert failed is not None
    assert (failed.dev, failed.failure) == ({}, "no memory")


def test_a_folder_holds_one_grid_and_all_starts_that_were_tuned(tmp_path):
    tuning = tuning_in(tmp_path)
    check_same_tuning(replace(tuning, starts={"bert": tuning.starts["bert"]}))
    check_same_tuning(tuning)  # one more
    check_same_tuning(replace(tuning, trials=2))
    with pytest.raises(UserError, match="another grid"):
        check_same_tuning(replace(tuning, grid={"train.epochs": (1, 2)}))
    with pytest.raises(UserError, match="another draw"):
        check_same_tuning(replace(tuning, draw=2))
    with pytest.raises(UserError, match=r"a tuning of bert .* name it with --from too"):
        check_same_tuning(replace(tuning, starts={"spe": tuning.starts["spe"]}))


def test_tables_say_what_was_tried_and_the_recipe_of_the_best_is_read_by_finetune(tmp_path):
    tuning = tuning_in(tmp_path, grid={"train.epochs": (1, 2, 3)}, trials=2)
    trials = {"bert": [trial(1, 0.25, 0.35), trial(2, 0.5, 0.7)], "spe": [trial(1, 0.5, 0.5), trial(2, failure="x")]}
    tuning.folder.mkdir()
    table = write_report(tuning, trials, "no limit, 0.10 h used")
    assert "with the same trials (2 of the 3 points" in table and "no limit, 0.10 h used" in table
    assert "each with seeds 1, 2," in table and "data.jsonl" in table
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    assert [[cell.strip(" |") for cell in row] for row in rows] == [
        ["trial", "train.epochs", "entity_f1", "relation_f1", "relation_strict_f1"],
        ["**2**", "2", "60.0 ± 14.1", "60.0 ± 14.1", "30.0 ± 7.1"],
        ["1", "1", "30.0 ± 7.1", "30.0 ± 7.1", "15.0 ± 3.5"],
        ["trial", "train.epochs", "entity_f1", "relation_f1", "relation_strict_f1"],
        ["**1**", "1", "50.0 ± 0.0", "50.0 ± 0.0", "25.0 ± 0.0"],
        ["2", "2", "", "", "failed"],
    ]
    assert (tuning.folder / "tuning.md").read_text() == table
    starts = json.loads((tuning.folder / "tuning.json").read_text())["starts"]
    assert starts == json.loads(json.dumps(tuning_json(tuning, trials, "")["starts"]))
    assert (starts["bert"]["best"], starts["spe"]["best"], starts["spe"]["trials"][1]["failure"]) == (2, 1, "x")
    config, _ = read_arguments(["--config", str(recipe_path(tuning, "bert")), "--test", "t.json", "--seeds", "5"])
    assert (config.train.epochs, config.run.name, config.data.test, config.seeds) == (2, "t-bert", "t.json", 5)
