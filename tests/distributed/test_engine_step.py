"""One optimizer step over ranks is the step a single process would take."""

from unittest.mock import patch

import pytest
import torch
from torch import nn

from data_shards.errors import UserError
from spe_dist.engine import deepspeed_engine
from tests.distributed.ranks import run_ranks
from tests.distributed.toy import (
    PLAN,
    VOCABULARY,
    Toy,
    build_engine,
    build_toy,
    lane_ids,
    run_forwards,
    train,
    whole_state,
)

pytestmark = pytest.mark.distributed
FP32 = [(stage, "fp32") for stage in (1, 2, 3)]
BF16 = [(stage, "bf16") for stage in (1, 2, 3)]


def plain_first_moment():
    """The gradient of step 0 in one process without DeepSpeed, as Adam's first moment after it (clipping off)."""
    module = build_toy()
    loss = sum(module(lane_ids(0, lane)) for lane in range(PLAN["lanes"])) / (PLAN["lanes"] * PLAN["lane_size"])
    loss.backward()
    grads = {name: param.grad for name, param in module.named_parameters()}
    norm = torch.linalg.vector_norm(torch.stack([grad.norm() for grad in grads.values()])).item()
    return {f"{name}.exp_avg": 0.1 * grad for name, grad in grads.items()}, norm


def first_steps(cases):
    results = {}
    for stage, precision in cases:
        engine = build_engine(build_toy(), stage, precision, clip=0.0)
        engine.initialise_optimizer(lambda engine=engine: run_forwards(engine, 99))
        train(engine, range(1))
        results[stage, precision] = (whole_state(engine), engine.grad_norm, engine.adam_step)
    return results


def check_first_steps(results_of_ranks):
    moments, norm = plain_first_moment()
    for results in results_of_ranks:
        for (stage, precision), (state, grad_norm, adam_step) in results.items():
            tolerance = 1e-6 if precision == "fp32" else 0.03
            for name, expected in moments.items():
                scale = expected.abs().max().item()
                assert torch.allclose(state[name], expected, atol=tolerance * scale), (stage, precision, name)
            assert grad_norm == pytest.approx(norm, rel=tolerance)
            assert adam_step == 1


def dry_run():
    results = {}
    for stage, precision in FP32 + BF16:
        module = build_toy()
        if precision == "bf16":
            # What DeepSpeed starts from: its masters are the rounded weights.
            expected = {name: param.detach().bfloat16().float() for name, param in module.named_parameters()}
        else:
            expected = {name: param.detach().clone() for name, param in module.named_parameters()}
        engine = build_engine(module, stage, precision)
        random_state = torch.get_rng_state()
        engine.initialise_optimizer(lambda engine=engine: run_forwards(engine, 99))
        with engine.gather_parameters(expected) as weights:
            compute = {name: weight.float().clone() for name, weight in weights.items()}
        results[stage, precision] = (
            expected,
            compute,
            whole_state(engine),
            engine.adam_step,
            torch.equal(torch.get_rng_state(), random_state),
        )
    return results


def test_the_dry_run_changes_nothing(two):
    for rank in two:
        for case, (expected, compute, state, adam_step, same_random_state) in rank["dry_run"].items():
            assert adam_step == 0
            assert same_random_state
            for name, weight in expected.items():
                assert torch.equal(compute[name], weight), (case, name)
                assert torch.equal(state[f"{name}.master"], weight), (case, name)
                assert not state[f"{name}.exp_avg"].any() and not state[f"{name}.exp_avg_sq"].any(), (case, name)


def gather_inside_and_outside():
    engine = build_engine(build_toy(), 3, "bf16")
    engine.initialise_optimizer(lambda: run_forwards(engine, 99))
    train(engine, range(2))
    outside = {name: param.numel() for name, param in engine.module.named_parameters()}
    masters = {name: tensor for name, tensor in whole_state(engine).items() if name.endswith(".master")}
    with engine.gather_parameters(["words.weight", "inner.3.bias"]) as weights:
        inside = {name: weight.clone() for name, weight in weights.items()}
    losses = train(engine, range(2, 4))
    return outside, inside, masters, losses


