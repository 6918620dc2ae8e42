"""What ERICA keeps and sends beside the trained weights and their gradients."""

from __future__ import annotations

from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.zero_footprint import Transfer
from spe_dist.methods.erica.config import EricaConfig
from spe_dist.methods.erica.fact_pairs import COLUMNS
from spe_dist.methods.erica.model import EricaModel

ENTITIES_PER_DOCUMENT, FACTS_PER_DOCUMENT = 12.9, 7.2  # of the paper's documents


def bytes_beside(config: EricaConfig, model: EricaModel) -> dict[str, int]:
    """Memory of a rank: the vectors of the step's entities, and their gradients."""
    if not (config.rd.weight and config.rd.scope == "step"):
        return {}
    return {"entity vectors of a step and their gradients": 2 * _vector_bytes(config, model)}


def transfers(config: EricaConfig, model: EricaModel, plan: BatchPlan) -> list[Transfer]:
    """Transfers of a step: entity vectors, their gradients, rows of pairs; as many as the paper's documents have."""
    if not (config.rd.weight and config.rd.scope == "step"):
        return []
    vectors = _vector_bytes(config, model)
    rows = int(_documents(config) * (FACTS_PER_DOCUMENT + config.rd.na_pairs))
    return [
        Transfer("entity vectors", "all-gather", vectors),
        Transfer("their gradients", "all-reduce", vectors),
        Transfer("rows of pairs", "all-gather", 8 * COLUMNS * rows),
    ]


def _documents(config: EricaConfig) -> int:
    halved = 2 if config.ed.weight else 1
    return -(-config.batch.lane_size // halved) * config.batch.lanes


def _vector_bytes(config: EricaConfig, model: EricaModel) -> int:
    return int(4 * model.encoder.sentence_encoder.hidden_size * _documents(config) * ENTITIES_PER_DOCUMENT)
