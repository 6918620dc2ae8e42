"""Model FLOPs of SPE by formula: a multiply and an add are two, and only matrix products are counted.

What the model needs, not what a machine did: no padding, no work of an empty forward, no element-wise arithmetic, no
optimizer. The query pass runs forward and backward, the key pass forward only.
tests/unit/spe_dist/methods/test_spe_flops.py compares every part with torch's own counter.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PretrainedConfig

from spe_dist.batches.permutations import NUM_CLASSES
from spe_dist.batches.spans import NUM_SPANS
from spe_dist.methods.spe_config import SpeConfig
from spe_dist.methods.work import Work


@dataclass(frozen=True)
class Passes:
    """FLOPs of one part."""

    forward: int
    backward: int
    keys: int  # forward again, by the key encoder

    @property
    def total(self) -> int:
        """Of all three."""
        return self.forward + self.backward + self.keys


def spe_flops(config: SpeConfig, encoder: PretrainedConfig, work: Work) -> dict[str, Passes]:
    """FLOPs of some steps on all ranks, by part.

    Args:
        config: the run.
        encoder: sizes of its sentence encoder.
        work: what the steps were about.
    """
    parts = encoder_flops(encoder, work) | _spans(config, encoder, work)
    contrast = config.cspo.weight > 0
    passes = {name: _trained(forward, keys=contrast) for name, forward in parts.items()}
    passes["heads"], passes["vocabulary logits"] = _heads(config, encoder, work)
    if contrast:
        key_size = encoder.hidden_size if config.cspo.head else config.span_encoder.size
        forward = 2 * (2 * key_size * work.comparisons)  # both directions
        passes["InfoNCE"] = Passes(forward, forward, 0)  # keys get no gradient
    return passes


def encoder_flops(encoder: PretrainedConfig, work: Work) -> dict[str, int]:
    """Of one forward pass of the sentence encoder over the work's pieces."""
    hidden, inner, layers = encoder.hidden_size, encoder.intermediate_size, encoder.num_hidden_layers
    embedding = _embedding_size(encoder)
    projected = embedding * hidden if embedding != hidden else 0  # ELECTRA's small tables
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner) + projected
    return {
        "encoder linears": 2 * work.pieces * weights,
        "encoder attention": layers * 2 * (2 * hidden * work.squared_lengths),  # query · key, weights · value
    }


def _spans(config: SpeConfig, encoder: PretrainedConfig, work: Work) -> dict[str, int]:
    """Of what stands between the encoder and the objectives."""
    hidden, cnn, attention = encoder.hidden_size, config.span_encoder, config.pair_encoder.attention_size
    contrast, sequences = config.cspo.weight > 0, 2 * work.counts["cspo"]
    if not contrast and not config.spo.weight:
        return {}
    spans = NUM_SPANS * sequences if contrast else _permuted(work)
    parts = {
        "span taps": 2 * work.words * hidden * sum(cnn.kernel_sizes) * cnn.channels,
        "span encoder": 2 * spans * len(cnn.kernel_sizes) * cnn.channels * cnn.size,
    }
    if contrast:
        per_span, per_sequence = cnn.size * attention + attention, hidden * attention
        positions = NUM_SPANS * 2 * config.pair_encoder.position_size * attention  # once a forward
        parts["pair encoder"] = 2 * (spans * per_span + sequences * per_sequence + work.forwards * positions)
        parts["projection head"] = 2 * sequences * hidden * (cnn.size + hidden) if config.cspo.head else 0
    return parts


def _heads(config: SpeConfig, encoder: PretrainedConfig, work: Work) -> tuple[Passes, Passes]:
    """Of TBO's and SPO's blocks, and of TBO's decoder."""
    embedding, block, logits = _embedding_size(encoder), 0, 0
    if config.tbo.weight:
        targets = work.counts["tbo_pair"] + work.counts["tbo_context"]
        block += targets * (encoder.hidden_size + config.tbo.offset_size) * embedding
        logits = targets * embedding * encoder.vocab_size
    if config.spo.weight:
        block += _permuted(work) * config.span_encoder.size * (config.span_encoder.size + NUM_CLASSES)
    return _trained(2 * block, keys=False), _trained(2 * logits, keys=False)


def _trained(forward: int, *, keys: bool) -> Passes:
    """Of matrix products whose both factors get a gradient."""
    return Passes(forward, 2 * forward, forward if keys else 0)


def _permuted(work: Work) -> int:
    return work.counts["spo_pair"] + work.counts["spo_context"]


def _embedding_size(encoder: PretrainedConfig) -> int:
    return getattr(encoder, "embedding_size", encoder.hidden_size)
