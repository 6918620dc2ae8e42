"""What a run would need and how fast it would be on other numbers of GPUs: a pure model, its assumptions written out.

    step = computing + what communication is not hidden behind it
    computing      = model FLOPs of a rank / (peak · MFU), or launching all kernels, whichever takes longer
    communicating  = bytes of a ring / bandwidth + latency · hops, for every transfer of the step

Weak scaling: every GPU keeps the recipe's lanes, so the global batch grows with the number of GPUs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from transformers import PretrainedConfig

from data_shards.errors import UserError
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.peak_flops import peak_flops
from spe_dist.engine.zero_costs import Transfer, zero_transfers
from spe_dist.methods.costs import Costs, RecordSizes
from spe_dist.methods.model_flops import Passes
from spe_dist.train.memory import checkpoint_bytes, group_sizes, rank_memory

WORLD_SIZES = tuple(2**power for power in range(13))
# Launched in a forward, with its backward and key pass; counted off the code.
_KERNELS_OF_A_LAYER, _KERNELS_BESIDE = 56, 300


@dataclass(frozen=True, kw_only=True)
class ClusterDescription:
    """The machines of a plan, and what is assumed of them."""

    gpu: str = "h200"
    """Its name; the peak of dense bf16 comes from spe_dist/engine/peak_flops.py."""
    peak_tflops: float | None = None
    """Peak of a GPU that is not in that table."""
    gpus_per_node: int = 8
    intra_node_gbs: float = 450.0
    """GB/s that a GPU sends to others of its node (NVLink, one direction)."""
    inter_node_gbs: float = 400.0
    """GB/s that a node sends to others, over all its network cards (8 of 400 Gb/s)."""
    latency_us: float = 5.0
    """Microseconds of a hop."""
    mfu: float = 0.35
    """Share of the peak that one GPU alone reaches when it has enough to do; log lines of a run say it."""
    launch_us: float = 8.0
    """Microseconds in which the host launches a kernel: small steps last as long as their launches."""
    overlap: float = 0.0
    """Share of the backward pass behind which gradients travel. As configured, DeepSpeed reduces them in one bucket at
    its end, which hides nothing."""

    def peak(self) -> float:
        """FLOP/s of a GPU.

        Raises:
            UserError: nobody says.
        """
        peak = self.peak_tflops * 1e12 if self.peak_tflops else peak_flops(self.gpu)
        if peak is None:
            raise UserError(f"the peak of a {self.gpu!r} is not known: give it as --peak-tflops")
        return peak


@dataclass(frozen=True)
class Sent:
    """A transfer of a step."""

    part: str
    collective: str
    calls: int
    payload_bytes: int
    wire_bytes: float  # that a rank sends
    seconds: float


@dataclass(frozen=True)
class Prediction:
    """A step on so many GPUs."""

    gpus: int
    records_per_step: int
    memory: dict[str, int]  # bytes by part, of the rank with most lanes
    sent: list[Sent]
    compute_seconds: float
    exposed_seconds: float  # of communication
    efficiency: float  # against one GPU with the same lanes

    @property
    def step_seconds(self) -> float:
        """Of computing and of waiting for others."""
        return self.compute_seconds + self.exposed_seconds


@dataclass(frozen=True)
class ScalePlan:
    """A recipe on a cluster."""

    parameters: int
    flops_of_a_record: dict[str, Passes]  # by part
    recipe: Prediction  # on the recipe's own number of GPUs, with its own global batch
    hours: float  # of the whole recipe there
    checkpoint_bytes: int
    checkpoints: int  # written
    checkpoints_kept: int
    scaling: list[Prediction]
    assumptions: list[str]

    def hours_of(self, prediction: Prediction) -> float:
        """Hours in which so many GPUs see as many records as the recipe does."""
        seconds_of_a_record = prediction.step_seconds / prediction.records_per_step
        recipe = self.recipe.step_seconds / self.recipe.records_per_step
        return self.hours * seconds_of_a_record / recipe


def plan_scaling(
    config: Config, encoder: PretrainedConfig, costs: Costs, sizes: RecordSizes, cluster: ClusterDescription
) -> ScalePlan:
    """Predict a recipe's memory, traffic and speed.

    Args:
        config: the recipe; `cluster.workers` are its GPUs.
        encoder: sizes of its sentence encoder.
        costs: of its method.
        sizes: of its records.
        cluster: the machines.

    Raises:
        UserError: the recipe has more workers than lanes, or the GPU's peak is not known.
    """
    model = costs.model
    batch, train, workers = config.batch, config.train, config.cluster.workers
    lanes_of_a_rank = -(-batch.lanes // workers)

    def predict(lanes: int, gpus: int) -> Prediction:
        plan = BatchPlan(lanes, batch.lane_size, batch.lanes_per_forward, gpus)
        return _predict(config, encoder, costs, sizes, cluster, plan)

    alone = predict(lanes_of_a_rank, 1)
    scaling = [_against(predict(lanes_of_a_rank * gpus, gpus), alone) for gpus in WORLD_SIZES]
    recipe = _against(predict(batch.lanes, workers), alone)
    written = -(-train.steps // train.checkpoint_every)
    forever = train.steps // train.keep_every if train.keep_every else 0
    return ScalePlan(
        parameters=sum(map(sum, group_sizes(model))),
        flops_of_a_record=costs.flops(costs.expected_work(sizes, 1, forwards=0)),
        recipe=recipe,
        hours=train.steps * recipe.step_seconds / 3600,
        checkpoint_bytes=checkpoint_bytes(config, model),
        checkpoints=written,
        checkpoints_kept=min(written, train.keep_last + forever),
        scaling=scaling,
        assumptions=[*_assumptions(cluster), *costs.assumptions(sizes)],
    )


def step_transfers(config: Config, costs: Costs, plan: BatchPlan) -> list[Transfer]:
    """What a step hands to collectives, DeepSpeed's and ours."""
    zero = zero_transfers(
        group_sizes(costs.model),
        stage=config.train.zero_stage,
        precision=config.train.precision,
        world_size=plan.world_size,
        accumulation=plan.accumulation,
    )
    return zero + costs.transfers(plan)


