"""Model FLOPs of SPE (see `model_flops.py`): the query pass runs forward and backward, the key pass forward only.

tests/unit/spe_dist/methods/spe/test_flops.py compares every part with torch's own counter.
"""

from __future__ import annotations

from dataclasses import replace

from transformers import PretrainedConfig

from spe_dist.batches.five_spans import NUM_SPANS
from spe_dist.methods.model_flops import (
    embedding_size,
    encoder_flops,
    span_block_flops,
    span_taps_flops,
)
from spe_dist.methods.spe.config import SpeConfig
from spe_dist.methods.spe.permutations import NUM_CLASSES
from spe_dist.methods.workload import Workload


def spe_flops(config: SpeConfig, encoder: PretrainedConfig, workload: Workload) -> int:
    """FLOPs of some steps on all ranks.

    Args:
        config: the run.
        encoder: sizes of its sentence encoder.
        workload: what the steps computed on.
    """
    encoded = encoder_flops(encoder, workload) | span_flops(config, encoder, workload)
    flops = 3 * (sum(encoded.values()) + head_flops(config, encoder, workload))
    if config.cspo.weight > 0:
        counts = workload.counts
        of_views = replace(
            workload,
            counts=dict(counts) | {"spo_pair": 0, "spo_context": 0},
            pieces=counts["view_pieces"],
            squared_lengths=counts["view_squared_lengths"],
            words=counts["view_words"],
        )
        key_pass = encoder_flops(encoder, of_views) | span_flops(config, encoder, of_views)
        key_size = encoder.hidden_size if config.cspo.head else config.span_encoder.size
        similarities = 2 * (2 * key_size * counts["comparisons"])  # in both directions
        flops += sum(key_pass.values()) + 2 * similarities  # keys get no gradient
    return flops


def span_flops(config: SpeConfig, encoder: PretrainedConfig, workload: Workload) -> dict[str, int]:
    """A forward pass of what stands between the encoder and the objectives, by part."""
    hidden, cnn, attention = encoder.hidden_size, config.span_encoder, config.pair_encoder.attention_size
    contrast, sequences = config.cspo.weight > 0, 2 * workload.counts["cspo"]
    if not contrast and not config.spo.weight:
        return {}
    spans = NUM_SPANS * sequences if contrast else 0
    if config.spans.whole_sentences or not contrast:
        spans += _permuted(workload)
    parts = {
        "span taps": span_taps_flops(workload.words, hidden, cnn.kernel_sizes, cnn.channels),
        "span encoder": span_block_flops(spans, cnn.kernel_sizes, cnn.channels, cnn.size),
    }
    if contrast:
        per_span, per_sequence = NUM_SPANS * (cnn.size * attention + attention), hidden * attention
        positions = NUM_SPANS * 2 * config.pair_encoder.position_size * attention  # once a forward
        parts["pair encoder"] = 2 * (sequences * (per_span + per_sequence) + workload.forwards * positions)
        parts["projection head"] = 2 * sequences * hidden * (cnn.size + hidden) if config.cspo.head else 0
    return parts


def head_flops(config: SpeConfig, encoder: PretrainedConfig, workload: Workload) -> int:
    """A forward pass of TBO's and SPO's heads."""
    table, products = embedding_size(encoder), 0
    if config.tbo.weight:
        targets = workload.counts["tbo_pair"] + workload.counts["tbo_context"]
        products += targets * table * (encoder.hidden_size + config.tbo.offset_size + encoder.vocab_size)
    if config.spo.weight:
        products += _permuted(workload) * config.span_encoder.size * (config.span_encoder.size + NUM_CLASSES)
    return 2 * products


def _permuted(workload: Workload) -> int:
    return workload.counts["spo_pair"] + workload.counts["spo_context"]
