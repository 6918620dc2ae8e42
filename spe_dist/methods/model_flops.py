"""Model FLOPs by formula: a multiply and an add are two, and only matrix products are counted.

What a model needs, not what a machine did: no padding, no work of an empty forward, no element-wise arithmetic, no
optimizer. Here is what methods share; each has a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PretrainedConfig

from spe_dist.methods.workload import Workload


def encoder_flops(encoder: PretrainedConfig, workload: Workload) -> dict[str, int]:
    """Of one forward pass of the sentence encoder over the work's pieces."""
    hidden, inner, layers = encoder.hidden_size, encoder.intermediate_size, encoder.num_hidden_layers
    table = embedding_size(encoder)
    projected = table * hidden if table != hidden else 0  # ELECTRA's small tables
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner) + projected
    return {
        "encoder linears": 2 * workload.pieces * weights,
        "encoder attention": layers * 2 * (2 * hidden * workload.squared_lengths),  # query · key, weights · value
    }


def span_taps_flops(words: int, hidden_size: int, kernel_sizes: Sequence[int], channels: int) -> int:
    """Of one forward pass of a span encoder's filters over words."""
    return 2 * words * hidden_size * sum(kernel_sizes) * channels


def span_block_flops(spans: int, kernel_sizes: Sequence[int], channels: int, size: int) -> int:
    """Of one forward pass of a span encoder's transform block."""
    return 2 * spans * len(kernel_sizes) * channels * size


def embedding_size(encoder: PretrainedConfig) -> int:
    """Of a piece; ELECTRA's small tables are projected."""
    return getattr(encoder, "embedding_size", encoder.hidden_size)