def _predict(
    config: Config,
    encoder: PretrainedConfig,
    costs: Costs,
    sizes: RecordSizes,
    cluster: ClusterDescription,
    plan: BatchPlan,
) -> Prediction:
    lanes = -(-plan.lanes // plan.world_size)  # of the rank with most, for which the others wait
    work = costs.expected_work(sizes, lanes * plan.lane_size, forwards=plan.accumulation)
    passes = costs.flops(work).values()
    useful = cluster.peak() * cluster.mfu
    backward = sum(part.backward for part in passes) / useful
    sent = [_sent(transfer, plan.world_size, cluster) for transfer in step_transfers(config, costs, plan)]
    gradients = sum(one.seconds for one in sent if one.part == "gradients")
    exposed = sum(one.seconds for one in sent) - min(gradients, cluster.overlap * backward)
    forward = min(plan.lanes_per_forward, lanes) * plan.lane_size
    of_a_forward = costs.expected_work(sizes, forward, forwards=1)
    activations = costs.activation_bytes(of_a_forward, precision=config.train.precision)
    memory = rank_memory(config, costs.model, world_size=plan.world_size) | {"activations": activations}
    kernels = plan.accumulation * (_KERNELS_OF_A_LAYER * encoder.num_hidden_layers + _KERNELS_BESIDE)
    compute = max(sum(part.total for part in passes) / useful, kernels * cluster.launch_us * 1e-6)
    return Prediction(plan.world_size, plan.global_batch, memory, sent, compute, exposed, efficiency=1.0)


def _sent(transfer: Transfer, world_size: int, cluster: ClusterDescription) -> Sent:
    wire = transfer.wire_bytes(world_size)
    one_node = world_size <= cluster.gpus_per_node
    bandwidth = 1e9 * (cluster.intra_node_gbs if one_node else min(cluster.intra_node_gbs, cluster.inter_node_gbs))
    hops = 2 * math.ceil(math.log2(world_size)) if transfer.collective == "all-reduce" else world_size - 1
    seconds = wire / bandwidth + transfer.calls * hops * cluster.latency_us * 1e-6
    return Sent(transfer.part, transfer.collective, transfer.calls, transfer.payload, wire, seconds)


def _against(prediction: Prediction, alone: Prediction) -> Prediction:
    """With its efficiency: records per second and GPU over those of one GPU with as many lanes as the fullest here."""
    speeds = [one.records_per_step / one.gpus / one.step_seconds for one in (prediction, alone)]
    return Prediction(**vars(prediction) | {"efficiency": speeds[0] / speeds[1]})


def _assumptions(cluster: ClusterDescription) -> list[str]:
    return [
        f"{cluster.gpu}: {cluster.peak() / 1e12:g} TFLOP/s at best, of which a GPU alone reaches {cluster.mfu:.0%} "
        "with enough to do: assumed until a run has logged its MFU. Optimizer and key encoder's update are in it.",
        f"No forward pass is shorter than its launches: {cluster.launch_us:g} us for each of about "
        f"{_KERNELS_OF_A_LAYER} kernels a layer and {_KERNELS_BESIDE} beside, with backward and key pass.",
        f"{cluster.gpus_per_node} GPUs a node; {cluster.intra_node_gbs:g} GB/s a GPU within it, "
        f"{cluster.inter_node_gbs:g} GB/s a node beyond it, all of it used by rings through all cards.",
        f"{cluster.latency_us:g} us a hop: 2 log2(W) hops for an all-reduce (tree), W - 1 for an all-gather or "
        "reduce-scatter (ring). No stragglers, waiting for data or failures; checkpoints and log lines not counted.",
        f"Gradients travel behind {cluster.overlap:.0%} of the backward pass; nothing else is hidden.",
        "Weak scaling keeps a GPU's lanes: the global batch grows with the GPUs; whether so large a batch trains as "
        "well is not predicted.",
        "Memory is the sum of what may be held at once; activations are a rough formula that no GPU has checked, for "
        "sentences of mean length: the longest ones need more. Allocator's losses and CUDA's own memory not counted.",
    ]
