"""Models, objectives, kernels, engine and training loop. Knows DeepSpeed, but no Ray and no cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spe_dist.export.span_pair_model import SpanPairModel
    from spe_dist.extraction.predict.extractor import Extractor

__all__ = ["Extractor", "SpanPairModel"]


def __getattr__(name: str) -> Any:
    # On use: importing any part of the package must not wait for torch and transformers.
    if name == "SpanPairModel":
        from spe_dist.export.span_pair_model import SpanPairModel

        return SpanPairModel
    if name == "Extractor":
        from spe_dist.extraction.predict.extractor import Extractor

        return Extractor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
