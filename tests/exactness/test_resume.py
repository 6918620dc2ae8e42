"""A run that was stopped and started again is the run that never stopped, and nothing of its state is forgotten."""

import random
import shutil
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spe_dist.checkpoint.reader import LoadedCheckpoint, list_checkpoints
from spe_dist.train import session
from spe_dist.train.loop import train
from tests.distributed.ranks import run_ranks
from tests.distributed.toy import whole_state
from tests.exactness.runs import (
    DROPOUT,
    assert_bitwise,
    configure,
    disturbed_before_loading,
    final_state,
    metrics_of,
    run,
    state_of,
    stopped_after,
)

pytestmark = pytest.mark.distributed


def train_with_stops(config, stops):
    """Stop by a signal to one rank after each of the steps, start again in a disturbed state; then go on to the end."""
    chooser = random.Random(len(stops))
    steps = []
    for stop in [*stops, None]:
        with ExitStack() as stack:
            stack.enter_context(disturbed_before_loading())
            if stop is not None:
                stack.enter_context(stopped_after(stop, rank=chooser.randrange(2)))
            steps.append(train(config).step)
    return steps


def random_stops(count, seed):
    """Increasing steps; two restarts have at least two steps between them, as stopping takes one."""
    chooser, stops = random.Random(seed), [0]
    for _ in range(count):
        stops.append(stops[-1] + chooser.randint(2, 4))
    return stops[1:]


ORDINARY = [("bf16", 1), pytest.param("fp32", 2, marks=pytest.mark.slow)]
ALL = [(precision, stage) for precision in ("fp32", "bf16") for stage in (1, 2, 3)]


def pytest_generate_tests(metafunc):
    if "stops" in metafunc.fixturenames:
        exact = metafunc.config.getoption("--exact")
        metafunc.parametrize(("precision", "stage"), ALL if exact else ORDINARY)
        metafunc.parametrize(
            "stops", [random_stops(50 if exact else 5, seed=11)], ids=lambda stops: f"{len(stops)}stops"
        )


@pytest.mark.timeout(1500)
def test_random_stop_points_leave_no_trace(method, shards, tmp_path, precision, stage, stops):
    """With dropout, at one world size: bitwise in weights, moments, queues, key encoder, generators and metrics.

    Nor does it matter how often held-out records are looked at, which one of the runs does half as often, or whether
    objectives' gradients are measured, which one of the runs never does.
    """
    common = DROPOUT | {
        "batch": {"lanes": 3, "lane_size": 4, "lanes_per_forward": 1},
        "data": {"held_out": 17},
        "train": {
            "steps": stops[-1] + 4,
            "precision": precision,
            "zero_stage": stage,
            "log_every": 3,
            "evaluate_every": 3,
        },
    }
    measured = common["train"] | {"keep_last": 1000, "gradients_every": 6}
    saving = common | {"train": measured | {"checkpoint_every": 1, "evaluate_every": 6}}
    keeping = common | {"train": measured}
    settings = {"plain": common, "saved": saving, "stopped": keeping}
    plain, saved, stopped = (configure(shards, tmp_path / name, method=method, **settings[name]) for name in settings)
    run_ranks(train_all_with_stops, 2, [(plain, []), (saved, []), (stopped, stops)], timeout=240 + 20 * len(stops))
    plain, saved, stopped = (Path(config.run_folder) for config in (plain, saved, stopped))
    assert [without(line, "gradients") for line in metrics_of(stopped)] == metrics_of(plain)
    assert gradients_of(stopped) == gradients_of(saved)
    assert [line["step"] for line in gradients_of(saved)] == list(range(6, stops[-1] + 5, 6))
    assert all("held_out_loss" in line for line in metrics_of(plain))
    expected = [line if line["step"] % 6 == 0 else without(line, "held_out") for line in metrics_of(plain)[:-1]]
    assert [without(line, "gradients") for line in metrics_of(saved)] == [*expected, metrics_of(plain)[-1]]
    assert [line["step"] for line in metrics_of(stopped)][:3] == [3, 6, 9]
    checkpoints = list_checkpoints(stopped / "checkpoints")
    assert [int(path.name[5:]) for path in checkpoints] == [*stops, stops[-1] + 4]
    for checkpoint in checkpoints:
        assert_bitwise(state_of(checkpoint), state_of(saved / "checkpoints" / checkpoint.name), checkpoint.name)
    assert_bitwise(final_state(stopped), final_state(plain))


