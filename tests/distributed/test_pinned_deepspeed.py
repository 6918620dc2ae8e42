"""What DeepSpeed does today and this project relies on or works around, seen through its public calls.

DeepSpeed tests itself with older releases of torch than this project runs on. If one of these tests fails after an
upgrade, nothing is wrong yet: read what it says and change `spe_dist/engine/deepspeed_engine.py` to match.
"""

import subprocess
import sys
from unittest.mock import patch

import deepspeed
import pytest
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
)
from torch.utils._python_dispatch import TorchDispatchMode

from spe_dist.engine.param_groups import param_groups
from spe_dist.engine.zero_config import deepspeed_config
from tests.distributed.ranks import run_ranks
from tests.distributed.toy import VOCABULARY, Toy

pytestmark = pytest.mark.distributed
IDS = torch.arange(VOCABULARY)


def raw_engine(stage, precision="bf16", accumulation=1, seed=0, lr=0.1, clip=0.0):
    torch.manual_seed(seed)
    module = Toy()
    adam = torch.optim.AdamW(param_groups(module, 0.1), lr=lr, fused=True)
    config = deepspeed_config(
        stage=stage,
        precision=precision,
        accumulation=accumulation,
        world_size=dist.get_world_size(),
        clip=clip,
        elements=sum(param.numel() for param in module.parameters()),
    )
    engine, *_ = deepspeed.initialize(model=module, optimizer=adam, config=config)
    return engine, adam


def fill(adam):
    for group in adam.param_groups:
        for flat in group["params"]:
            zeros = {kind: torch.zeros_like(flat) for kind in ("exp_avg", "exp_avg_sq")}
            adam.state[flat] = {"step": torch.zeros(()), **zeros}


def step(engine):
    engine.backward(engine(IDS))
    engine.step()


def outcome_of(action):
    try:
        action()
    except Exception as error:
        return type(error).__name__
    return "nothing raised"


def moments(engine):
    return [safe_get_full_optimizer_state(param, "exp_avg") for param in engine.module.parameters()]


def masters(engine):
    return [safe_get_full_fp32_param(param).clone() for param in engine.module.parameters()]


def link_states():
    seen = {}
    for stage, precision in ((1, "fp32"), (2, "fp32"), (2, "bf16")):
        engine, adam = raw_engine(stage, precision)
        step(engine)
        not_filled = outcome_of(lambda engine=engine: moments(engine))
        engine, adam = raw_engine(stage, precision)
        fill(adam)
        before_step = outcome_of(lambda engine=engine: moments(engine))
        step(engine)
        seen[stage, precision] = (not_filled, before_step, all(bool(moment.any()) for moment in moments(engine)))
    return seen


def optimizer_classes():
    cases = ((1, "bf16"), (1, "fp32"), (2, "bf16"), (3, "bf16"))
    return {case: type(raw_engine(*case)[0].optimizer).__name__ for case in cases}


def set_master():
    seen = {}
    for stage in (1, 2):
        engine, _ = raw_engine(stage)
        param = dict(engine.module.named_parameters())["inner.0.weight"]
        before = param.detach().clone()
        safe_set_full_fp32_param(param, torch.ones(param.shape))
        seen[stage] = (torch.equal(param, before), bool((safe_get_full_fp32_param(param) == 1).all()))
    return seen


def set_whole_at_stage_3():
    engine, _ = raw_engine(3)
    bias = dict(engine.module.named_parameters())["bias"]
    return outcome_of(lambda: safe_set_full_fp32_param(bias, torch.ones(VOCABULARY)))


def write_gathered():
    engine, _ = raw_engine(3)
    bias = dict(engine.module.named_parameters())["bias"]
    with deepspeed.zero.GatheredParameters([bias]), torch.no_grad():
        bias.fill_(5.0)
    with deepspeed.zero.GatheredParameters([bias]):
        return bias.detach().float().tolist()


def keep_state_keyed_by_flat_tensors():
    engine, adam = raw_engine(3)
    step(engine)
    return [len(group["params"]) for group in adam.param_groups], len(adam.state)


def skip_infinite_steps():
    seen = {}
    for stage in (1, 2, 3):
        for precision in ("bf16", "fp32"):
            engine, _ = raw_engine(stage, precision)
            before = masters(engine)
            engine.backward(engine(IDS) * float("inf"))
            engine.step()
            unchanged = all(torch.equal(*pair) for pair in zip(before, masters(engine), strict=True))
            seen[stage, precision] = (engine.was_step_applied(), unchanged)
    return seen


def average_gradients():
    """Gradient of A = 2 equal losses on W = 2 ranks over that of one loss, with and without DeepSpeed's division."""
    seen = {}
    for stage in (1, 2, 3):
        norms, boundaries = {}, []
        for accumulation, divide in ((1, False), (2, False), (2, True)):
            engine, _ = raw_engine(stage, "fp32", accumulation)
            for _ in range(accumulation):
                engine.backward(engine(IDS), scale_wrt_gas=divide)
                boundaries.append(engine.is_gradient_accumulation_boundary())
                engine.step()
            norms[accumulation, divide] = float(engine.get_global_grad_norm())
        seen[stage] = (norms[2, False] / norms[1, False], norms[2, True] / norms[1, False], boundaries)
    return seen


def start_from_rank_0():
    seen = {}
    for stage in (1, 2, 3):
        engine, _ = raw_engine(stage, seed=dist.get_rank())
        seen[stage] = sum(master.double().sum().item() for master in masters(engine))
    return seen


