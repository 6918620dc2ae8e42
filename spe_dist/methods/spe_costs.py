"""What SPE costs a rank beside ZeRO: what it sends in a step, and what its activations take. Pure."""

from __future__ import annotations

from transformers import PretrainedConfig

from spe_dist.batches.collate_span_pairs import TERMS
from spe_dist.batches.spans import NUM_SPANS
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.zero_config import Precision
from spe_dist.engine.zero_costs import Transfer, padded_elements, weight_bytes
from spe_dist.methods.spe import SpeModel
from spe_dist.methods.spe_config import SpeConfig
from spe_dist.methods.work import WORK, Work

_DIGESTS, _RECORD_ID = 2, 2  # counted as numbers that travel: digests of 8 bytes, a record's id as two floats


def spe_transfers(config: SpeConfig, model: SpeModel, plan: BatchPlan) -> list[Transfer]:
    """What a step sends beside DeepSpeed; tests/distributed/test_costs.py counts it.

    Args:
        config: the run.
        model: its model; may be without weights.
        plan: its ranks and lanes.
    """
    world = plan.world_size
    if world == 1:
        return []
    transfers = [
        Transfer("counts", "all-reduce", 1, 8 * (len(TERMS) + len(WORK) + _DIGESTS)),
        Transfer("stop flag", "all-reduce", 1, 4),
    ]
    if model.cspo is None:
        return transfers
    most_records = -(-plan.lanes // world) * plan.lane_size  # ranks with fewer send padding
    row = _RECORD_ID + 2 * model.encoder.key_size
    transfers.append(Transfer("keys", "all-gather", 1, 4 * world * most_records * row))
    if config.train.zero_stage == 3:
        sizes = [parameter.numel() for parameter in model.encoder.parameters()]
        whole = padded_elements([sizes], stage=3, world_size=world)
        # DeepSpeed gathers one parameter after another here.
        payload = weight_bytes(config.train.precision) * whole
        transfers.append(Transfer("weights for the key encoder", "all-gather", len(sizes), payload))
    return transfers


def activation_bytes(config: SpeConfig, encoder: PretrainedConfig, work: Work, *, precision: Precision) -> int:
    """What one forward pass keeps for its backward pass, roughly; the key pass keeps nothing.

    Counted are tensors that grow with pieces, spans, targets and comparisons; attention keeps no scores, as on CUDA.

    Args:
        config: the run.
        encoder: sizes of its sentence encoder.
        work: of the forward.
        precision: what the query pass computes in.
    """
    wide = weight_bytes(precision)
    total = work.pieces * _bytes_of_a_piece(encoder, wide)
    contrast, sequences = config.cspo.weight > 0, 2 * work.counts["cspo"]
    permuted = work.counts["spo_pair"] + work.counts["spo_context"]
    if contrast or config.spo.weight:
        spans = NUM_SPANS * sequences if contrast else permuted
        total += work.words * wide * encoder.hidden_size + spans * _bytes_of_a_span(config, wide)
    if contrast:
        total += 4 * (2 * 2 * work.comparisons)  # similarities, and those over the temperature, in both directions
    if config.tbo.weight:
        targets = work.counts["tbo_pair"] + work.counts["tbo_context"]
        total += targets * 4 * encoder.vocab_size  # log-probabilities in fp32
    return total


def _bytes_of_a_piece(encoder: PretrainedConfig, wide: int) -> int:
    hidden, inner = encoder.hidden_size, encoder.intermediate_size
    masks = 2 * hidden if encoder.hidden_dropout_prob else 0
    # Input, query, key, value, attended, sums before both norms, first norm's result; before and behind GELU.
    layer = wide * (8 * hidden + 2 * inner) + masks
    return encoder.num_hidden_layers * layer + wide * 2 * hidden  # and around the norm of the embeddings


def _bytes_of_a_span(config: SpeConfig, wide: int) -> int:
    cnn = config.span_encoder
    pooled = len(cnn.kernel_sizes) * cnn.channels
    # Extremes before GELU, both and their maximum behind it in fp32, where they were found; the block's three inputs.
    vector = 4 * (2 * pooled + 2 * pooled + 2 * pooled) + wide * (pooled + 2 * cnn.size)
    return vector + wide * (cnn.size + config.pair_encoder.attention_size)  # the vector itself, and tanh of its energy
