"""Model FLOPs of ERICA (see `model_flops.py`).

tests/unit/spe_dist/methods/erica/test_flops.py compares every part with torch's own counter.
"""

from __future__ import annotations

from transformers import PretrainedConfig

from spe_dist.methods.erica.config import EricaConfig
from spe_dist.methods.model_flops import embedding_size, encoder_flops
from spe_dist.methods.workload import Workload


def erica_flops(config: EricaConfig, encoder: PretrainedConfig, workload: Workload) -> int:
    """FLOPs of some steps on all ranks, forward and backward; what is encoded a second time counts once.

    Args:
        config: the run.
        encoder: sizes of its sentence encoder.
        workload: what the steps computed on.
    """
    hidden, table, counts, products = encoder.hidden_size, embedding_size(encoder), workload.counts, 0
    if config.mlm.weight:
        products += counts["mlm"] * table * (hidden + encoder.vocab_size)
    products += counts["candidates"] * hidden  # ED
    products += 2 * counts["comparisons"] * hidden  # RD: by head and by tail
    return 3 * (sum(encoder_flops(encoder, workload).values()) + 2 * products)
