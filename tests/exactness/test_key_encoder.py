"""The key encoder is the exponential moving average of the query encoder's weights, whatever ZeRO does to these."""

from unittest.mock import patch

import deepspeed
import pytest
import torch
from deepspeed.utils import safe_get_full_fp32_param

from spe_dist.engine.deepspeed_engine import Engine
from spe_dist.methods.spe.method import SpeWithContrast
from spe_dist.train.loop import train
from tests.distributed.ranks import run_ranks
from tests.exactness.runs import configure

pytestmark = pytest.mark.distributed

M, STAGES = 0.999, (1, 2, 3)
STEPS = 500
STEPS_IN_SHORT = 100  # in `make test`; all of them in `make test-exact`
LONG = {
    "run": {"seed": 5},  # in its 100 steps, lanes without a target fall to either rank
    "batch": {"lanes": 2, "lane_size": 1, "lanes_per_forward": 1},
    "cspo": {"momentum": M, "queue_size": 48},
    "train": {"precision": "bf16", "log_every": 100, "checkpoint_every": STEPS},
}


def flat(tensors):
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def follow(configs):
    """Train while averaging the query's weights in float64, right after each optimizer step.

    Gives the norm of the error, how far each parameter moved, and the items of each step.
    """
    results = []
    for config in configs:
        start, average, counts, method = [], [], [], []
        forward, step = SpeWithContrast.forward, Engine.step

        def counting(spe, engine, batch, counts=counts, start=start, average=average, method=method, forward=forward):
            if not start:
                method.append(spe)
                start.append(flat(spe.momentum_encoder.state().values()))
                average.append(start[0].clone())
            counts.append(batch.counts.tolist())
            return forward(spe, engine, batch)

        def following(engine, lr, average=average, method=method, counts=counts, step=step, config=config):
            step(engine, lr)
            if not average:  # the rehearsal
                return
            parameters = dict(engine.module.encoder.named_parameters())
            query = [parameters[name] for name in method[0].momentum_encoder.state()]
            with deepspeed.zero.GatheredParameters(query, enabled=engine.stage == 3):
                average[0].mul_(M).add_(flat(query), alpha=1 - M)
                if len(counts) in (1, config.train.steps):  # it follows the rounded masters
                    assert all(torch.equal(weight, safe_get_full_fp32_param(weight).bfloat16()) for weight in query)

        with patch.object(Engine, "step", following), patch.object(SpeWithContrast, "forward", counting):
            train(config)
        keys = method[0].momentum_encoder.state()
        sizes = [key.numel() for key in keys.values()]
        moved = (flat(keys.values()) - start[0]).split(sizes)
        error = flat(keys.values()) - average[0]
        results.append((float(error.norm()), [float(part.norm()) for part in moved], counts))
    return results


@pytest.fixture(scope="module")
def followed(request, shards, tmp_path_factory):
    """{stage: [(error, how far each parameter moved, items per step) of each rank]}."""
    folder = tmp_path_factory.mktemp("followed")
    steps = STEPS if request.config.getoption("--exact") else STEPS_IN_SHORT
    settings = [LONG | {"train": LONG["train"] | {"zero_stage": stage, "steps": steps}} for stage in STAGES]
    configs = [configure(shards, folder / str(stage), **s) for stage, s in zip(STAGES, settings, strict=True)]
    return dict(zip(STAGES, zip(*run_ranks(follow, 2, configs), strict=True), strict=True))


@pytest.mark.parametrize("stage", STAGES)
def test_after_hundreds_of_steps_in_bf16_it_equals_an_average_in_float64(followed, stage, report):
    for rank, (error, moved, counts) in enumerate(followed[stage]):
        displacement = sum(norm**2 for norm in moved) ** 0.5
        what, case = (
            "key encoder against an average in float64",
            f"rank {rank} of 2, ZeRO {stage}, bf16, {len(counts)} steps",
        )
        share = {"measure": "error, as a share of the displacement", "value": error / displacement, "bound": 1e-4}
        report.append({"what": what, "case": case} | share)
        assert displacement > 0.1  # it has moved
        assert min(moved) > 0
        assert error <= 1e-4 * displacement


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("terms", [slice(0, 2), slice(2, 4)], ids=["TBO", "SPO"])
def test_a_lane_without_targets_on_one_rank_only_does_not_stop_the_run(followed, stage, terms):
    """It did not, as the fixture is there; this makes sure that there were such steps, on either rank."""
    have = [
        tuple(any(count[terms]) for count in step)
        for step in zip(*(counts for _, _, counts in followed[stage]), strict=True)
    ]
    assert len(have) >= STEPS_IN_SHORT
    assert {(True, False), (False, True)} <= set(have)
