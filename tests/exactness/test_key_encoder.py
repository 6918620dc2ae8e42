"""The key encoder is the exponential moving average of the query encoder's weights, whatever ZeRO does to these."""

from unittest.mock import patch

import deepspeed
import pytest
import torch
from deepspeed.utils import safe_get_full_fp32_param

from spe_dist.methods.spe import Spe
from spe_dist.train.loop import train
from tests.distributed.ranks import run_ranks
from tests.exactness.runs import configure

pytestmark = pytest.mark.distributed

M, STEPS, STAGES = 0.999, 500, (1, 2, 3)
LONG = {
    "batch": {"lanes": 2, "lane_size": 1, "lanes_per_forward": 1},
    "cspo": {"momentum": M, "queue_size": 48},
    "train": {"steps": STEPS, "precision": "bf16", "log_every": 100, "checkpoint_every": STEPS},
}


def follow(configs):
    """Train while averaging the query's weights in float64: norms of error and displacement, and items per step."""
    results = []
    for config in configs:
        average, start, counts = {}, {}, []
        forward, after_step = Spe.forward, Spe.after_step

        def counting(spe, engine, batch, counts=counts, forward=forward):
            counts.append(batch.counts.tolist())
            return forward(spe, engine, batch)

        def following(spe, engine, world, plan, average=average, start=start, after_step=after_step):
            keys = spe.momentum_encoder.state()
            if not start:
                start |= {name: key.double() for name, key in keys.items()}
                average |= {name: key.clone() for name, key in start.items()}
            after_step(spe, engine, world, plan)
            steps_made = int(spe.queue.enqueued) // plan.global_batch
            query = dict(engine.module.encoder.named_parameters())
            with deepspeed.zero.GatheredParameters(list(query.values()), enabled=engine.stage == 3):
                for name, weight in query.items():
                    average[name].mul_(M).add_(weight.detach().double(), alpha=1 - M)
                    if steps_made % 125 == 0:  # the weights that it follows are the rounded masters
                        assert torch.equal(weight, safe_get_full_fp32_param(weight).bfloat16())
            following.spe = spe
            spe.followed = {name: (key - average[name], key - start[name]) for name, key in keys.items()}

        with patch.object(Spe, "after_step", following), patch.object(Spe, "forward", counting):
            train(config)
        pairs = following.spe.followed.items()
        norms = {name: (float(error.norm()), float(moved.norm())) for name, (error, moved) in pairs}
        results.append((norms, counts))
    return results


@pytest.fixture(scope="module")
def followed(shards, tmp_path_factory):
    """{stage: [(norms, counts) of each rank]}."""
    folder = tmp_path_factory.mktemp("followed")
    settings = [LONG | {"train": LONG["train"] | {"zero_stage": stage}} for stage in STAGES]
    configs = [configure(shards, folder / str(stage), **s) for stage, s in zip(STAGES, settings, strict=True)]
    return dict(zip(STAGES, zip(*run_ranks(follow, 2, configs), strict=True), strict=True))


@pytest.mark.parametrize("stage", STAGES)
def test_after_500_steps_in_bf16_it_equals_an_average_in_float64(followed, stage):
    for norms, _ in followed[stage]:
        error, displacement = (sum(n[i] ** 2 for n in norms.values()) ** 0.5 for i in (0, 1))
        assert displacement > 0.1  # it has moved
        assert error <= 1e-4 * displacement
        assert all(moved > 0 for _, moved in norms.values())


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("terms", [slice(0, 2), slice(2, 4)], ids=["TBO", "SPO"])
def test_a_lane_without_targets_on_one_rank_only_does_not_stop_the_run(followed, stage, terms):
    """It did not, as the fixture is there; this makes sure that there were such steps, on either rank."""
    have = [tuple(any(count[terms]) for count in step) for step in zip(*(c for _, c in followed[stage]), strict=True)]
    assert len(have) == STEPS
    assert {(True, False), (False, True)} <= set(have)
