"""What SPE keeps and sends beside the trained weights and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.zero_footprint import Transfer, padded_elements, weight_bytes
from spe_dist.methods.spe.batch import SpanPairBatch
from spe_dist.methods.spe.config import SpeConfig
from spe_dist.methods.spe.model import SpeModel
from spe_dist.moco.key_queue import Negatives


def bytes_beside(config: SpeConfig, model: SpeModel) -> dict[str, int]:
    """Memory of a rank that a checkpoint holds: the fp32 key encoder and the two queues."""
    if not config.cspo.weight:
        return {}
    key_encoder = sum(parameter.numel() for parameter in model.encoder.parameters())
    of_a_record = 2 * 4 * model.encoder.key_size + 8  # its two keys and its id
    return {"key encoder": 4 * key_encoder, "queues": config.cspo.queue_size * of_a_record}


def bytes_made_again(config: SpeConfig, model: SpeModel) -> dict[str, int]:
    """Memory of a rank that a checkpoint does not hold: the rounded copy of the key encoder that makes keys."""
    if not config.cspo.weight or config.train.precision == "fp32":
        return {}
    return {"key encoder in bf16": 2 * sum(parameter.numel() for parameter in model.encoder.parameters())}


def transfers(config: SpeConfig, model: SpeModel, plan: BatchPlan) -> list[Transfer]:
    """Transfers of a step: keys, and at ZeRO stage 3 also weights for the key encoder."""
    if not config.cspo.weight:
        return []
    world = plan.world_size
    most_records = -(-plan.lanes // world) * plan.lane_size  # ranks with fewer send padding
    row = 2 + 2 * model.encoder.key_size  # a record's id, as two floats, and its two keys
    sent = [Transfer("keys", "all-gather", 4 * world * most_records * row)]
    if config.train.zero_stage == 3:
        sizes = [[parameter.numel() for parameter in model.encoder.parameters()]]
        weights = weight_bytes(config.train.precision) * padded_elements(sizes, stage=3, world_size=world)
        sent.append(Transfer("weights for the key encoder", "all-gather", weights))
    return sent


def try_forward(config: SpeConfig, model: SpeModel, batch: SpanPairBatch) -> Tensor:
    """Losses [5] of a batch whose queries are compared with a full queue of keys of no values."""
    if not config.cspo.weight:
        losses: Tensor = model(batch)[0]
        return losses
    size = model.encoder.key_size
    keys, *queues = (
        torch.empty(rows, size, device=batch.record_ids.device)
        for rows in (2 * len(batch.record_ids), config.cspo.queue_size, config.cspo.queue_size)
    )
    return model(batch, keys, Negatives(*queues))[0]