def without(line, beginning):
    return {name: value for name, value in line.items() if not name.startswith(beginning)}


def gradients_of(run):
    lines = [{name: line[name] for name in line if name.startswith(("step", "gradients_"))} for line in metrics_of(run)]
    return [line for line in lines if len(line) > 1]


def train_all_with_stops(cases):
    for config, stops in cases:
        assert train_with_stops(config, stops) == [*stops, config.train.steps]


# What is lost if one kind of state stays as it was disturbed; each is seen in the metrics.
KINDS = ("master", "exp_avg", "exp_avg_sq", "key_encoder.", "queue.", "interval.", "adam_step", "generators")


def resume_without(cases):
    """Go on from checkpoints, one kind of state as it was before in each."""
    restore = session.restore
    for config, kind in cases:

        def forgetful(engine, checkpoint, tensors, kind=kind):
            disturbed = whole_state(engine) | {name: tensor.clone() for name, tensor in tensors.items()}
            adam_step, generator = engine.adam_step, torch.get_rng_state()
            restored = restore(engine, checkpoint, tensors)
            for name, tensor in tensors.items():
                if name.startswith(kind):
                    tensor.copy_(disturbed[name])
            engine.write_state(
                lambda name: disturbed[name] if name.endswith(kind) else checkpoint.get(name),
                adam_step if kind == "adam_step" else checkpoint.metadata["adam_step"],
            )
            if kind == "generators":
                torch.set_rng_state(generator)
            return restored

        with disturbed_before_loading(), patch.object(session, "restore", forgetful):
            train(config)


@pytest.fixture(scope="module")
def forgetful_runs(shards, tmp_path_factory):
    """Folder by kind of state that was not restored; "nothing" for none."""
    folder = tmp_path_factory.mktemp("forgetful")
    settings = DROPOUT | {
        "batch": {"lanes": 2, "lane_size": 4, "lanes_per_forward": 1},
        "train": {"steps": 7, "checkpoint_every": 4, "log_every": 3},
    }
    whole = configure(shards, folder / "whole", **settings)
    run(2, [whole])
    cases = []
    for kind in (*KINDS, "nothing"):
        config = configure(shards, folder / kind, **settings)
        shutil.copytree(whole.run_folder, config.run_folder)
        shutil.rmtree(list_checkpoints(Path(config.run_folder) / "checkpoints")[-1])
        cases.append((config, kind))
    run_ranks(resume_without, 2, cases)
    return {kind: Path(config.run_folder) for config, kind in cases} | {"whole": Path(whole.run_folder)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_is_not_restored_is_seen(forgetful_runs, kind):
    whole, here = forgetful_runs["whole"], forgetful_runs[kind]
    assert metrics_of(here) != metrics_of(whole)


def test_with_every_state_restored_the_disturbance_is_gone(forgetful_runs):
    whole, here = forgetful_runs["whole"], forgetful_runs["nothing"]
    assert metrics_of(here) == metrics_of(whole)
    assert_bitwise(final_state(here), final_state(whole))


def test_curves_and_counters_go_on_where_they_were(forgetful_runs):
    """Stopped after step 4 of 7; lines at 3, 6 and 7, of which the last two were written twice."""
    events = EventAccumulator(str(forgetful_runs["nothing"] / "tensorboard"))
    events.Reload()
    for tag, expected in (
        ("run/records_seen", [24, 48, 56]),
        ("objective/loss", None),
        ("run/elapsed_seconds", None),
    ):
        points = events.Scalars(tag)
        assert [point.step for point in points] == [3, 6, 7]
        assert expected in (None, [point.value for point in points])
    seconds = [point.value for point in events.Scalars("run/elapsed_seconds")]
    assert 0 < seconds[0] < seconds[1] < seconds[2] < 1000
    state = LoadedCheckpoint(list_checkpoints(forgetful_runs["nothing"] / "checkpoints")[0]).metadata
    assert state["elapsed_seconds"] < seconds[1]
