"""Whole runs on one GPU: engine, loader, saves, STOP and resuming; and two ranks that share it, over gloo."""

from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from spe_dist.checkpoint.reader import list_checkpoints, step_of
from spe_dist.train import session
from spe_dist.train.loop import train
from spe_dist.train.run_log import read_metrics
from spe_dist.train.session import Session
from spe_dist.train.stop_signal import STOP_FILE
from tests.distributed.ranks import Ranks
from tests.distributed.toy import whole_state
from tests.exactness.conftest import shards  # noqa: F401 (a fixture)
from tests.exactness.runs import (
    DIGESTS,
    LOSSES,
    assert_bitwise,
    configure,
    disturbed_before_loading,
    final_state,
    metrics_of,
    train_all,
)
from tests.gpu.device import ON_GPU, on_device, only_on_a_gpu

pytestmark = [*on_device, pytest.mark.distributed]
STEPS, STOPPED_AFTER = 8, 4
OF_BF16 = 0.03  # by which losses may differ: rounding, and atomic sums in some backward passes on a GPU


def settings(folder: Path, shards: Path, *, method: str, workers: int = 0, dropout: bool = True, **train):  # noqa: F811
    """Of a run of a method in bf16."""
    return configure(
        shards,
        folder,
        method=method,
        encoder={"layers": 2, "hidden_size": 64, "heads": 2, "dropout": 0.1 * dropout},
        train={"steps": STEPS, "precision": "bf16", "zero_stage": 1, "log_every": 1} | train,
        data={"workers": workers},
        **({"heads_dropout": 0.1} if dropout else {}),
    )


@contextmanager
def stop_file_after(steps):
    """Someone creates the file STOP in the run's folder."""
    take_step, made = Session.take_step, 0

    def creating(here, batches, learning_rate):
        nonlocal made
        take_step(here, batches, learning_rate)
        made += 1
        if made == steps:
            (here.folder / STOP_FILE).touch()

    with patch.object(Session, "take_step", creating):
        yield


def stop_and_resume(cases):
    """Stop each run, start it again in a disturbed state; where it went on, and what of its state was not restored."""
    results = []
    for config in cases:
        with stop_file_after(STOPPED_AFTER):
            stopped = train(config).step
        wrong = []
        restore = session._restore

        def compared(checkpoint, engine, method, metrics, wrong=wrong, restore=restore):
            restored = restore(checkpoint, engine, method, metrics)
            here = whole_state(engine) | {name: tensor.cpu() for name, tensor in method.state().items()}
            wrong += [name for name, tensor in here.items() if not torch.equal(tensor.cpu(), checkpoint.get(name))]
            wrong += [] if len(here) > 20 else ["nothing was compared"]
            return restored

        with patch.object(session, "_restore", compared), disturbed_before_loading():
            finished = train(config).step
        results.append((stopped, finished, wrong))
    return results


def train_each(configs):
    """`train_all` for ranks: they find this one here, and so take what `device.py` puts in the place of spaCy."""
    train_all(configs)


@pytest.fixture(scope="module")
def one_rank():
    ranks = Ranks(1, one_gpu=True)
    yield ranks
    ranks.kill()


@pytest.fixture(scope="module")
def left_alone(shards, tmp_path_factory, one_rank):  # noqa: F811
    """A run of each method that nobody stopped: its folder."""
    folder = tmp_path_factory.mktemp("alone")
    configs = [settings(folder / method, shards, method=method) for method in LOSSES]
    one_rank.call(train_each, (configs,))
    return {method: Path(config.run_folder) for method, config in zip(LOSSES, configs, strict=True)}


@pytest.fixture(scope="module")
def resumed(shards, tmp_path_factory, one_rank):  # noqa: F811
    """A run of each method that saved every other step, was stopped and went on: folder, and what it came to.

    A process of its own loads SPE's batches.
    """
    folder = tmp_path_factory.mktemp("resumed")
    configs = [
        settings(
            folder / method, shards, method=method, workers=int(method == "spe"), checkpoint_every=2, keep_last=100
        )
        for method in LOSSES
    ]
    (results,) = one_rank.call(stop_and_resume, (configs,))
    return {m: (Path(c.run_folder), r) for m, c, r in zip(LOSSES, configs, results, strict=True)}


def assert_same_run(found: Path, expected: Path, method: str, *, losses: float) -> None:
    """The same records, masks and keys in the queue; losses within a bound."""
    lines = list(zip(read_metrics(found), read_metrics(expected), strict=True))
    assert [mine["step"] for mine, _ in lines] == list(range(1, STEPS + 1))
    for mine, theirs in lines:
        assert [mine[digest] for digest in DIGESTS[method]] == [theirs[digest] for digest in DIGESTS[method]]
        for loss in LOSSES[method]:
            assert mine[loss] == pytest.approx(theirs[loss], rel=losses), (mine["step"], loss)


@pytest.mark.parametrize("method", LOSSES)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(method, left_alone, resumed):
    """Its whole state comes back bit by bit; on a CPU so does all that follows, which is not promised on a GPU."""
    folder, (stopped, finished, wrong) = resumed[method]
    assert STOPPED_AFTER <= stopped < STEPS == finished
    assert wrong == []
    assert not (folder / STOP_FILE).exists()
    saved = {step_of(path) for path in list_checkpoints(folder / "checkpoints")}
    assert {2, 4, stopped, STEPS} <= saved
    assert_same_run(folder, left_alone[method], method, losses=OF_BF16)
    same = metrics_of(folder) == metrics_of(left_alone[method])
    print(f"{method}: after the restart {'bit by bit the same' if same else 'the same but for rounding'}")  # with -rP
    if not ON_GPU:
        assert same
        assert_bitwise(final_state(folder), final_state(left_alone[method]))


def test_two_ranks_on_one_gpu_are_the_run_of_one(shards, tmp_path, one_rank):  # noqa: F811
    methods = ("spe", "erica")
    one, two = (
        [settings(tmp_path / f"{n}_{method}", shards, method=method, dropout=False) for method in methods]
        for n in (1, 2)
    )
    one_rank.call(train_each, (one,))
    ranks = Ranks(2, one_gpu=True)
    try:
        ranks.call(train_each, (two,))
    finally:
        ranks.kill()
    for method, mine, theirs in zip(methods, two, one, strict=True):
        assert_same_run(Path(mine.run_folder), Path(theirs.run_folder), method, losses=OF_BF16)


@only_on_a_gpu
def test_metrics_have_the_memory_and_the_mfu_of_the_gpu(left_alone):
    line = read_metrics(left_alone["spe"])[-1]
    assert 0 < line["memory_gib"] < torch.cuda.get_device_properties(0).total_memory / 2**30
    assert 0 < line.get("mfu", 0.5) < 1