def step_without_learning_rate():
    seen = {}
    for stage in (1, 2, 3):
        engine, adam = raw_engine(stage, lr=0.0)
        fill(adam)
        before = masters(engine)
        step(engine)
        seen[stage] = all(torch.equal(*pair) for pair in zip(before, masters(engine), strict=True))
    return seen


def wait_for_the_device():
    """How often DeepSpeed asks to, in four steps of two forwards: its timer begins with the third."""
    seen, accelerator = {}, get_accelerator()
    for stage in (1, 2, 3):
        engine, _ = raw_engine(stage, accumulation=2)
        with patch.object(type(accelerator), "synchronize", autospec=True) as asked:
            for _ in range(8):
                step(engine)
        seen[stage] = asked.call_count
    return seen


class CountedReads(TorchDispatchMode):
    """How often a value of a tensor is asked for, which on a GPU is waited for."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.reads += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def read_values():
    """Values that DeepSpeed reads in the second step of two forwards: in the forwards and backwards, and in `step`."""
    seen = {}
    for stage in (1, 2, 3):
        engine, _ = raw_engine(stage, accumulation=2, clip=1.0)
        for _ in range(2):
            step(engine)
        with CountedReads() as passes:
            step(engine)
            engine.backward(engine(IDS))
        with CountedReads() as update:
            engine.step()
        seen[stage] = (passes.reads, update.reads)
    return seen


OBSERVATIONS = (
    optimizer_classes,
    set_master,
    set_whole_at_stage_3,
    write_gathered,
    keep_state_keyed_by_flat_tensors,
    skip_infinite_steps,
    average_gradients,
    start_from_rank_0,
    step_without_learning_rate,
    wait_for_the_device,
    read_values,
)


def observe():
    return {observation.__name__: observation() for observation in OBSERVATIONS}


@pytest.fixture(scope="module")
def seen():
    """Observations of both ranks."""
    return run_ranks(observe, 2)


def test_stages_1_and_2_show_no_state_of_a_second_group_unless_it_was_filled_in_before_the_first_step():
    # One rank: with more, those that hold no piece of the tensor would wait for the one that raised.
    (outcomes,) = run_ranks(link_states, 1)
    assert set(outcomes.values()) == {("ValueError", "TypeError", True)}


def test_stage_1_in_bf16_with_fp32_accumulation_is_another_optimizer_class(seen):
    # It holds whole fp32 gradients on every rank, so stage 2 is the leaner one; its state is reached in the same way.
    for rank in seen:
        assert rank["optimizer_classes"] == {
            (1, "bf16"): "BF16_Optimizer",
            (1, "fp32"): "DeepSpeedZeroOptimizer",
            (2, "bf16"): "DeepSpeedZeroOptimizer",
            (3, "bf16"): "DeepSpeedZeroOptimizer_Stage3",
        }


def test_setting_a_master_weight_leaves_the_compute_weight_alone(seen):
    for rank in seen:
        assert set(rank["set_master"].values()) == {(True, True)}


def test_stage_3_cannot_set_a_whole_tensor_whose_size_the_ranks_do_not_divide(seen):
    # The last rank's piece reaches past the end; on the others it does not.
    assert [rank["set_whole_at_stage_3"] for rank in seen] == ["nothing raised", "RuntimeError"]


def test_writing_gathered_parameters_without_a_modifier_rank_is_dropped_without_a_word(seen):
    for rank in seen:
        assert rank["write_gathered"] == [0.0] * VOCABULARY


def test_stage_3_empties_the_parameter_groups_but_keeps_the_state(seen):
    for rank in seen:
        assert rank["keep_state_keyed_by_flat_tensors"] == ([0, 0], 2)


def test_a_step_with_an_infinite_gradient_is_skipped_and_was_step_applied_says_so(seen):
    for rank in seen:
        assert set(rank["skip_infinite_steps"].values()) == {(False, True)}


def test_gradients_are_averaged_over_ranks_and_over_forwards_unless_told_not_to(seen):
    for rank in seen:
        for undivided, divided, boundaries in rank["average_gradients"].values():
            # Both ranks have the same loss: their average is that of one rank, whose two forwards are added up.
            assert undivided == pytest.approx(2.0)
            assert divided == pytest.approx(1.0)
            assert boundaries == [True, False, True, False, True]


def test_every_rank_starts_with_the_weights_of_rank_0(seen):
    first, second = (rank["start_from_rank_0"] for rank in seen)
    assert first == second
    assert first[1] == first[2] == pytest.approx(first[3])


def test_a_step_of_fused_adam_with_learning_rate_0_changes_no_bit(seen):
    for rank in seen:
        assert rank["step_without_learning_rate"] == {1: True, 2: True, 3: True}


def test_no_step_waits_for_the_whole_device(seen):
    """DeepSpeed's throughput timer does, in every forward and every step, unless it is off."""
    for rank in seen:
        assert rank["wait_for_the_device"] == {1: 0, 2: 0, 3: 0}


def test_a_step_reads_no_value_of_the_device_until_its_norm_is_known(seen):
    """Then, at stage 1, it asks whether the norm is finite and whether to clip; the first of these waits."""
    for rank in seen:
        assert rank["read_values"] == {1: (0, 2), 2: (0, 4), 3: (0, 1)}


ENGINE = """
import sys
from torch import nn
from spe_dist.engine.deepspeed_engine import Engine
from spe_dist.engine.world import World, start_process_group
start_process_group(World())
Engine(nn.Linear(2, 2), world=World(), accumulation=1, stage=1, precision="fp32")
sys.exit("torch._inductor.compile_fx" in sys.modules)
"""


def test_building_an_engine_loads_no_compiler():
    """It did, for an optimizer that nobody uses here: three seconds of every start."""
    done = subprocess.run([sys.executable, "-c", ENGINE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
