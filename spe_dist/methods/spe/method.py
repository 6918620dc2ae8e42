"""SPE (Wang et al., EMNLP 2020), readable beside the paper.

    encoders      sentence encoder, span encoder (CNN), span pair encoder (attention)     `SpeEncoder`
    tokens        TBO, token boundary objective                                           token_boundary.py
    spans         SPO, span permutation objective                                         span_permutation.py
    span pairs    CSPO, contrastive span pair objective; Figure 6, its queue and f_m      `Spe`, moco/
    together      their weighted sum                                                      `Spe.term_weights`

An objective of weight 0 costs nothing: its parts are not built, and for CSPO there is no key pass and no queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from data_shards.errors import UserError
from data_shards.manifest import Manifest
from data_shards.reader import ShardReader
from spe_dist.batches.batch import SpanPairBatch
from spe_dist.batches.packing import SpecialPieces
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.engine.zero_footprint import Transfer, padded_elements, weight_bytes
from spe_dist.methods.measures import Measures
from spe_dist.methods.spe.collate import TERMS, SpanPairCollate
from spe_dist.methods.spe.config import SpeConfig
from spe_dist.methods.spe.contrastive_span_pair import MEASURES as CSPO_MEASURES
from spe_dist.methods.spe.contrastive_span_pair import (
    STEP_MEASURES,
    ContrastiveSpanPairObjective,
    Negatives,
    count_found_in_step,
)
from spe_dist.methods.spe.flops import spe_flops
from spe_dist.methods.spe.geometry_probe import build_probes
from spe_dist.methods.spe.span_permutation import SpanPermutationObjective
from spe_dist.methods.spe.token_boundary import TokenBoundaryObjective
from spe_dist.methods.work import Work
from spe_dist.moco.gather import GlobalOrderGather
from spe_dist.moco.key_queue import KeyQueue
from spe_dist.moco.momentum_encoder import MomentumEncoder
from spe_dist.models.projection_head import ProjectionHead
from spe_dist.models.sentence_encoder import (
    SentenceEncoder,
    build_sentence_encoder,
    new_sentence_encoder,
    resolve_encoder_config,
)
from spe_dist.models.span_encoder import SpanEncoder
from spe_dist.models.span_pair_encoder import SpanPairEncoder

if TYPE_CHECKING:  # DeepSpeed takes seconds to import; showing and exporting need none of it
    from spe_dist.engine.deepspeed_engine import Engine


@dataclass(frozen=True)
class Encoded:
    """What `SpeEncoder` makes of a batch; parts that no objective needs are None."""

    states: Tensor  # [P, H]
    spans: Tensor | None  # [S, 5, span size] if CSPO is on, [Q, span size] of the permuted spans if only SPO is
    queries: Tensor | None  # [S, D]


class SpeEncoder(nn.Module):
    """f of the paper's Figure 6: sentence encoder, span encoder, span pair encoder and projection head.

    Args:
        config: the run.
        sentence_encoder: its sentence encoder.
    """

    def __init__(self, config: SpeConfig, sentence_encoder: SentenceEncoder) -> None:
        super().__init__()
        hidden, size, dropout = sentence_encoder.hidden_size, config.span_encoder.size, config.heads_dropout
        contrast = config.cspo.weight > 0
        self.normalize = config.cspo.normalize
        self.sentence_encoder = sentence_encoder
        self.span_encoder = self.pair_encoder = self.head = None
        if contrast or config.spo.weight > 0:
            self.span_encoder = SpanEncoder(
                hidden,
                kernel_sizes=config.span_encoder.kernel_sizes,
                channels=config.span_encoder.channels,
                size=size,
                dropout=dropout,
            )
        if contrast:
            self.pair_encoder = SpanPairEncoder(
                size,
                hidden,
                attention_size=config.pair_encoder.attention_size,
                position_size=config.pair_encoder.position_size,
                dropout=dropout,
            )
        if contrast and config.cspo.head:
            self.head = ProjectionHead(size, hidden, dropout=dropout)
        self.key_size = hidden if config.cspo.head else size

    def forward(self, batch: SpanPairBatch) -> Tensor:
        """Queries or keys of all sequences, [S, D]."""
        queries = self.encode(batch).queries
        assert queries is not None, "only CSPO asks for keys"
        return queries

    def encode(self, batch: SpanPairBatch) -> Encoded:
        """States of pieces, vectors of spans and queries of span pairs."""
        states = self.sentence_encoder(batch.packed)
        if self.span_encoder is None:
            return Encoded(states, None, None)
        words, starts, ends = states[batch.word_pieces], *batch.word_spans.unbind(2)
        if self.pair_encoder is None:  # only the permuted spans are needed
            starts, ends = starts.flatten()[batch.spo_spans], ends.flatten()[batch.spo_spans]
            return Encoded(states, self.span_encoder(words, starts, ends), None)
        spans = self.span_encoder(words, starts.flatten(), ends.flatten()).unflatten(0, starts.shape)
        sentences = states[batch.packed.sequence_starts[:-1]]
        queries = self.pair_encoder(spans, sentences, empty=starts == ends)
        if self.head is not None:
            queries = self.head(queries)
        if self.normalize:
            queries = nn.functional.normalize(queries.float(), dim=1)
        return Encoded(states, spans, queries)


class SpeModel(nn.Module):
    """Everything that is trained: the encoder and the heads of TBO and SPO.

    Args:
        config: the run.
        encoder: f of Figure 6.
    """

    def __init__(self, config: SpeConfig, encoder: SpeEncoder) -> None:
        super().__init__()
        _check_objectives(config)
        self.encoder = encoder
        dropout = config.heads_dropout
        self.tbo = self.spo = self.cspo = None
        if config.tbo.weight > 0:
            self.tbo = TokenBoundaryObjective(
                encoder.sentence_encoder.hidden_size,
                encoder.sentence_encoder.word_embeddings,
                offset_size=config.tbo.offset_size,
                tied=config.tbo.tied,
                dropout=dropout,
            )
        if config.spo.weight > 0:
            self.spo = SpanPermutationObjective(config.span_encoder.size, dropout=dropout)
        if config.cspo.weight > 0:
            self.cspo = ContrastiveSpanPairObjective(temperature=config.cspo.temperature)

    def bytes_beside(self, config: SpeConfig) -> dict[str, int]:
        """Memory of a rank beside the trained weights: the fp32 key encoder and the two queues."""
        if self.cspo is None:
            return {}
        key_encoder = sum(parameter.numel() for parameter in self.encoder.parameters())
        of_a_record = 2 * 4 * self.encoder.key_size + 8  # its two keys and its id
        return {"key encoder": 4 * key_encoder, "queues": config.cspo.queue_size * of_a_record}

    def transfers(self, config: SpeConfig, plan: BatchPlan) -> list[Transfer]:
        """What ranks exchange in a step beside gradients: keys, and at ZeRO-3 weights for the key encoder."""
        if self.cspo is None:
            return []
        world = plan.world_size
        most_records = -(-plan.lanes // world) * plan.lane_size  # ranks with fewer send padding
        row = 2 + 2 * self.encoder.key_size  # a record's id, as two floats, and its two keys
        transfers = [Transfer("keys", "all-gather", 4 * world * most_records * row)]
        if config.train.zero_stage == 3:
            sizes = [[parameter.numel() for parameter in self.encoder.parameters()]]
            weights = weight_bytes(config.train.precision) * padded_elements(sizes, stage=3, world_size=world)
            transfers.append(Transfer("weights for the key encoder", "all-gather", weights))
        return transfers

    def forward(
        self, batch: SpanPairBatch, keys: Tensor | None, negatives: Negatives | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses and measures of a batch, as sums over its items.

        Args:
            batch: the forward's records.
            keys: of the same sequences, from the momentum encoder, [S, D]; None without CSPO.
            negatives: the queue; None without CSPO.

        Returns:
            losses [5], one for each of `TERMS`; measures [7], of `MEASURES`, and the queries [S, D] (none without
            CSPO), both without gradient.
        """
        encoded = self.encoder.encode(batch)
        none = torch.zeros(2, device=encoded.states.device)
        tbo = spo = (none, none)
        cspo, contrast, queries = none[:1], none.new_zeros(len(CSPO_MEASURES)), none[:0]
        if self.tbo is not None:
            scored = self.tbo(encoded.states[batch.tbo_anchors], batch.tbo_offsets, batch.tbo_targets)
            tbo = _sum_views(scored, batch.tbo_views)
        if self.spo is not None:
            scored = self.spo(self._permuted_spans(encoded, batch), batch.spo_classes)
            spo = _sum_views(scored, batch.spo_views)
        if self.cspo is not None:
            assert encoded.queries is not None
            queries = encoded.queries.detach()
            losses, contrast = self.cspo(encoded.queries, keys, negatives)
            cspo = losses.sum()[None]
        return torch.cat([tbo[0], spo[0], cspo]), torch.cat([tbo[1], spo[1], contrast]), queries

    def _permuted_spans(self, encoded: Encoded, batch: SpanPairBatch) -> Tensor:
        assert encoded.spans is not None
        return encoded.spans if encoded.spans.dim() == 2 else encoded.spans.flatten(0, 1)[batch.spo_spans]


