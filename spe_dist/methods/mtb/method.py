"""MTB (Baldini Soares et al., ACL 2019), readable beside the papers.

sentences     with markers around a head and a tail, each of which may be blank      documents/marked_facts.py
pairs         of the same two entities, or of one of them                            data_shards/pipeline/pairs.py
matching      σ(dot product) tells which; MLM on both sentences                      model.py
"""

from __future__ import annotations

import torch

from data_shards.shards.reader import ShardReader
from spe_dist.documents.marked_facts import ADDED_PIECES, MARKERS
from spe_dist.methods.method import Method
from spe_dist.methods.metric_sums import MetricSums
from spe_dist.methods.model_flops import embedding_size, encoder_flops
from spe_dist.methods.mtb.collate import build_collate
from spe_dist.methods.mtb.config import TERMS, MtbConfig
from spe_dist.methods.mtb.model import METRICS, MtbModel
from spe_dist.methods.workload import Workload
from spe_dist.models.saved_encoder import add_rows


def build_mtb(config: MtbConfig, reader: ShardReader, *, device: torch.device) -> Mtb:
    """A run's method."""
    return Mtb(config, reader)


class Mtb(Method):
    """One run's MTB.

    Args:
        config: the run.
        reader: reader of its dataset.
    """

    terms = TERMS
    metrics = METRICS
    added_pieces = ADDED_PIECES
    config: MtbConfig

    def __init__(self, config: MtbConfig, reader: ShardReader) -> None:
        super().__init__(config, reader)
        self.collate = build_collate(config, reader)
        encoder = self.new_encoder()
        add_rows(encoder, reader.manifest.tokenizer.vocab_size + len(MARKERS))
        self.encoder_config = encoder.model.config
        self.model = MtbModel(config, encoder)
        self.term_weights = (config.mtb.weight, config.mlm.weight)

    def model_flops(self, workload: Workload) -> int:
        """FLOPs of some steps on all ranks, forward and backward."""
        hidden, table = self.encoder_config.hidden_size, embedding_size(self.encoder_config)
        mlm = workload.counts["mlm"] * table * (hidden + self.encoder_config.vocab_size)
        return 3 * (sum(encoder_flops(self.encoder_config, workload).values()) + 2 * mlm)

    def report(self, sums: MetricSums) -> dict[str, float | str]:
        """What to log: accuracy beside that of the more frequent answer."""
        report = super().report(sums)
        if self.config.mtb.weight:
            same = sums.share(["mtb_same"], ["mtb"])
            report["mtb_chance"] = max(same, 1 - same)
        return report
