import pytest
import torch

from data_shards.errors import UserError
from spe_dist.batches.batch import SIZES
from spe_dist.engine.zero_costs import Transfer, padded_elements, zero_memory, zero_transfers
from spe_dist.methods.costs import RecordSizes, costs_of
from spe_dist.methods.enpar_costs import EnparCosts
from spe_dist.methods.spe_costs import SpeCosts
from spe_dist.methods.work import Work
from spe_dist.moco.key_queue import Negatives
from spe_dist.models.packed_attention import layout_of
from spe_dist.models.sentence_encoder import resolve_encoder_config
from spe_dist.train.scale_plan import WORLD_SIZES, ClusterDescription, plan_scaling
from tests.paper import tiny_enpar, tiny_spe

GROUPS = [[143, 221, 221], [11, 17, 17, 17, 13]]  # as the toy's: what DeepSpeed did with them was written down


def plan(cluster=None, method=tiny_spe, **sections):
    config = method.tiny_config(**{"batch": {"lanes": 16}, "cluster": {"workers": 8}} | sections)
    encoder = resolve_encoder_config(config.encoder, vocab_size=20, max_pieces=128)
    costs = costs_of(config, encoder, None)
    return plan_scaling(config, encoder, costs, RecordSizes.guessed(20.0), cluster or ClusterDescription())


def payloads(stage, precision, world_size, accumulation):
    transfers = zero_transfers(
        GROUPS, stage=stage, precision=precision, world_size=world_size, accumulation=accumulation
    )
    return {transfer.part: (transfer.calls, transfer.payload) for transfer in transfers}


def test_stages_send_what_was_written_down():
    norm = {"gradient norm": (2, 8)}
    assert payloads(1, "fp32", 2, 2) == {"gradients": (1, 2640), "weights": (2, 2656)} | norm
    assert payloads(1, "bf16", 2, 2) == {"gradients": (1, 2656), "weights": (2, 1328)}
    assert payloads(2, "bf16", 2, 2) == {"gradients": (2, 5280), "weights": (2, 1328), "overflow": (1, 1)} | norm
    assert payloads(3, "bf16", 2, 2) == {
        "weights": (2, 2 * 1336),
        "gradients": (2, 2 * 2672),
        "gradient norm": (2, 16),
    }
    assert payloads(1, "fp32", 1, 1) == {"gradients": (1, 2640)} | norm


def test_a_rank_sends_less_than_the_payload_and_twice_that_of_a_sum():
    assert Transfer("x", "all-gather", 1, 800).wire_bytes(4) == 600
    assert Transfer("x", "all-reduce", 1, 800).wire_bytes(4) == 1200
    assert Transfer("x", "all-reduce", 1, 800).wire_bytes(1) == 0


def test_memory_of_many_ranks_is_that_of_one_spread_out():
    for stage in (1, 2, 3):
        for precision in ("fp32", "bf16"):
            one, many = (zero_memory(GROUPS, stage=stage, precision=precision, world_size=size) for size in (1, 4))
            assert many["masters"] * 4 == 4 * padded_elements(GROUPS, stage=stage, world_size=4) >= one["masters"]
            assert (many["weights"] < one["weights"]) == (stage == 3)
            assert (many["gradients"] < one["gradients"]) == (stage > 1)


@pytest.mark.parametrize("method", [tiny_spe, tiny_enpar])
def test_one_gpu_waits_for_nobody_and_many_wait_longer(method):
    scaling = plan(method=method).scaling
    assert [prediction.gpus for prediction in scaling] == list(WORLD_SIZES)
    assert scaling[0].efficiency == 1
    efficiencies = [prediction.efficiency for prediction in scaling]
    assert efficiencies == sorted(efficiencies, reverse=True)
    for prediction in scaling:
        assert prediction.records_per_step == prediction.gpus * scaling[0].records_per_step
        assert prediction.compute_seconds == pytest.approx(scaling[0].compute_seconds)
        if prediction.gpus > 1:
            assert prediction.exposed_seconds == pytest.approx(sum(one.seconds for one in prediction.sent))


def test_hidden_gradients_are_not_waited_for():
    clusters = [ClusterDescription(overlap=share, launch_us=0.0) for share in (0.0, 0.5)]
    exposed, hidden = (plan(cluster).scaling[3] for cluster in clusters)
    assert exposed.exposed_seconds > hidden.exposed_seconds > exposed.exposed_seconds - exposed.compute_seconds / 2


def test_small_steps_last_as_long_as_their_launches():
    slow, instant = (plan(ClusterDescription(launch_us=launch)).recipe for launch in (8.0, 0.0))
    assert slow.compute_seconds == pytest.approx((56 + 300) * 8e-6)  # one layer, one forward of two lanes
    assert instant.compute_seconds < 1e-6


