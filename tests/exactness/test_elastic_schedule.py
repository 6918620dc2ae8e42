"""A run whose number of ranks and ZeRO stage change on the way is the run of one rank that was left alone."""

from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch

from spe_dist.train import loop
from tests.distributed.ranks import run_ranks
from tests.exactness.runs import (
    DIGESTS,
    LOSSES,
    assert_bitwise,
    configure,
    disturbed_before_loading,
    final_state,
    metrics_of,
    run,
    stopped_after,
)

pytestmark = pytest.mark.distributed

WORLDS = (1, 2, 4, 3, 1)
STOPS = (5, 10, 14, 19, 24)  # after that many steps the world changes; the last one is the run's end
# Every change changes the stage; each leg has each once. `make test` runs the first.
STAGES = ((1, 2, 3, 1, 3), (2, 3, 1, 2, 1), (3, 1, 2, 3, 2))
SCHEDULES = [STAGES[0], *(pytest.param(stages, marks=pytest.mark.slow) for stages in STAGES[1:])]


def train_legs(cases):
    """Go on with several runs until each is stopped; the steps, and the state before the first and after the last."""
    return [train_leg(config, stop) for config, stop in cases]


def train_leg(config, stop):
    states = []

    @contextmanager
    def open_and_look(*args, open_session=loop.open_session):
        with open_session(*args) as session:
            states.append(state_here(session))
            yield session
            states.append(state_here(session))

    with (
        disturbed_before_loading(),
        stopped_after(stop, rank=0),
        patch.object(loop, "open_session", open_and_look),
    ):
        step = loop.train(config).step
    return step, *states


def state_here(session):
    """What this rank holds: its share of masters and moments, all of the rest. Nothing of it is rounded or summed."""
    state = dict(session.engine.read_state(lambda _, tensor: tensor.clone()))
    state |= {name: tensor.clone() for name, tensor in session.method.state().items()}
    names = [name.removesuffix(".master") for name in session.engine.state_names if name.endswith(".master")]
    with session.engine.gather_parameters(sorted(names)) as weights:
        state |= {f"{name}.compute": weight.clone() for name, weight in weights.items()}
    return state | {"adam_step": torch.tensor(session.engine.adam_step)}


def merged(states):
    """The state of all ranks; what several hold must be the same on each."""
    whole = {}
    for rank, state in enumerate(states):
        held = state.keys() & whole.keys()
        assert_bitwise({name: state[name] for name in held}, {name: whole[name] for name in held}, f"rank {rank}")
        whole |= state
    return whole


@pytest.fixture(scope="module")
def alone(method, shards, tmp_path_factory):
    """Folder of the run of one rank that nobody stops."""
    runs = tmp_path_factory.mktemp("alone")
    (folder,) = run(1, [configure(shards, runs, method=method, train={"steps": STOPS[-1]})])
    return folder


@pytest.fixture(scope="module")
def elastic(request, method, shards, tmp_path_factory):
    """{stages: (folder, [state before and after each leg])}."""
    folder = tmp_path_factory.mktemp("elastic")
    chosen = STAGES if request.config.getoption("--slow") else STAGES[:1]
    runs = {stages: (folder / "".join(map(str, stages)), []) for stages in chosen}
    for leg, (world, stop) in enumerate(zip(WORLDS, STOPS, strict=True)):
        cases = [
            (configure(shards, place, method=method, train={"steps": STOPS[-1], "zero_stage": stages[leg]}), stop)
            for stages, (place, _) in runs.items()
        ]
        ranks = run_ranks(train_legs, world, cases)
        for (_, states), *of_ranks in zip(runs.values(), *ranks, strict=True):
            steps, before, after = zip(*of_ranks, strict=True)
            assert steps == (stop,) * world
            states.append((merged(before), merged(after)))
    return {stages: (place / "debug", states) for stages, (place, states) in runs.items()}


@pytest.mark.parametrize("stages", SCHEDULES)
def test_every_step_is_that_of_one_rank_left_alone(method, elastic, alone, stages, report):
    """1 → 2 → 4 → 3 → 1 ranks: the same batches, masks and order of keys, and numbers to 1e-6, in fp32."""
    metrics, expected = metrics_of(elastic[stages][0]), metrics_of(alone)
    assert [line["step"] for line in metrics] == [line["step"] for line in expected] == list(range(1, STOPS[-1] + 1))
    for name in ("loss", "gradient_norm"):
        worst = max(abs(mine[name] / other[name] - 1) for mine, other in zip(metrics, expected, strict=True))
        report.append(
            {
                "what": f"{method.upper()}, 1, 2, 4, 3, 1 ranks against 1 rank, ZeRO 1",
                "case": f"ZeRO {', '.join(map(str, stages))}",
                "measure": f"{name}, largest relative difference in {STOPS[-1]} steps",
                "value": worst,
                "bound": 1e-6,
            }
        )
    for mine, other in zip(metrics, expected, strict=True):
        digests = DIGESTS[method]
        assert {name: mine.pop(name) for name in digests} == {name: other.pop(name) for name in digests}
        for name in (*LOSSES[method], "gradient_norm"):
            assert mine[name] == pytest.approx(other[name], rel=1e-6), (mine["step"], name)
        assert mine == pytest.approx(other, rel=1e-6, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("stages", SCHEDULES)
def test_right_after_a_change_the_state_is_bitwise_what_it_was_before(method, elastic, stages):
    """Masters, compute weights, moments, Adam's step, key encoder and queues; all ranks hold the same."""
    _, states = elastic[stages]
    for leg in range(1, len(WORLDS)):
        (_, before), (after, _) = states[leg - 1], states[leg]
        assert_bitwise(after, before, f"{WORLDS[leg - 1]} to {WORLDS[leg]} ranks")
        assert int(after["adam_step"]) == STOPS[leg - 1]
        kinds = {name.rpartition(".")[2] for name in after} | {name.partition(".")[0] for name in after}
        beside = {"key_encoder", "queue"} if method == "spe" else set()
        assert kinds >= {"master", "exp_avg", "exp_avg_sq", "compute", "adam_step"} | beside


@pytest.mark.parametrize("stages", SCHEDULES)
def test_the_last_checkpoint_differs_by_rounding_only(elastic, alone, stages):
    mine, other = (
        {name: tensor for name, tensor in final_state(folder).items() if not name.startswith("rng.")}
        for folder in (elastic[stages][0], alone)
    )
    assert mine.keys() == other.keys()
    for name, tensor in other.items():
        torch.testing.assert_close(mine[name], tensor, rtol=1e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")