def new_spe_model(config: SpeConfig, hf_config: PretrainedConfig) -> SpeModel:
    """The model of a run with new weights, its sentence encoder of the given sizes."""
    return SpeModel(config, SpeEncoder(config, new_sentence_encoder(hf_config)))


MEASURES = ("tbo_pair_found", "tbo_context_found", "spo_pair_found", "spo_context_found", *CSPO_MEASURES)


def _sum_views(scored: tuple[Tensor, Tensor], views: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of losses and of found items over the pair view and over the context view, [2] each."""
    losses, found = scored
    in_view = torch.stack([views == 0, views == 1])
    return (in_view * losses).sum(dim=1), (in_view & found).sum(dim=1).float()


class Spe:
    """One run's SPE: its batches, its model, and the queue and momentum encoder beside it.

    Args:
        config: the run.
        reader: of its dataset.
        device: where it trains.
    """

    terms: Sequence[str] = TERMS
    measures: Sequence[str] = MEASURES

    def __init__(self, config: SpeConfig, reader: ShardReader, *, device: torch.device) -> None:
        manifest = reader.manifest
        self.collate = build_collate(config, manifest)
        hf_config = resolve_encoder_config(
            config.encoder, vocab_size=manifest.tokenizer.vocab_size, max_pieces=manifest.max_pieces
        )
        self.encoder_json = hf_config.to_json_string()
        self._config, self._encoder_config = config, hf_config
        sentences = build_sentence_encoder(config.encoder, config.compute, hf_config)
        encoder = SpeEncoder(config, sentences)
        self.model = SpeModel(config, encoder)
        self.term_weights: Sequence[float] = (
            (config.tbo.weight / 2,) * 2 + (config.spo.weight / 2,) * 2 + (config.cspo.weight,)
        )
        self.step_measures: Sequence[str] = STEP_MEASURES if config.cspo.weight > 0 else ()
        self.momentum_encoder: MomentumEncoder | None = None
        if config.cspo.weight > 0:
            self.momentum_encoder = MomentumEncoder(
                encoder, momentum=config.cspo.momentum, device=device, precision=config.train.precision
            )
            self.queue = KeyQueue(config.cspo.queue_size, encoder.key_size, device=device)
            probes = build_probes(reader, self.collate)
            self.probes = {name: probe.to(device) for name, probe in probes.items()}
        if config.compute.compile:
            sentences.compile_layers()
            if self.momentum_encoder is not None:
                cast(SpeEncoder, self.momentum_encoder.encoder).sentence_encoder.compile_layers()
        self._keys: list[tuple[Tensor, Tensor]] = []  # record ids [R] and keys [S, D] of this step's forwards
        self._queries: list[Tensor] = []  # [2, R, D] of each of them

    def forward(self, engine: Engine, batch: SpanPairBatch) -> tuple[Tensor, Tensor]:
        """Losses [5] and measures [7] of a batch, as `SpeModel.forward`; its keys wait for `after_step`."""
        if self.momentum_encoder is None:
            losses, measures, _ = engine.forward(batch, None, None)
            return losses, measures
        keys = self.momentum_encoder.encode(batch)
        self._keys.append((batch.record_ids, keys))
        losses, measures, queries = engine.forward(batch, keys, self.queue.negatives())
        self._queries.append(queries.unflatten(0, (2, len(batch.record_ids))))
        return losses, measures

    def rehearse(self, engine: Engine, batch: SpanPairBatch) -> Tensor:
        """Losses [5] of a forward that is no part of a step, with as many negatives as there will ever be."""
        if self.momentum_encoder is None:
            return engine.forward(batch, None, None)[0]
        whole_queue = Negatives(self.queue.pair_keys, self.queue.context_keys)
        return engine.forward(batch, self.momentum_encoder.encode(batch), whole_queue)[0]

    def send_keys(self, world: World, plan: BatchPlan) -> None:
        """Begin to exchange the keys of the step, after its last forward; the backward pass goes on meanwhile."""
        if self.momentum_encoder is None:
            return
        rows_of_ranks = [len(plan.lanes_of_rank(rank)) * plan.lane_size for rank in range(world.size)]
        # A key's record travels with it, its 64 bits as two floats that nobody computes with.
        rows = [
            torch.cat([record_ids[:, None].view(torch.float32), *keys.chunk(2)], dim=1)
            for record_ids, keys in self._keys
        ]
        self._sent = GlobalOrderGather(torch.cat(rows), rows_of_ranks)
        self._first_row = sum(rows_of_ranks[: world.rank])

    def after_step(self, engine: Engine) -> Tensor:
        """Move the momentum encoder, then enqueue the keys of the step, in global order (Figure 6).

        Returns:
            The sums named in `step_measures`, over this rank's records.
        """
        if self.momentum_encoder is None:
            return torch.zeros(0)
        names = {f"encoder.{name}": name for name in self.momentum_encoder.state()}
        with engine.gather_parameters(names) as parameters:
            self.momentum_encoder.update({names[name]: parameters[name] for name in names})
        gathered = self._sent.wait()
        record_ids, keys = gathered[:, :2].contiguous().view(torch.int64), gathered[:, 2:]
        pair_keys, context_keys = keys.chunk(2, dim=1)
        self.queue.enqueue(record_ids.squeeze(1), pair_keys, context_keys)
        queries = torch.cat(self._queries, dim=1)
        self._keys.clear()
        self._queries.clear()
        return count_found_in_step(queries, torch.stack([pair_keys, context_keys]), self._first_row)[None]

    @property
    def negatives(self) -> int:
        """Keys that each query of this step is compared with, in either direction."""
        return self.queue.filled if self.momentum_encoder is not None else 0

    def model_flops(self, work: Work) -> int:
        """FLOPs of some steps on all ranks."""
        return spe_flops(self._config, self._encoder_config, work)

    def state(self) -> dict[str, Tensor]:
        """Live tensors that a checkpoint holds beyond the engine's, by name; whole and equal on all ranks."""
        if self.momentum_encoder is None:
            return {}
        keys = {f"key_encoder.{name}": tensor for name, tensor in self.momentum_encoder.state().items()}
        return keys | {f"queue.{name}": tensor for name, tensor in self.queue.state().items()}

    def report(self, sums: Measures) -> dict[str, float | str]:
        """What to log of an interval's sums: losses, accuracies and the state of the contrast."""
        report: dict[str, float | str] = {}
        for objective in ("tbo", "spo"):
            if getattr(self.model, objective) is not None:
                names = [f"{objective}_{view}" for view in ("pair", "context")]
                report[f"{objective}_loss"] = sum(sums.mean_loss(name) for name in names) / 2
                report[f"{objective}_accuracy"] = sums.share([f"{name}_found" for name in names], names)
        if self.momentum_encoder is not None:
            report["cspo_loss"] = sums.mean_loss("cspo")
            report["cspo_accuracy"] = sums.share(["found"], ["cspo"])
            report["cspo_step_accuracy"] = sums.share(["found_in_step"], ["cspo"])
            report["cspo_step_chance"] = 1 / (self._config.batch.lanes * self._config.batch.lane_size)
            for similarity in ("positive_similarity", "negative_similarity"):
                report[f"cspo_{similarity}"] = sums.share([similarity], ["cspo"])
            report |= self._probe_report()
            report["queue_enqueued"] = int(self.queue.enqueued)
            report["queue_filled"] = self.queue.filled / self.queue.size
            report["digest_queue"] = self.queue.digest()
        return report

    @torch.no_grad()
    def _probe_report(self) -> dict[str, float]:
        """Accuracy among sentences that look alike, and chance; every rank runs all of it, as ZeRO-3 needs."""
        report = {}
        self.model.eval()
        for name, probe in self.probes.items():
            found = probe.count_found(self.model.encoder(probe.batch))
            report[f"cspo_{name}_accuracy"] = float(found) / len(probe.groups)
            report[f"cspo_{name}_chance"] = probe.chance()
        self.model.train()
        return report


def build_collate(config: SpeConfig, manifest: Manifest) -> SpanPairCollate:
    """The batches of a run."""
    if manifest.build.get("min_words", 2) < 2:
        raise UserError("the shards hold sentences of one word, which have no two spans: build them with --min-words 2")
    special = manifest.tokenizer.special_ids
    return SpanPairCollate(
        special=SpecialPieces(special.cls, special.sep, special.mask),
        seed=config.run.seed,
        lane_size=config.batch.lane_size,
        geometric_p=config.spans.geometric_p,
        max_span_words=config.spans.max_words,
        tbo_share=config.tbo.budget_share if config.tbo.weight > 0 else 0.0,
        tbo_cap=config.tbo.budget_cap,
        spo_spans=config.spo.max_spans if config.spo.weight > 0 else 0,
    )


def _check_objectives(config: SpeConfig) -> None:
    if not (config.tbo.weight or config.spo.weight or config.cspo.weight):
        raise UserError("tbo.weight, spo.weight and cspo.weight are all 0: nothing would be trained")