def test_gathered_parameters_are_the_rounded_masters_and_training_goes_on(two):
    for rank in two:
        outside, inside, masters, losses = rank["gather"]
        assert set(outside.values()) == {0}, "at stage 3 every parameter is split, even small ones"
        assert set(inside) == {"words.weight", "inner.3.bias"}
        for name, weight in inside.items():
            assert torch.equal(weight, masters[f"{name}.master"].bfloat16())
        assert losses[1] < losses[0]


def mistakes():
    found = {}
    for stage, precision in ((1, "bf16"), (1, "fp32"), (2, "bf16"), (2, "fp32"), (3, "bf16")):
        engine = build_engine(build_toy(), stage, precision)
        engine.initialise_optimizer(lambda engine=engine: run_forwards(engine, 99))
        before = whole_state(engine)
        with pytest.raises(RuntimeError) as too_early:
            engine.step(0.1)
        for _ in range(engine.accumulation):
            loss = engine.forward(lane_ids(0, 0))
            engine.backward(loss * (float("nan") if engine.world.rank == 1 else 1.0))
        with pytest.raises(UserError) as not_finite:
            engine.step(0.1)
        after = whole_state(engine)
        unchanged = all(torch.equal(before[name], after[name]) for name in before)
        found[stage, precision] = (str(too_early.value), str(not_finite.value), unchanged)
    return found


def test_a_step_too_early_and_a_gradient_that_is_not_finite_are_named_on_every_rank(two):
    for rank in two:
        for too_early, not_finite, unchanged in rank["mistakes"].values():
            assert "exactly 2 forward and backward passes" in too_early
            assert "gradient of this step is not finite, no weight was changed" in not_finite
            assert unchanged


def grouped_and_not():
    """States and norms after steps of two forwards, as DeepSpeed computes them and grouped; clipped and not."""
    found = {}
    for clip in (0.0, 0.01):
        for grouped in (False, True):
            how = deepspeed_engine.group_gradients if grouped else id
            with patch.object(deepspeed_engine, "group_gradients", how):
                engine = build_engine(build_toy(), 1, "bf16", clip=clip)
            engine.initialise_optimizer(lambda engine=engine: run_forwards(engine, 99))
            train(engine, range(3))
            found[clip, grouped] = whole_state(engine), engine.grad_norm
            assert not any(parameter.grad is not None for parameter in engine.module.parameters()) or not grouped
    return found


def test_grouped_gradients_are_added_up_as_deepspeed_does_and_clipped_by_the_same_norm(two):
    for found in (rank["grouped"] for rank in two):
        (plain, norm), (grouped, grouped_norm) = found[0.0, False], found[0.0, True]
        assert all(torch.equal(plain[name], grouped[name]) for name in plain)
        assert grouped_norm == pytest.approx(norm, rel=1e-6)
        (plain, norm), (grouped, grouped_norm) = found[0.01, False], found[0.01, True]
        assert norm > 0.1 and grouped_norm == pytest.approx(norm, rel=1e-6)
        for name, expected in plain.items():
            torch.testing.assert_close(grouped[name], expected, rtol=1e-4, atol=1e-7, msg=name)


def in_place_and_not():
    """States and norms after steps of two forwards on one rank in fp32, as DeepSpeed takes them and without copies."""
    found = {}
    for clip in (0.0, 0.01):
        for in_place in (False, True):
            how = deepspeed_engine.keep_gradients_in_place if in_place else id
            with patch.object(deepspeed_engine, "keep_gradients_in_place", how):
                engine = build_engine(build_toy(), 1, "fp32", clip=clip)
            engine.initialise_optimizer(lambda engine=engine: run_forwards(engine, 99))
            train(engine, range(3))
            found[clip, in_place] = whole_state(engine), engine.grad_norm
    return found


