"""Masked language modelling: the baseline of all other methods, on the records of any dataset.

    pieces    MLM, masked language modelling (BERT): 15 % of the pieces           batches/masked_pieces.py
    spans     MLM of spans of words (SpanBERT, Joshi et al., TACL 2020)           span_masking.py
              SBO, span boundary objective: a piece from what is beside its span  span_boundary.py
    together  their weighted sum                                                  `MaskedLanguage.term_weights`

An objective of weight 0 costs nothing: its head is not built. There is no next-sentence prediction.
"""

from __future__ import annotations

import torch

from data_shards.shards.reader import ShardReader
from spe_dist.methods.method import Method
from spe_dist.methods.mlm.collate import build_collate
from spe_dist.methods.mlm.config import TERMS, MaskedLanguageConfig
from spe_dist.methods.mlm.flops import masked_language_flops
from spe_dist.methods.mlm.model import METRICS, MaskedLanguageModel
from spe_dist.methods.workload import Workload


def build_masked_language(config: MaskedLanguageConfig, reader: ShardReader, *, device: torch.device) -> MaskedLanguage:
    """A run's method; nothing of it is kept on the device beside the model."""
    return MaskedLanguage(config, reader)


class MaskedLanguage(Method):
    """One run's masked language modelling: all of it happens within a forward.

    Args:
        config: the run.
        reader: reader of its dataset.
    """

    terms = TERMS
    metrics = METRICS
    config: MaskedLanguageConfig

    def __init__(self, config: MaskedLanguageConfig, reader: ShardReader) -> None:
        super().__init__(config, reader)
        self.collate = build_collate(config, reader)
        self.model = MaskedLanguageModel(config, self.new_encoder())
        self.term_weights = (config.mlm.weight, config.sbo.weight)

    def model_flops(self, workload: Workload) -> int:
        """FLOPs of some steps on all ranks."""
        return masked_language_flops(self.config, self.encoder_config, workload)
