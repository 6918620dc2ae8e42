"""What one topology saved, another one continues, as if nothing had happened."""

import pytest
import torch

from data_shards.errors import UserError
from spe_dist.checkpoint.snapshot import HostBuffers
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.checkpoint.training_state import collect, restore
from spe_dist.engine.deepspeed_engine import Engine, load_masters_into
from spe_dist.engine.world import World
from tests.distributed.ranks import run_ranks
from tests.distributed.toy import build_engine, build_toy, run_forwards, train, whole_state

pytestmark = pytest.mark.distributed
SAVED, END = 3, 6
PRECISIONS = ("fp32", "bf16")


def open_store(folder):
    return CheckpointStore(folder, keep_last=1, keep_every=0, world=World.from_environment())


def extras(value):
    return {"queue.keys": torch.full((5, 3), value), "queue.next": torch.tensor(int(value))}


def save_and_go_on(folder):
    """Train, save, train on: the uninterrupted runs of all stages."""
    results = {}
    for stage in (1, 2, 3):
        for precision in PRECISIONS:
            engine = build_engine(build_toy(), stage, precision)
            engine.initialise_optimizer(lambda engine=engine: run_forwards(engine, 99))
            train(engine, range(SAVED))
            state = collect(
                engine, extras(7.0), step=SAVED, elapsed_seconds=12.5, config={"stage": stage}, buffers=HostBuffers()
            )
            store = open_store(folder / f"{engine.world.size}-{stage}-{precision}")
            store.save(SAVED, state.tensors, state.metadata)
            expected_random = torch.rand(1).item()
            results[stage, precision] = (train(engine, range(SAVED, END)), whole_state(engine), expected_random)
    return results


def resume(folder, cases):
    """Go on from checkpoints of (world size, stage) at another stage."""
    results = {}
    for saved_world, saved_stage, stage, precision in cases:
        checkpoint = open_store(folder / f"{saved_world}-{saved_stage}-{precision}").latest()
        module = build_toy()
        load_masters_into(module, checkpoint.get)
        engine = build_engine(module, stage, precision)
        engine.initialise_optimizer(lambda engine=engine: run_forwards(engine, 99))
        targets = extras(0.0)
        restored = restore(engine, checkpoint, targets)
        assert all(torch.equal(targets[name], tensor) for name, tensor in extras(7.0).items())
        assert (restored.step, restored.elapsed_seconds) == (SAVED, 12.5)
        assert restored.random_states == (saved_world == engine.world.size)
        random = torch.rand(1).item()
        assert engine.adam_step == SAVED
        for name, tensor in whole_state(engine).items():
            assert torch.equal(tensor, checkpoint.get(name)), name
        losses = train(engine, range(SAVED, END))
        results[saved_world, saved_stage, stage, precision] = (losses, whole_state(engine), random)
    return results


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of the checkpoints, and what the uninterrupted runs did: {world size: {(stage, precision): result}}."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return folder, {world: run_ranks(save_and_go_on, world, folder)[0] for world in (1, 2)}


def cases(fp32, bf16):
    return [(*move, "fp32") for move in fp32] + [(*move, "bf16") for move in bf16]


