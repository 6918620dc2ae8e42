import json
import shutil

import pytest
import torch
import yaml

from data_shards.errors import UserError
from launcher.cli import dispatch
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World
from spe_dist.train.run_diff import compare_runs
from spe_dist.train.run_folder import CHECKPOINTS, CONFIG, METRICS, VERSIONS

TENSORS = {
    "a.master": torch.arange(4.0),
    "b.master": torch.full((2,), 1e-9),
    "queue.ids": torch.tensor([10**6]),
    "queue.keys": torch.ones(3, 2),
    "rng.torch.rank0": torch.tensor([1]),
}


def line(step, **changes):
    base = {"step": step, "loss": 2.0 + step, "tbo_accuracy": 0.5, "nothing": float("nan"), "records_per_second": 9.0}
    return base | {"digest_queue": f"q{step}", "digest_masks": f"m{step}", "digest_records": f"r{step}"} | changes


def write_run(folder, lines, *, tensors=TENSORS, world_size=1, dataset="abc", **settings):
    (folder / CHECKPOINTS).mkdir(parents=True)
    (folder / METRICS).write_text("".join(json.dumps(each) + "\n" for each in lines))
    (folder / CONFIG).write_text(yaml.safe_dump({"run": {"name": folder.name}, **settings}))
    (folder / VERSIONS).write_text(json.dumps({"dataset": dataset, "versions": {"torch": "2"}}))
    store = CheckpointStore(folder / CHECKPOINTS, keep_last=9, keep_every=0, world=World())
    for step, factor in ((2, 1), (4, 3)):
        scaled = {name: tensor * factor for name, tensor in tensors.items()}
        store.save(step, scaled, {"world_size": world_size})
    return folder


@pytest.fixture
def first(tmp_path):
    return write_run(tmp_path / "first", [line(step) for step in (1, 2, 3, 4)])


def difference(first, tmp_path, lines, rtol=0.0, **run):
    second = write_run(tmp_path / "second", lines, **run)
    return compare_runs(first, second, rtol=rtol).difference


def test_equal_runs_may_differ_in_speed_and_in_where_they_end(first, tmp_path):
    lines = [line(step, records_per_second=100.0 + step) for step in (2, 3, 4, 5)]
    second = write_run(tmp_path / "second", lines)
    comparison = compare_runs(first, second, rtol=0)
    assert comparison.steps == [2, 3, 4]
    assert comparison.checkpoint == 4
    assert comparison.difference is None


def test_the_first_step_counts_and_in_it_the_cause_before_the_effect(first, tmp_path):
    lines = [line(1), line(2), line(3, loss=7.0, digest_masks="x", digest_queue="x"), line(4, digest_records="x")]
    found = difference(first, tmp_path, lines)
    assert (found.step, found.field, found.first, found.second) == (3, "digest_masks", "m3", "x")
    assert str(found) == "step 3: digest_masks is m3 and x"


def test_records_come_before_masks_and_masks_before_the_queue(first, tmp_path):
    lines = [line(1, loss=7.0, digest_masks="x", digest_queue="x", digest_records="x")]
    assert difference(first, tmp_path, lines).field == "digest_records"


def test_a_tolerance_is_for_floats_and_leaves_accuracies_out(first, tmp_path):
    lines = [line(step, tbo_accuracy=0.25) for step in (1, 2)]
    assert difference(first, tmp_path, lines).field == "tbo_accuracy"
    shutil.rmtree(tmp_path / "second")
    assert difference(first, tmp_path, lines, 1e-5) is None
    shutil.rmtree(tmp_path / "second")
    assert difference(first, tmp_path, [line(1, counter=10**9)], 1e-5).field == "counter"


@pytest.mark.parametrize(
    ("field", "one", "other", "same"),
    [
        ("cspo_positive_similarity", 3e-3, 3e-3 + 4e-7, True),
        ("cspo_positive_similarity", 0.0, -4e-7, True),
        ("cspo_positive_similarity", 3e-3, 3.1e-3, False),
        ("learning_rate", 1e-6, 1.1e-6, False),
        ("gradient_norm", 1e-6, 1.1e-6, False),
    ],
)
def test_near_zero_the_scale_of_the_quantity_counts(first, tmp_path, field, one, other, same):
    runs = [write_run(tmp_path / str(number), [line(1, **{field: number})]) for number in (one, other)]
    assert (compare_runs(*runs, rtol=1e-5).difference is None) == same


def test_half_a_line_and_a_damaged_checkpoint_are_passed_over(first, tmp_path):
    second = write_run(tmp_path / "second", [line(step) for step in (1, 2, 3, 4)])
    with (second / METRICS).open("a") as file:
        file.write('{"step": 5, "lo')
    next((second / CHECKPOINTS / "step-000000004").glob("*.safetensors")).write_bytes(b"short")
    comparison = compare_runs(first, second, rtol=0)
    assert (comparison.steps, comparison.checkpoint, comparison.difference) == ([1, 2, 3, 4], 2, None)


