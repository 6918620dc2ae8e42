"""A few of the faults of `python -m tests.faults`, which tries all of them many times."""

import json
import shutil
from pathlib import Path

import pytest

from spe_dist.checkpoint.reader import list_checkpoints
from spe_dist.train.run_folder import CHECKPOINTS, METRICS
from tests.faults import catalogue
from tests.faults.command_runs import CommandRun
from tests.faults.laboratory import EVERY, Laboratory
from tests.faults.trials import Injected, judge, trials_of

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    return Laboratory(tmp_path_factory.mktemp("faults"), seed=5)


def one_try(laboratory, fault, times=1):
    """Of a fault; the run must have come to the end it would have come to anyway."""
    (tried,) = fault(laboratory, times)
    assert tried.verdict.wrong is None and tried.verdict.batches_lost_or_repeated == 0
    assert tried.faults == times
    return tried


def test_ranks_killed_at_random_instants_and_started_as_another_number_of_ranks(laboratory):
    tried = one_try(laboratory, catalogue.killed_at_random, times=3)
    assert len(tried.trials) == 3


@pytest.mark.slow
def test_ranks_of_erica_killed_at_random_instants_and_started_as_another_number_of_ranks(laboratory):
    assert len(one_try(laboratory, catalogue.killed_at_random_with_erica, times=3).trials) == 3


@pytest.mark.slow
def test_a_worker_killed_under_torchrun(laboratory):
    (trial,) = one_try(laboratory, catalogue.worker_killed_on_torchrun).trials
    assert trial.seconds > trial.own_seconds > 0


@pytest.mark.slow
@pytest.mark.ray
def test_a_worker_killed_under_ray(laboratory):
    (trial,) = one_try(laboratory, catalogue.workers_killed_on_ray).trials
    assert trial.steps_lost <= 2 * EVERY + 1


@pytest.mark.slow
@pytest.mark.ray
def test_a_loader_process_killed_under_ray(laboratory):
    def loaders(laboratory, ranks):
        return [child for child in ranks[0].children() if "spawn_main" in " ".join(child.cmdline())]

    alone = laboratory.alone  # before the run starts
    run = CommandRun(laboratory.config(data={"workers": 1}))
    tried = catalogue._killed(laboratory, run, alone, 1, loaders)
    assert tried.verdict.wrong is None and tried.trials[0].seconds < 300  # hang_seconds is 600


@pytest.mark.slow
@pytest.mark.ray
def test_a_driver_killed_and_the_same_command_again(laboratory):
    one_try(laboratory, catalogue.driver_killed)


@pytest.mark.slow
@pytest.mark.ray
def test_a_loss_that_is_not_a_number_once(laboratory):
    one_try(laboratory, catalogue.loss_not_finite_once)


@pytest.mark.parametrize("harm", ["lost", "repeated", "other", "loss", "no checkpoint", "damaged"])
def test_a_run_that_is_not_what_it_should_be_is_seen(laboratory, tmp_path, harm):
    folder = tmp_path / "run"
    shutil.copytree(laboratory.alone, folder)
    assert judge(folder, laboratory.alone).wrong is None
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    newest = list_checkpoints(folder / CHECKPOINTS)[-1]
    if harm == "lost":
        del lines[7]
    elif harm == "repeated":
        lines.insert(7, lines[6])
    elif harm == "other":
        lines[7]["digest_masks"] = lines[6]["digest_masks"]
    elif harm == "loss":
        lines[7]["tbo_loss"] *= 1.001
    elif harm == "no checkpoint":
        shutil.rmtree(newest)
    else:
        damage(next(newest.glob("rank-*")))
    (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    verdict = judge(folder, laboratory.alone)
    assert verdict.wrong is not None
    assert verdict.batches_lost_or_repeated == (harm in ("lost", "repeated", "other"))


def test_times_and_steps_are_read_from_the_list_of_starts(tmp_path):
    """Three faults: in a step, before the next attempt had made one, and in a step again."""
    starts = [(10.0, 0), (40.0, 6), (70.0, 9)]
    lines = [
        {"time": time, "after_step": step, "seconds": {"process and imports": 8.0, "engine": 3.0, "total": 11.0}}
        for time, step in starts
    ]
    (tmp_path / "starts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    faults = [Injected(20.0, 8), Injected(25.0, 8), Injected(50.0, 12)]
    first, second, third = trials_of(tmp_path, faults)
    assert (first.steps_lost, first.seconds) == (2, None)
    assert (second.steps_lost, second.seconds, second.own_seconds) == (0, 15.0, 3.0)
    assert (third.steps_lost, third.seconds) == (3, 20.0)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
