"""Learning rates that fall from layer to layer ("discriminative fine-tuning")."""

from __future__ import annotations

import re
from typing import Literal

_LAYER = re.compile(r"sentence_encoder\.model\.(?:encoder\.layer|layers)\.(\d+)\.")  # the latter: ModernBERT's
_BEHIND_LAYERS = "sentence_encoder.model.final_norm."


def layer_rate(
    name: str, *, layers: int, decay: float, embeddings: Literal["lowest_layer", "full"], heads: float
) -> float:
    """The learning rate of a parameter of an extractor, as a share of the last layer's.

    Args:
        name: name of the parameter.
        layers: layers of the sentence encoder.
        decay: rate of a layer as a share of the rate of the layer above.
        embeddings: which rate the embeddings have: the lowest layer's, or the last one's.
        heads: rate of what is not the sentence encoder.
    """
    layer = _LAYER.match(name)
    if layer:
        return decay ** (layers - 1 - int(layer[1]))
    if name.startswith(_BEHIND_LAYERS):
        return 1.0
    if name.startswith("sentence_encoder."):
        return decay ** (layers - 1) if embeddings == "lowest_layer" else 1.0
    return heads
