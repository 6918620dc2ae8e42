"""Model FLOPs of SPE (see `model_flops.py`): the query pass runs forward and backward, the key pass forward only.

tests/unit/spe_dist/methods/spe/test_flops.py compares every part with torch's own counter.
"""

from __future__ import annotations

from transformers import PretrainedConfig

from spe_dist.batches.five_spans import NUM_SPANS
from spe_dist.methods.model_flops import (
    Passes,
    embedding_size,
    encoder_flops,
    span_block_flops,
    span_taps_flops,
    trained,
)
from spe_dist.methods.spe.config import SpeConfig
from spe_dist.methods.spe.permutations import NUM_CLASSES
from spe_dist.methods.work import Work


def spe_flops(config: SpeConfig, encoder: PretrainedConfig, work: Work) -> dict[str, Passes]:
    """FLOPs of some steps on all ranks, by part.

    Args:
        config: the run.
        encoder: sizes of its sentence encoder.
        work: what the steps were about.
    """
    parts = encoder_flops(encoder, work) | _spans(config, encoder, work)
    contrast = config.cspo.weight > 0
    passes = {name: trained(forward, keys=contrast) for name, forward in parts.items()}
    passes["heads"], passes["vocabulary logits"] = _heads(config, encoder, work)
    if contrast:
        key_size = encoder.hidden_size if config.cspo.head else config.span_encoder.size
        forward = 2 * (2 * key_size * work.counts["comparisons"])  # both directions
        passes["InfoNCE"] = Passes(forward, forward, 0)  # keys get no gradient
    return passes


def _spans(config: SpeConfig, encoder: PretrainedConfig, work: Work) -> dict[str, int]:
    """Of what stands between the encoder and the objectives."""
    hidden, cnn, attention = encoder.hidden_size, config.span_encoder, config.pair_encoder.attention_size
    contrast, sequences = config.cspo.weight > 0, 2 * work.counts["cspo"]
    if not contrast and not config.spo.weight:
        return {}
    spans = NUM_SPANS * sequences if contrast else _permuted(work)
    parts = {
        "span taps": span_taps_flops(work.words, hidden, cnn.kernel_sizes, cnn.channels),
        "span encoder": span_block_flops(spans, cnn.kernel_sizes, cnn.channels, cnn.size),
    }
    if contrast:
        per_span, per_sequence = cnn.size * attention + attention, hidden * attention
        positions = NUM_SPANS * 2 * config.pair_encoder.position_size * attention  # once a forward
        parts["pair encoder"] = 2 * (spans * per_span + sequences * per_sequence + work.forwards * positions)
        parts["projection head"] = 2 * sequences * hidden * (cnn.size + hidden) if config.cspo.head else 0
    return parts


def _heads(config: SpeConfig, encoder: PretrainedConfig, work: Work) -> tuple[Passes, Passes]:
    """Of TBO's and SPO's blocks, and of TBO's decoder."""
    table, block, logits = embedding_size(encoder), 0, 0
    if config.tbo.weight:
        targets = work.counts["tbo_pair"] + work.counts["tbo_context"]
        block += targets * (encoder.hidden_size + config.tbo.offset_size) * table
        logits = targets * table * encoder.vocab_size
    if config.spo.weight:
        block += _permuted(work) * config.span_encoder.size * (config.span_encoder.size + NUM_CLASSES)
    return trained(2 * block, keys=False), trained(2 * logits, keys=False)


def _permuted(work: Work) -> int:
    return work.counts["spo_pair"] + work.counts["spo_context"]
