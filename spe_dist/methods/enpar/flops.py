"""Model FLOPs of ENPAR (see `model_flops.py`).

tests/unit/spe_dist/methods/enpar/test_flops.py compares every part with torch's own counter.
"""

from __future__ import annotations

from transformers import PretrainedConfig

from spe_dist.methods.enpar.config import EnparConfig
from spe_dist.methods.enpar.rearrangements import NUM_CLASSES
from spe_dist.methods.model_flops import (
    Passes,
    embedding_size,
    encoder_flops,
    span_block_flops,
    span_taps_flops,
    trained,
)
from spe_dist.methods.work import Work


def enpar_flops(config: EnparConfig, encoder: PretrainedConfig, work: Work, *, types: int) -> dict[str, Passes]:
    """FLOPs of some steps on all ranks, by part.

    Args:
        config: the run.
        encoder: sizes of its sentence encoder.
        work: what the steps were about.
        types: of entities, how many.
    """
    parts = encoder_flops(encoder, work) | _spans(config, encoder, work) | _heads(config, encoder, work, types)
    return {name: trained(forward) for name, forward in parts.items()}


def _spans(config: EnparConfig, encoder: PretrainedConfig, work: Work) -> dict[str, int]:
    """Of what stands between the encoder and the objectives."""
    hidden, entity, context = encoder.hidden_size, config.entity_encoder, config.context_encoder
    pairs = config.acd.weight > 0 or config.pp.weight > 0
    if not pairs and not config.met.weight:
        return {}
    entities = 2 * work.counts["pairs"] + work.counts["met"]
    parts = {
        "entity taps": span_taps_flops(work.words, hidden, entity.kernel_sizes, entity.channels),
        "entity encoder": span_block_flops(entities, entity.kernel_sizes, entity.channels, entity.size),
    }
    if pairs:
        parts["context taps"] = span_taps_flops(
            work.counts["context_words"], hidden, context.kernel_sizes, context.channels
        )
        parts["context encoder"] = span_block_flops(
            3 * work.counts["pairs"], context.kernel_sizes, context.channels, context.size
        )
        parts["pair encoder"] = (
            2 * work.counts["pairs"] * (2 * entity.size + 3 * context.size) * config.pair_encoder.size
        )
    return parts


def _heads(config: EnparConfig, encoder: PretrainedConfig, work: Work, types: int) -> dict[str, int]:
    table, pair, counts = embedding_size(encoder), config.pair_encoder.size, work.counts
    heads, logits = 0, 0
    if config.met.weight:
        heads += counts["met"] * config.entity_encoder.size * types
    if config.mep.weight:
        heads += counts["mep"] * encoder.hidden_size * table
        logits = counts["mep"] * table * encoder.vocab_size
    if config.acd.weight:
        heads += work.counts["pairs"] * pair
    if config.pp.weight:
        heads += counts["pp"] * pair * NUM_CLASSES
    return {"heads": 2 * heads, "vocabulary logits": 2 * logits}