def test_gradients_of_an_only_rank_stay_in_place_and_give_the_same_step(one):
    found = one[2]
    (plain, norm), (kept, kept_norm) = found[0.0, False], found[0.0, True]
    assert all(torch.equal(plain[name], kept[name]) for name in plain)
    assert kept_norm == pytest.approx(norm, rel=1e-6)
    (plain, norm), (kept, kept_norm) = found[0.01, False], found[0.01, True]
    assert norm > 0.1 and kept_norm == pytest.approx(norm, rel=1e-6)
    for name, expected in plain.items():
        torch.testing.assert_close(kept[name], expected, rtol=1e-4, atol=1e-7, msg=name)


class WithoutBias(Toy):
    """A toy whose bias takes part in some forwards only."""

    parts = iter(())

    def forward(self, ids):
        logits = nn.functional.linear(self.inner(self.words(ids)), self.words.weight)
        if next(self.parts):
            logits = logits + self.bias
        return nn.functional.cross_entropy(logits.float(), (ids + 1) % VOCABULARY, reduction="sum")


def forwards_without_a_gradient():
    """The bias after steps of two forwards, and the norms: with it in both, in the second, in the first, in neither."""
    found = {}
    for stage, precision in FP32 + BF16:
        torch.manual_seed(0)
        module = WithoutBias()
        engine = build_engine(module, stage, precision, clip=0.0)
        norms = []
        for step, parts in enumerate([(1, 1), (1, 1), (0, 1), (1, 0), (0, 0)]):  # the first one takes the memory
            module.parts = iter(parts)
            run_forwards(engine, step)
            engine.step(0.01)
            norms.append(engine.grad_norm)
        found[stage, precision] = whole_state(engine), norms
    return found


def test_a_forward_in_which_a_parameter_takes_no_part_gives_it_no_gradient_at_any_stage(two):
    for found in (rank["without a gradient"] for rank in two):
        for precision, tolerance in (("fp32", 1e-5), ("bf16", 0.03)):
            state, norms = found[1, precision]
            for stage in (2, 3):
                other, other_norms = found[stage, precision]
                assert other_norms == pytest.approx(norms, rel=tolerance), (stage, precision)
                moment = other["bias.exp_avg"]
                torch.testing.assert_close(moment, state["bias.exp_avg"], rtol=tolerance, atol=tolerance)


def unsaved_state():
    messages = []
    frozen = build_toy()
    frozen.bias.requires_grad_(False)
    buffered = build_toy()
    buffered.register_buffer("seen", torch.zeros(1))
    for module in (frozen, buffered):
        with pytest.raises(ValueError) as error:
            build_engine(module, 1, "fp32")
        messages.append(str(error.value))
    return messages


def on_one_rank():
    return first_steps(FP32 + BF16), unsaved_state(), in_place_and_not()


def on_two_ranks():
    return {
        "first_steps": first_steps(FP32 + BF16),
        "dry_run": dry_run(),
        "gather": gather_inside_and_outside(),
        "mistakes": mistakes(),
        "grouped": grouped_and_not(),
        "without a gradient": forwards_without_a_gradient(),
    }


@pytest.fixture(scope="module")
def one():
    """What one rank saw."""
    return run_ranks(on_one_rank, 1)[0]


@pytest.fixture(scope="module")
def two():
    """What each of two ranks saw."""
    return run_ranks(on_two_ranks, 2)


def test_one_rank_takes_the_step_of_plain_torch(one):
    check_first_steps([one[0]])


def test_two_ranks_take_the_step_of_plain_torch(two):
    check_first_steps([rank["first_steps"] for rank in two])


def test_three_ranks_with_empty_forwards_take_the_step_of_plain_torch():
    # 4 lanes on 3 ranks: two ranks have one lane and one empty forward.
    check_first_steps(run_ranks(first_steps, 3, FP32))


def test_state_that_a_checkpoint_would_lose_is_refused(one):
    frozen, buffered = one[1]
    assert "these would be lost: bias;" in frozen
    assert "these would be lost: seen;" in buffered
