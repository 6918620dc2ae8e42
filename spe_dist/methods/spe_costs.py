"""What a step of SPE costs a rank beside ZeRO (see `costs.py`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from spe_dist.batches.five_spans import NUM_SPANS
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.zero_config import Precision
from spe_dist.engine.zero_costs import Transfer, padded_elements, weight_bytes
from spe_dist.methods.costs import RecordSizes, bytes_of_a_piece, bytes_of_a_span, exchanges_of_every_method
from spe_dist.methods.model_flops import Passes
from spe_dist.methods.spe.collate import TERMS
from spe_dist.methods.spe.config import SpeConfig
from spe_dist.methods.spe.flops import spe_flops
from spe_dist.methods.spe.method import Spe
from spe_dist.methods.spe.model import SpeModel, new_model
from spe_dist.methods.work import Work

_RECORD_ID = 2  # an id of 8 bytes travels as two floats
_TARGETS_PER_PIECE, _PERMUTED_SPANS = 0.079, 1.36  # of a sentence of Simple English Wikipedia (docs/results.md)


@dataclass(frozen=True)
class SpeCosts:
    """Of a configuration and the sizes of its sentence encoder."""

    config: SpeConfig
    encoder: PretrainedConfig
    model: SpeModel

    @classmethod
    def of(cls, config: SpeConfig, encoder: PretrainedConfig, *, entity_types: int = 0) -> SpeCosts:
        """With a model that has no weights; types of entities mean nothing to SPE."""
        with torch.device("meta"):
            return cls(config, encoder, new_model(config, encoder, None))

    def flops(self, work: Work) -> dict[str, Passes]:
        """See `Costs`."""
        return spe_flops(self.config, self.encoder, work)

    def transfers(self, plan: BatchPlan) -> list[Transfer]:
        """See `Costs`: keys travel, and at ZeRO-3 the weights that the key encoder follows."""
        config, model, world = self.config, self.model, plan.world_size
        transfers = exchanges_of_every_method((*TERMS, *Spe.counted), plan)
        if not config.cspo.weight or world == 1:
            return transfers
        most_records = -(-plan.lanes // world) * plan.lane_size  # ranks with fewer send padding
        row = _RECORD_ID + 2 * model.encoder.key_size
        transfers.append(Transfer("keys", "all-gather", 1, 4 * world * most_records * row))
        if config.train.zero_stage == 3:
            sizes = [parameter.numel() for parameter in model.encoder.parameters()]
            whole = padded_elements([sizes], stage=3, world_size=world)
            # DeepSpeed gathers one parameter after another here.
            payload = weight_bytes(config.train.precision) * whole
            transfers.append(Transfer("weights for the key encoder", "all-gather", len(sizes), payload))
        return transfers

    def activation_bytes(self, work: Work, *, precision: Precision) -> int:
        """See `Costs`."""
        config, encoder = self.config, self.encoder
        wide = weight_bytes(precision)
        total = work.pieces * bytes_of_a_piece(encoder, wide)
        contrast, sequences = config.cspo.weight > 0, 2 * work.counts["cspo"]
        permuted = work.counts["spo_pair"] + work.counts["spo_context"]
        if contrast or config.spo.weight:
            spans = NUM_SPANS * sequences if contrast else permuted
            # Beside what the span encoder keeps: the vector itself, and tanh of its energy.
            beside = wide * (config.span_encoder.size + config.pair_encoder.attention_size)
            of_a_span = bytes_of_a_span(config.span_encoder, wide) + beside
            total += work.words * wide * encoder.hidden_size + spans * of_a_span
        if contrast:
            total += 4 * (
                2 * 2 * work.counts["comparisons"]
            )  # similarities, and those over the temperature, in both directions
        if config.tbo.weight:
            targets = work.counts["tbo_pair"] + work.counts["tbo_context"]
            total += targets * 4 * encoder.vocab_size  # log-probabilities in fp32
        return total

    def expected_work(self, sizes: RecordSizes, records: int, *, forwards: int) -> Work:
        """See `Costs`; the queues are full."""
        config = self.config
        targets = int(records * sizes.pieces * _TARGETS_PER_PIECE) if config.tbo.weight else 0
        permuted = int(records * _PERMUTED_SPANS) if config.spo.weight else 0
        return Work(
            counts={
                "tbo_pair": targets,
                "tbo_context": 0,
                "spo_pair": permuted,
                "spo_context": 0,
                "cspo": records,
                "comparisons": records * config.cspo.queue_size,
            },
            forwards=forwards,
            pieces=int(2 * records * (sizes.pieces + 2)),
            squared_lengths=sizes.squared_lengths(2 * records),
            padded_pieces=0,
            words=int(2 * records * sizes.words),
        )

    def sequences(self) -> str:
        """See `Costs`."""
        return "each record in two views, of the pair and of the context"

    def assumptions(self, sizes: RecordSizes) -> list[str]:
        """See `Costs`."""
        return [
            f"{sizes.assumptions()} Two views of each record; {_TARGETS_PER_PIECE} hidden pieces a piece and "
            f"{_PERMUTED_SPANS} permuted spans a record as in Simple Wikipedia.",
            f"Queues full ({self.config.cspo.queue_size:,} records); whether a queue smaller than the batch trains as "
            "well is not predicted.",
        ]