def distance(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


# World size that resumes: (world size that saved, its stage, stage that resumes).
MOVES = {
    2: cases(
        fp32=[(2, 1, 1), (2, 2, 2), (2, 3, 3), (2, 1, 3), (2, 3, 2), (1, 2, 1), (1, 1, 3), (1, 3, 2)],
        bf16=[(2, 1, 1), (2, 2, 2), (2, 3, 3), (2, 1, 3), (1, 3, 2)],
    ),
    1: cases(
        fp32=[(1, 1, 1), (1, 3, 3), (2, 2, 3), (2, 3, 1), (2, 1, 2)],
        bf16=[(1, 1, 1), (2, 3, 2)],
    ),
}


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_resumed_run_is_the_uninterrupted_one_at_any_stage_and_world_size(runs, world_size):
    folder, uninterrupted = runs
    for results in run_ranks(resume, world_size, folder, MOVES[world_size]):
        for (saved_world, saved_stage, stage, precision), (losses, state, random) in results.items():
            case = f"{saved_world} ranks stage {saved_stage} -> {world_size} ranks stage {stage} {precision}"
            expected_losses, expected_state, expected_random = uninterrupted[saved_world][saved_stage, precision]
            assert set(state) == set(expected_state), case
            if (saved_world, saved_stage) == (world_size, stage):
                assert losses == expected_losses, case
                assert distance(state, expected_state) == 0.0, case
                assert random == expected_random, case
            elif precision == "fp32":
                assert losses == pytest.approx(expected_losses, rel=1e-6), case
                assert distance(state, expected_state) < 1e-6, case
            else:
                assert losses == pytest.approx(expected_losses, rel=0.02), case


def test_every_tensor_is_written_once_and_both_ranks_write(runs):
    folder, _ = runs
    (one,) = (folder / "1-1-fp32").glob("step-*/rank-*.safetensors")
    two = sorted((folder / "2-1-fp32").glob("step-*/rank-*.safetensors"))
    assert [path.name for path in two] == ["rank-00000-of-00002.safetensors", "rank-00001-of-00002.safetensors"]
    tensors = sum(path.stat().st_size for path in two) - one.stat().st_size
    assert tensors < 30_000, "only random states and headers come twice"


def resume_with_other_names(folder):
    checkpoint = open_store(folder / "1-1-fp32").latest()
    messages = []
    for change in ({"queue.other": torch.zeros(1)}, None, {"queue.keys": torch.zeros(4, 3)}):
        engine = build_engine(build_toy(), 1, "fp32")
        engine.initialise_optimizer(lambda engine=engine: run_forwards(engine, 99))
        with pytest.raises(UserError) as error:
            restore(engine, checkpoint, {} if change is None else extras(0.0) | change)
        messages.append(str(error.value))
    module = build_toy()
    module.bias = torch.nn.Parameter(torch.zeros(12))
    with pytest.raises(UserError) as error:
        load_masters_into(module, checkpoint.get)
    return [*messages, str(error.value)]


def resume_with_another_decay(folder):
    engine = Engine(build_toy(), world=World.from_environment(), accumulation=4, stage=1, precision="fp32")
    engine.initialise_optimizer(lambda: run_forwards(engine, 99))
    with pytest.raises(UserError) as error:
        restore(engine, open_store(folder / "1-1-fp32").latest(), extras(0.0))
    return str(error.value)


def test_a_parameter_that_decays_otherwise_is_named(runs):
    (message,) = run_ranks(resume_with_another_decay, 1, runs[0])
    assert "the weight decay of inner.0.weight is 0.1 in" in message and "and 0.01 here" in message


def collect_with_drifted_ranks():
    engine = build_engine(build_toy(), 1, "fp32")
    engine.initialise_optimizer(lambda: run_forwards(engine, 99))
    messages = []
    rows = torch.arange(6.0).reshape(3, 2)
    one_bit = rows.clone()
    one_bit.view(torch.int32)[1, 1] ^= 1
    for drifted in (one_bit, rows.flip(0), rows.bool()):
        tensors = extras(7.0) | {"queue.rows": rows if engine.world.is_first else drifted.to(rows.dtype)}
        with pytest.raises(UserError) as error:
            collect(engine, tensors, step=1, elapsed_seconds=0.0, config={}, buffers=HostBuffers())
        messages.append(str(error.value))
    return messages


def test_ranks_that_drifted_apart_save_nothing():
    """In the last bit of one value, in the order of rows, in everything."""
    for messages in run_ranks(collect_with_drifted_ranks, 2):
        assert len(messages) == 3
        assert all("ranks hold different values of queue.rows, which must be equal" in m for m in messages)


def test_tensors_that_do_not_fit_are_named(runs):
    ((lacking, surplus, shape, parameter_shape),) = run_ranks(resume_with_other_names, 1, runs[0])
    assert "lacks queue.other: resume with" in lacking
    assert "holds, without a place here, queue.keys, queue.next: resume with" in surplus
    assert "queue.keys has shape (5, 3) in" in shape and "and (4, 3) here" in shape
    assert "bias.master has shape (11,) and this model's (12,)" in parameter_shape
