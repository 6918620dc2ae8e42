"""Masked language modelling alone, on the same records and encoder: one query view, no spans, no keys.

What a step of it costs is the floor that the objectives of SPE are measured against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from data_shards.ragged import IntArray
from data_shards.reader import ShardReader
from data_shards.record import Records
from spe_dist.batches.batch import PackedSequences, SpanPairBatch
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.methods.measures import Measures
from spe_dist.methods.model_flops import encoder_flops
from spe_dist.methods.spe.collate import SpanPairCollate
from spe_dist.methods.spe.config import SpeConfig
from spe_dist.methods.spe.masking import HiddenPieces
from spe_dist.methods.spe.method import build_collate
from spe_dist.methods.work import Work
from spe_dist.models.sentence_encoder import SentenceEncoder, new_sentence_encoder, resolve_encoder_config
from spe_dist.models.transform_block import TransformBlock

if TYPE_CHECKING:
    from spe_dist.engine.deepspeed_engine import Engine

MASKED_SHARE = 0.15


@dataclass(frozen=True)
class MlmCollate:
    """One view of every record, 15 % of its pieces masked; made with the parts of SPE's collate."""

    spe: SpanPairCollate

    def __call__(self, records: Records, record_ids: IntArray, step: int, lanes: Sequence[int]) -> SpanPairBatch:
        """The forward of some lanes; of the batch, only what a single view needs is filled in."""
        pieces = records.pieces.values
        generator = np.random.default_rng([self.spe.seed, step, *lanes])
        masked = np.nonzero(generator.random(len(pieces)) < MASKED_SHARE)[0]
        hidden = HiddenPieces(pieces=masked, anchors=masked, offsets=np.zeros_like(masked))
        # The first span is the whole sentence, so the pair view shows all of it.
        word_boundaries = records.word_starts.lengths[:, None] * np.array([0, 0, 1, 1, 1, 1])
        drawn = self.spe.show(records, word_boundaries, hidden=hidden)
        both = self.spe.batch(drawn)
        half = len(records)
        num_pieces = int(both.packed.sequence_starts[half])
        packed = PackedSequences(
            piece_ids=both.packed.piece_ids[:num_pieces],
            positions=both.packed.positions[:num_pieces],
            sequence_starts=both.packed.sequence_starts[: half + 1],
            longest=both.packed.longest,
        )
        return replace(both, packed=packed, counts=torch.tensor([len(masked)]), record_ids=torch.arange(half))


class MlmModel(nn.Module):
    """BERT's own head on a sentence encoder: transform block, then the word embeddings as decoder."""

    def __init__(self, sentence_encoder: SentenceEncoder, *, dropout: float) -> None:
        super().__init__()
        table = sentence_encoder.word_embeddings.weight
        self.sentence_encoder = sentence_encoder
        self.block = TransformBlock(sentence_encoder.hidden_size, table.shape[1], dropout=dropout)
        self.decoder = nn.Linear(table.shape[1], table.shape[0])
        self.decoder.weight = table

    def forward(self, batch: SpanPairBatch) -> tuple[Tensor, Tensor]:
        """Sum of losses [1] and of pieces found [1]."""
        states = self.sentence_encoder(batch.packed)[batch.tbo_anchors]
        logits = self.decoder(self.block(states)).float()
        losses = nn.functional.cross_entropy(logits, batch.tbo_targets, reduction="sum")
        found = (logits.detach().argmax(dim=1) == batch.tbo_targets).sum()
        return losses[None], found[None].float()


class Mlm:
    """A method as the training session wants it.

    Args:
        config: the run whose encoder and data these are.
        reader: of its dataset.
        device: where it trains.
    """

    terms: Sequence[str] = ("mlm",)
    measures: Sequence[str] = ("found",)
    step_measures: Sequence[str] = ()
    term_weights: Sequence[float] = (1.0,)
    negatives = 0

    def __init__(self, config: SpeConfig, reader: ShardReader, *, device: torch.device) -> None:
        manifest = reader.manifest
        hf_config = resolve_encoder_config(
            config.encoder, vocab_size=manifest.tokenizer.vocab_size, max_pieces=manifest.max_pieces
        )
        self.encoder_json, self._encoder_config = hf_config.to_json_string(), hf_config
        self.collate = MlmCollate(build_collate(config, manifest))
        encoder = new_sentence_encoder(hf_config, packed=config.compute.packed)
        if config.compute.compile:
            encoder.compile_layers()
        self.model = MlmModel(encoder, dropout=config.heads_dropout)

    def forward(self, engine: Engine, batch: SpanPairBatch) -> tuple[Tensor, Tensor]:
        """Losses [1] and measures [1]."""
        return engine.forward(batch)

    def rehearse(self, engine: Engine, batch: SpanPairBatch) -> Tensor:
        """Losses of a forward that is no part of a step."""
        return engine.forward(batch)[0]

    def send_keys(self, world: World, plan: BatchPlan) -> None:
        """There are none."""

    def after_step(self, engine: Engine) -> Tensor:
        """Nothing follows."""
        return torch.zeros(0)

    def state(self) -> dict[str, Tensor]:
        """Nothing beyond the engine's."""
        return {}

    def model_flops(self, work: Work) -> int:
        """Encoder and head, forward and backward."""
        encoder = self._encoder_config
        head = encoder.hidden_size * (encoder.hidden_size + encoder.vocab_size)
        return 3 * (sum(encoder_flops(encoder, work).values()) + 2 * work.counts["mlm"] * head)

    def report(self, sums: Measures) -> dict[str, float | str]:
        """Loss and accuracy."""
        return {"mlm_loss": sums.mean_loss("mlm"), "mlm_accuracy": sums.share(["found"], ["mlm"])}
