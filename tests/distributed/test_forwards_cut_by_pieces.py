"""Forwards cut by a budget of pieces: the run of uncut ones, on ranks that need unequally many of them.

So are losses on held-out records and objectives' gradients, measured at the last step of these runs.
"""

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from spe_dist.checkpoint.snapshot import HostBuffers
from spe_dist.engine.deepspeed_engine import Engine
from spe_dist.train.gradients import StepGradients
from spe_dist.train.loop import train
from spe_dist.train.run_diff import compare_runs
from spe_dist.train.run_log import read_metrics
from spe_dist.train.session import Session
from tests.distributed.ranks import run_ranks
from tests.distributed.test_runs_of_marked_facts import configured as configured_facts
from tests.distributed.test_runs_of_marked_facts import shards as fact_shards  # noqa: F401, a fixture
from tests.exactness.conftest import shards  # noqa: F401, a fixture
from tests.exactness.runs import configure

pytestmark = pytest.mark.distributed
STEPS = 3
# Method: pieces of a forward, and the stage. A lane of MLM is always larger, and comes alone; those of MTB are alike.
CUT = {"spe": (160, 2), "enpar": (165, 3), "erica": (400, 2), "mlm": (1, 1), "mtb": (130, 1)}


def configurations(text: Path, facts: Path, folder: Path, *, cut: bool) -> list:
    configs = []
    for method, (pieces, stage) in CUT.items():
        batch = {"lanes": 8, "lane_size": 2, "lanes_per_forward": 8, "pieces_per_forward": pieces if cut else None}
        if method == "mtb":
            config = configured_facts("mtb", {"mtb": facts}, folder / method, STEPS, stage=1, fused=8)
            train_ = replace(config.train, evaluate_every=1000)
            config = replace(config, batch=replace(config.batch, **batch), train=train_)
        else:
            train_ = {"steps": STEPS, "zero_stage": stage if cut else 1, "precision": "fp32", "gradients_every": 3}
            held_out = {"held_out": 34}
            config = configure(text, folder / method, method=method, data=held_out, batch=batch, train=train_)
        configs.append(config)
    return configs


def train_watched(configs):
    return [Watched().train(config) for config in configs]


class Watched:
    """One run on this rank."""

    def __init__(self):
        self.forwards = []  # that were needed and that were made, at every step
        self.kept = [], []  # bytes that a forward keeps for its backward pass: of those tried first, and of the run's
        self.calls = []  # what comes before an update
        self.apart = False  # a step is being measured

    def train(self, config):
        as_many, forward, measure = Session._as_many_as_any_rank, Engine.forward, StepGradients.measure

        def watched(session, batches):
            even = as_many(session, batches)
            self.forwards.append((len(batches), len(even)))
            return even

        def weighed(engine, *args):
            self.kept[bool(self.forwards)].append(0)
            return forward(engine, *args)

        def keep(tensor):
            if (of_forwards := self.kept[bool(self.forwards)]) and not self.apart:
                of_forwards[-1] += tensor.nbytes
            return tensor

        def measured(*args):
            self.apart = True
            seconds = measure(*args)
            self.apart = False
            return seconds

        def noted(function, name):
            return lambda *args: (self.calls.append(name), function(*args))[1]

        with (
            patch.object(Session, "_as_many_as_any_rank", watched),
            patch.object(Engine, "forward", weighed),
            patch.object(StepGradients, "measure", measured),
            patch.object(Engine, "step", noted(Engine.step, "update")),
            patch.object(HostBuffers, "wait_for_copies", noted(HostBuffers.wait_for_copies, "wait")),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            train(config)
        return self.forwards, self.kept, self.calls


def test_a_cut_run_on_two_ranks_is_the_uncut_run_on_one(shards, fact_shards, tmp_path):  # noqa: F811
    uncut = configurations(shards, fact_shards["mtb"], tmp_path / "uncut", cut=False)
    cut = configurations(shards, fact_shards["mtb"], tmp_path / "cut", cut=True)
    (alone,) = run_ranks(train_watched, 1, uncut)
    ranks = run_ranks(train_watched, 2, cut)
    assert [forwards for forwards, *_ in alone] == [[]] * len(CUT)
    assert all(calls == ["update", *["wait", "update"] * STEPS] for *_, calls in alone)
    for number, method in enumerate(CUT):
        comparison = compare_runs(Path(uncut[number].run_folder), Path(cut[number].run_folder), rtol=1e-5)
        assert comparison.difference is None, (method, str(comparison.difference))
        assert (comparison.steps, comparison.checkpoint) == ([1, 2, 3], STEPS), method
        last = [read_metrics(Path(runs[number].run_folder))[-1] for runs in (uncut, cut)]
        assert all("held_out_loss" in line and any(name.startswith("gradients_") for name in line) for line in last)
        needed, made = zip(*(zip(*rank[number][0][:STEPS], strict=True) for rank in ranks), strict=True)
        assert made[0] == made[1] == tuple(map(max, zip(*needed, strict=True))), method
        assert min(made[0]) > 1, method
        assert (needed[0] != needed[1]) == (method in ("spe", "enpar", "erica")), "these make empty ones somewhere"
        for rank in ranks:
            tried, met = rank[number][1]
            assert max(met) <= max(tried), method