def test_hours_are_of_the_recipe_on_its_own_gpus():
    planned = plan()
    assert planned.recipe.gpus == 8
    assert planned.hours == pytest.approx(400 * planned.recipe.step_seconds / 3600)
    assert planned.hours_of(planned.recipe) == pytest.approx(planned.hours)
    assert planned.checkpoints == 4
    assert planned.checkpoints_kept == 2


def test_lanes_that_do_not_divide_cost_efficiency():
    fast = ClusterDescription(latency_us=0.0, intra_node_gbs=1e15, launch_us=0.0)
    even, uneven = (plan(fast, batch={"lanes": lanes}).recipe for lanes in (16, 17))
    assert even.efficiency == pytest.approx(1)
    assert uneven.efficiency == pytest.approx(17 / 24)  # all wait for the GPU with three lanes


def test_a_gpu_without_a_published_peak_needs_one():
    with pytest.raises(UserError, match="--peak-tflops"):
        plan(ClusterDescription(gpu="abacus"))
    assert ClusterDescription(gpu="abacus", peak_tflops=2.0).peak() == 2e12


LAYERS = {"layers": 3, "hidden_size": 64, "intermediate_size": 256, "dropout": 0.0}


def spe_forward():
    spe, _ = tiny_spe.build_spe(encoder=LAYERS)
    batch = tiny_spe.forwards_of_step(spe, lanes_per_forward=6)[1][0]
    keys = spe.momentum_encoder.encode(batch)
    negatives = Negatives(*torch.randn(2, 64, keys.shape[1]))
    return spe, SpeCosts, batch, (keys, negatives)


def enpar_forward():
    enpar, _ = tiny_enpar.build_enpar(encoder=LAYERS)
    return enpar, EnparCosts, tiny_enpar.forwards_of_step(enpar, lanes_per_forward=6)[1][0], ()


@pytest.mark.parametrize("forward", [spe_forward, enpar_forward])
def test_activations_are_roughly_what_autograd_keeps(forward):
    method, costs, batch, inputs = forward()
    kept = {}
    parameters = {parameter.untyped_storage().data_ptr() for parameter in method.model.parameters()}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = method.model(batch, *inputs)  # alive, so that no address is used twice
    held = sum(size for at, size in kept.items() if at not in parameters)
    sizes = dict(zip(SIZES, batch.sizes.tolist(), strict=True))
    counts = dict(zip(method.terms, batch.counts.tolist(), strict=True))
    counts |= method.before_step(None, None, None, [batch]) | {"comparisons": len(batch.record_ids) * 64}
    work = Work(counts=counts, forwards=1, **sizes)
    predicted = costs.of(method.config, method.encoder_config).activation_bytes(work, precision="fp32")
    # In which a CPU pads, and keeps scores:
    groups = [(group.sequences, group.longest) for group in layout_of(batch.packed).groups]
    scores = 4 * 3 * 4 * sum(sequences * longest**2 for sequences, longest in groups)
    padded_pieces = sum(sequences * longest for sequences, longest in groups)
    padding = 3 * 4 * 4 * 64 * (padded_pieces - sizes["pieces"])  # query, key, value, attended
    assert predicted + scores + padding == pytest.approx(held, rel=0.1)
    assert len(result) >= 2


@pytest.mark.parametrize(
    "off", [{}, {"acd": {"weight": 0.0}}, {"pp": {"weight": 0.0}}, {"met": {"weight": 0.0}, "mep": {"weight": 0.0}}]
)
def test_the_work_of_enpar_is_what_its_batches_are(off):
    """But that the formula takes every perturbation and permutation to change the text."""
    enpar, _ = tiny_enpar.build_enpar(**off)
    batches = [tiny_enpar.forwards_of_step(enpar, step=step, lanes_per_forward=6)[1][0] for step in range(20)]
    records = tiny_enpar.RECORDS
    means = (
        len(values) / len(records)
        for values in (records.pieces.values, records.word_starts.values, records.entities.values)
    )
    expected = EnparCosts.of(enpar.config, enpar.encoder_config).expected_work(
        RecordSizes(*means), 20 * len(records), forwards=20
    )
    sizes = dict(zip(SIZES, sum(batch.sizes for batch in batches).tolist(), strict=True))
    for name in ("pieces", "words"):
        assert 0.75 < sizes[name] / getattr(expected, name) < 1.01, name
    for name, number in enpar.before_step(None, None, None, batches).items():
        assert 0.75 < number / expected.counts[name] < 1.01, name
    for term, count in zip(enpar.terms, sum(batch.counts for batch in batches).tolist(), strict=True):
        assert (count > 0) == (expected.counts[term] > 0)
        if term == "met":
            assert count == pytest.approx(expected.counts[term], rel=0.01)