@pytest.mark.parametrize(("rtol", "field"), [(0.0, "loss"), (1e-7, "loss"), (1e-5, None)])
def test_numbers_may_differ_by_the_tolerance(first, tmp_path, rtol, field):
    lines = [line(1), line(2, loss=4.0 * (1 + 1e-6)), line(3), line(4)]
    found = difference(first, tmp_path, lines, rtol)
    assert (found and found.field) == field
    if found:
        assert found.relative == pytest.approx(1e-6, rel=1e-3)
        assert "(relative difference 1.0e-06)" in str(found)


@pytest.mark.parametrize("value", [None, float("nan"), "1.0"])
def test_no_tolerance_hides_a_value_that_is_no_number(first, tmp_path, value):
    lines = [line(1), line(2, loss=value), line(3), line(4)]
    assert difference(first, tmp_path, lines, 1.0).field == "loss"


def test_a_field_that_one_run_lacks_is_a_difference(first, tmp_path):
    lines = [{k: v for k, v in line(step).items() if k != "tbo_accuracy"} for step in (1, 2)]
    assert difference(first, tmp_path, lines).field == "tbo_accuracy"


@pytest.mark.parametrize(
    ("tensors", "rtol", "field"),
    [
        (TENSORS | {"queue.keys": torch.tensor([[1.0, 1], [1, 1], [1, 1 + 1e-4]])}, 0.0, "queue.keys"),
        (TENSORS | {"queue.keys": torch.tensor([[1.0, 1], [1, 1], [1, 1 + 1e-4]])}, 1e-3, None),
        (TENSORS | {"queue.keys": torch.full((3, 2), float("nan"))}, 1e-3, "queue.keys"),
        (TENSORS | {"queue.keys": torch.ones(3, 1)}, 1.0, "queue.keys"),
        (TENSORS | {"more": torch.ones(1)}, 1.0, "more"),
        (TENSORS | {"rng.torch.rank0": torch.tensor([2])}, 1.0, "rng.torch.rank0"),
        (TENSORS | {"queue.ids": torch.tensor([10**6 + 1])}, 1.0, "queue.ids"),
        (TENSORS | {"b.master": torch.full((2,), 2e-9)}, 0.0, "b.master"),  # rounding only, beside a.master
        (TENSORS | {"b.master": torch.full((2,), 2e-9)}, 1e-6, None),
    ],
)
def test_when_metrics_agree_the_newest_common_checkpoint_is_compared(first, tmp_path, tensors, rtol, field):
    found = difference(first, tmp_path, [line(step) for step in (1, 2, 3, 4)], rtol, tensors=tensors)
    assert (found and (found.step, found.field)) == (field and (4, field))


def test_random_generators_belong_to_a_world_size(first, tmp_path):
    tensors = {name: tensor for name, tensor in TENSORS.items() if not name.startswith("rng")}
    lines = [line(step) for step in (1, 2, 3, 4)]
    assert difference(first, tmp_path, lines, tensors=tensors, world_size=2) is None


def test_runs_without_a_common_step_and_folders_that_are_no_runs_are_refused(first, tmp_path):
    second = write_run(tmp_path / "second", [line(10), line(20)])
    with pytest.raises(UserError, match=r"no logged step in common \(4 lines from step 1 to 4, 2 lines from step 10"):
        compare_runs(first, second, rtol=0)
    with pytest.raises(UserError, match="has no metrics"):
        compare_runs(first, tmp_path, rtol=0)


def test_the_command_says_what_differs_and_exits_with_2(first, tmp_path, capsys):
    second = write_run(tmp_path / "second", [line(1), line(2, loss=9.0)], batch={"lanes": 4}, dataset="def")
    with pytest.raises(SystemExit) as stopped:
        dispatch(["runs", "diff", str(first), str(second)])
    assert stopped.value.code == 2
    output = capsys.readouterr().out
    assert "config.yaml: batch.lanes is None and 4\n" in output and "run.name" not in output
    assert "versions.json: dataset is abc and def\n" in output
    assert "first difference at step 2: loss is 4.0 and 9.0 (relative difference 5.6e-01)" in output


def test_the_command_says_that_runs_are_equal(first, tmp_path, capsys):
    shutil.copytree(first, tmp_path / "second")
    dispatch(["runs", "diff", str(first), str(tmp_path / "second")])
    text = "equal bit for bit: 4 logged steps, 1 to 4, and all tensors of the checkpoint of step 4\n"
    assert capsys.readouterr().out == text
    with pytest.raises(UserError, match="spe runs diff A B"):
        dispatch(["runs"])
