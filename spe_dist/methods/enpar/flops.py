"""Model FLOPs of ENPAR (see `model_flops.py`).

tests/unit/spe_dist/methods/enpar/test_flops.py compares every part with torch's own counter.
"""

from __future__ import annotations

from transformers import PretrainedConfig

from spe_dist.methods.enpar.config import EnparConfig
from spe_dist.methods.enpar.rearrangements import NUM_CLASSES
from spe_dist.methods.model_flops import (
    embedding_size,
    encoder_flops,
    span_block_flops,
    span_taps_flops,
)
from spe_dist.methods.workload import Workload


def enpar_flops(config: EnparConfig, encoder: PretrainedConfig, workload: Workload, *, types: int) -> int:
    """FLOPs of some steps on all ranks, forward and backward.

    Args:
        config: the run.
        encoder: sizes of its sentence encoder.
        workload: what the steps computed on.
        types: number of types of entities.
    """
    forward = sum(encoder_flops(encoder, workload).values()) + _spans(config, encoder, workload)
    return 3 * (forward + _heads(config, encoder, workload, types))


def _spans(config: EnparConfig, encoder: PretrainedConfig, workload: Workload) -> int:
    """A forward pass of what stands between the encoder and the objectives."""
    entity, context = config.entity_encoder, config.context_encoder
    pairs = config.acd.weight > 0 or config.pp.weight > 0
    if not pairs and not config.met.weight:
        return 0
    flops = span_taps_flops(workload.words, encoder.hidden_size, entity.kernel_sizes, entity.channels)
    copies, words = workload.counts["pairs"], workload.counts["context_words"]
    entities = 2 * copies + workload.counts["met"]
    flops += span_block_flops(entities, entity.kernel_sizes, entity.channels, entity.size)
    if pairs:
        flops += span_taps_flops(words, encoder.hidden_size, context.kernel_sizes, context.channels)
        flops += span_block_flops(3 * copies, context.kernel_sizes, context.channels, context.size)
        flops += 2 * copies * (2 * entity.size + 3 * context.size) * config.pair_encoder.size
    return flops


def _heads(config: EnparConfig, encoder: PretrainedConfig, workload: Workload, types: int) -> int:
    """A forward pass of the objectives' heads."""
    table, pair, counts, products = embedding_size(encoder), config.pair_encoder.size, workload.counts, 0
    if config.met.weight:
        products += counts["met"] * config.entity_encoder.size * types
    if config.mep.weight:
        products += counts["mep"] * table * (encoder.hidden_size + encoder.vocab_size)
    if config.acd.weight:
        products += workload.counts["pairs"] * pair
    if config.pp.weight:
        products += counts["pp"] * pair * NUM_CLASSES
    return 2 * products
