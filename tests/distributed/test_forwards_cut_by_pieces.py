"""Forwards cut by a budget of pieces: the run of uncut ones, on ranks that need unequally many of them."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from spe_dist.engine.deepspeed_engine import Engine
from spe_dist.train.loop import train
from spe_dist.train.run_diff import compare_runs
from spe_dist.train.session import Session
from tests.distributed.ranks import run_ranks
from tests.distributed.test_runs_of_marked_facts import configured as configured_facts
from tests.distributed.test_runs_of_marked_facts import shards as fact_shards  # noqa: F401, a fixture
from tests.exactness.conftest import shards  # noqa: F401, a fixture
from tests.exactness.runs import configure

pytestmark = pytest.mark.distributed
STEPS = 3
# Method: pieces of a forward, and the stage. A lane of MLM is always larger, and comes alone.
CUT = {"spe": (150, 2), "enpar": (150, 3), "erica": (450, 2), "mlm": (1, 1), "mtb": (500, 1)}


def configurations(text: Path, facts: Path, folder: Path, *, cut: bool) -> list:
    configs = []
    for method, (pieces, stage) in CUT.items():
        batch = {"lanes": 8, "lane_size": 2, "lanes_per_forward": 8, "pieces_per_forward": pieces if cut else None}
        if method == "mtb":
            config = configured_facts("mtb", {"mtb": facts}, folder / method, STEPS, stage=1, fused=8)
            config = replace(config, batch=replace(config.batch, **batch))
        else:
            train_ = {"steps": STEPS, "zero_stage": stage if cut else 1, "precision": "fp32"}
            config = configure(text, folder / method, method=method, batch=batch, train=train_)
        configs.append(config)
    return configs


def train_watched(configs):
    """Of each run on this rank: forwards that it needed and made at every step; bytes kept by forwards, tried first."""
    seen = []
    for config in configs:
        forwards, kept = [], [[], []]
        seen.append((forwards, kept))
        as_many, take_step, begin_step = Session._as_many_as_any_rank, Session.take_step, Engine.forward

        def watched(session, batches, forwards=forwards, as_many=as_many):
            even = as_many(session, batches)
            forwards.append((len(batches), len(even)))
            return even

        def weighed(engine, *args, kept=kept, forwards=forwards, forward=begin_step):
            kept[bool(forwards)].append(0)
            return forward(engine, *args)

        def keep(tensor, kept=kept, forwards=forwards):
            if kept[bool(forwards)]:
                kept[bool(forwards)][-1] += tensor.nbytes
            return tensor

        with ExitStack() as stack:
            stack.enter_context(patch.object(Session, "_as_many_as_any_rank", watched))
            stack.enter_context(patch.object(Engine, "forward", weighed))
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
            train(config)
    return seen


def test_a_cut_run_on_two_ranks_is_the_uncut_run_on_one(shards, fact_shards, tmp_path):  # noqa: F811
    uncut = configurations(shards, fact_shards["mtb"], tmp_path / "uncut", cut=False)
    cut = configurations(shards, fact_shards["mtb"], tmp_path / "cut", cut=True)
    (alone,) = run_ranks(train_watched, 1, uncut)
    ranks = run_ranks(train_watched, 2, cut)
    assert [forwards for forwards, _ in alone] == [[]] * len(CUT)
    for number, method in enumerate(CUT):
        comparison = compare_runs(Path(uncut[number].run_folder), Path(cut[number].run_folder), rtol=1e-5)
        assert comparison.difference is None, (method, str(comparison.difference))
        assert (comparison.steps, comparison.checkpoint) == ([1, 2, 3], STEPS), method
        needed, made = zip(*(zip(*rank[number][0], strict=True) for rank in ranks), strict=True)
        assert made[0] == made[1] == tuple(map(max, zip(*needed, strict=True))), method
        assert min(made[0]) > 1, method
        if method == "mlm":
            assert set(made[0]) == {4}
        else:
            assert needed[0] != needed[1], (method, "no rank made an empty forward")
        for rank in ranks:
            tried, met = rank[number][1]
            assert max(met) <= max(tried), method
