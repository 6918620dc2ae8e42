"""Model FLOPs of masked language modelling (see `model_flops.py`).

tests/paper/test_spanbert.py compares them with torch's own counter.
"""

from __future__ import annotations

from transformers import PretrainedConfig

from spe_dist.methods.mlm.config import MaskedLanguageConfig
from spe_dist.methods.model_flops import embedding_size, encoder_flops
from spe_dist.methods.workload import Workload


def masked_language_flops(config: MaskedLanguageConfig, encoder: PretrainedConfig, workload: Workload) -> int:
    """FLOPs of some steps on all ranks, forward and backward.

    Args:
        config: the run.
        encoder: sizes of its sentence encoder.
        workload: what the steps computed on.
    """
    hidden, table, counts, products = encoder.hidden_size, embedding_size(encoder), workload.counts, 0
    if config.mlm.weight:
        products += counts["mlm"] * table * (hidden + encoder.vocab_size)
    if config.sbo.weight:
        first = (2 * hidden + config.sbo.position_size) * hidden
        products += counts["sbo"] * (first + table * (hidden + encoder.vocab_size))
    return 3 * (sum(encoder_flops(encoder, workload).values()) + 2 * products)
