"""Encoders of spans and pairs from the sizes that an export or an extractor names."""

from __future__ import annotations

from spe_dist.models.entity_pair_encoder import EntityPairEncoder
from spe_dist.models.sizes import EntityPairEncoderSizes, PairEncoderSizes, SpanEncoderSizes
from spe_dist.models.span_encoder import SpanEncoder
from spe_dist.models.span_pair_encoder import SpanPairEncoder

PairEncoder = SpanPairEncoder | EntityPairEncoder


def span_encoder_of(sizes: SpanEncoderSizes, hidden_size: int, *, dropout: float) -> SpanEncoder:
    """A new span encoder on states of the given size."""
    return SpanEncoder(
        hidden_size, kernel_sizes=sizes.kernel_sizes, channels=sizes.channels, size=sizes.size, dropout=dropout
    )


def pair_encoder_of(
    sizes: PairEncoderSizes | EntityPairEncoderSizes,
    hidden_size: int,
    *,
    span: SpanEncoderSizes,
    context: SpanEncoderSizes,
    dropout: float,
) -> PairEncoder:
    """A new pair encoder: SPE's attention over five spans, or ENPAR's concatenation, as the sizes say."""
    if isinstance(sizes, EntityPairEncoderSizes):
        return EntityPairEncoder(span.size, context.size, sizes.size, dropout=dropout)
    return SpanPairEncoder(
        span.size, hidden_size, attention_size=sizes.attention_size, position_size=sizes.position_size, dropout=dropout
    )
