"""Model FLOPs by formula: a multiply and an add are two, and only matrix products are counted.

What a model needs, not what a machine did: no padding, no work of an empty forward, no element-wise arithmetic, no
optimizer. Here is what methods share; each has a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PretrainedConfig

from spe_dist.methods.workload import Workload
from spe_dist.models.architectures import window_of


def encoder_flops(encoder: PretrainedConfig, workload: Workload) -> dict[str, int]:
    """FLOPs of one forward pass of the sentence encoder over the pieces of a workload, by part."""
    hidden, inner, layers = encoder.hidden_size, encoder.intermediate_size, encoder.num_hidden_layers
    table = embedding_size(encoder)
    projected = table * hidden if table != hidden else 0  # ELECTRA's small tables
    gated = encoder.model_type == "modernbert"  # one more matrix inside
    weights = layers * (4 * hidden * hidden + (2 + gated) * hidden * inner) + projected + _convolution(encoder)
    window = window_of(encoder)
    nearby = 0 if window is None else encoder.layer_types.count("sliding_attention")
    looked_at = (layers - nearby) * workload.squared_lengths
    if window is not None:  # sums are known here, not lengths: a little much where short and long ones are mixed
        looked_at += nearby * min(workload.squared_lengths, workload.pieces * (2 * window + 1))
    return {
        "encoder linears": 2 * workload.pieces * weights,
        "encoder attention": 2 * 2 * hidden * looked_at + _distances(encoder, workload),  # query · key, weights · value
    }


def _convolution(encoder: PretrainedConfig) -> int:
    """Weights of the convolution beside the first layer of DeBERTa-v2's largest models."""
    size = getattr(encoder, "conv_kernel_size", 0)
    return size and size * encoder.hidden_size**2 // getattr(encoder, "conv_groups", 1)


def _distances(encoder: PretrainedConfig, workload: Workload) -> int:
    """FLOPs of DeBERTa's attention to distances: their projections, once per forward, and products with all of them."""
    if not getattr(encoder, "relative_attention", False):
        return 0
    most = encoder.max_relative_positions if encoder.max_relative_positions > 0 else encoder.max_position_embeddings
    buckets = getattr(encoder, "position_buckets", -1)
    distances = 2 * (buckets if buckets > 0 else most)
    once = workload.forwards * distances * encoder.hidden_size**2
    products = workload.pieces * distances * encoder.hidden_size
    return 2 * encoder.num_hidden_layers * len(encoder.pos_att_type or ()) * (once + products)


def span_taps_flops(words: int, hidden_size: int, kernel_sizes: Sequence[int], channels: int) -> int:
    """FLOPs of one forward pass of a span encoder's filters over words."""
    return 2 * words * hidden_size * sum(kernel_sizes) * channels


def span_block_flops(spans: int, kernel_sizes: Sequence[int], channels: int, size: int) -> int:
    """FLOPs of one forward pass of a span encoder's transform block."""
    return 2 * spans * len(kernel_sizes) * channels * size


def embedding_size(encoder: PretrainedConfig) -> int:
    """Size of a piece's embedding; ELECTRA's small ones are projected to the hidden size."""
    return getattr(encoder, "embedding_size", encoder.hidden_size)
