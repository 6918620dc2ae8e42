"""ENPAR (Wang et al., EACL 2021), readable beside the paper.

    encoders      sentence encoder, entity and context encoder (CNNs), entity pair encoder     model.py, `EnparEncoder`
    entities      MET, masked entity typing                masking.py
                  MEP, masked entity prediction            masking.py
    entity pairs  ACD, adversarial context discrimination  rearrangements.py, adversarial_context_discrimination.py
                  PP, permutation prediction               rearrangements.py
    together      their weighted sum                       `Enpar.term_weights`

An objective of weight 0 costs nothing: copies of sentences that it alone needs are not encoded, its parts not built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from data_shards.shards.reader import ShardReader
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.methods.enpar.batch import EntityPairBatch
from spe_dist.methods.enpar.collate import build_collate
from spe_dist.methods.enpar.config import COUNTED, TERMS, EnparConfig
from spe_dist.methods.enpar.flops import enpar_flops
from spe_dist.methods.enpar.model import METRICS, EnparEncoder, EnparModel
from spe_dist.methods.method import Method
from spe_dist.methods.metric_sums import MetricSums
from spe_dist.methods.workload import Workload

if TYPE_CHECKING:  # DeepSpeed takes seconds to import; showing and exporting need none of it
    from spe_dist.engine.deepspeed_engine import Engine


def build_enpar(config: EnparConfig, reader: ShardReader, *, device: torch.device) -> Enpar:
    """A run's method; nothing of it is kept on the device beside the model."""
    return Enpar(config, reader)


class Enpar(Method):
    """One run's ENPAR: all of it happens within a forward.

    Args:
        config: the run.
        reader: reader of its dataset.
    """

    terms = TERMS
    metrics = METRICS
    counted = COUNTED

    config: EnparConfig

    def __init__(self, config: EnparConfig, reader: ShardReader) -> None:
        super().__init__(config, reader)
        self.collate = build_collate(config, reader)
        self.types = len(reader.manifest.entity_types)
        self.model = EnparModel(config, EnparEncoder(config, self.new_encoder()), types=self.types)
        self.term_weights = tuple(section.weight for section in (config.met, config.mep, config.acd, config.pp))

    def before_step(self, engine: Engine, world: World, plan: BatchPlan, batches: Sequence[EntityPairBatch]) -> Mapping:
        """Count what the encoders of contexts and pairs read."""
        return {
            "pairs": sum(len(batch.word_spans) for batch in batches),
            "context_words": sum(batch.unmasked_words for batch in batches),
        }

    def model_flops(self, workload: Workload) -> int:
        """FLOPs of some steps on all ranks."""
        return enpar_flops(self.config, self.encoder_config, workload, types=self.types)

    def report(self, sums: MetricSums) -> dict[str, float | str]:
        """What to log: also the accuracies on hidden entities and on permuted sentences."""
        report = super().report(sums)
        if self.config.met.weight:
            report["met_hidden_accuracy"] = sums.share(["met_hidden_found"], ["met_hidden"])
        if self.config.pp.weight:
            report["pp_moved_accuracy"] = sums.share(["pp_moved_found"], ["pp_moved"])
        return report
