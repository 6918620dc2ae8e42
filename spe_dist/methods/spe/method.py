"""SPE (Wang et al., EMNLP 2020), readable beside the paper.

    encoders      sentence encoder, span encoder (CNN), span pair encoder (attention)     model.py, `SpeEncoder`
    tokens        TBO, token boundary objective                                           token_boundary.py, masking.py
    spans         SPO, span permutation objective                                         permutations.py
    span pairs    CSPO, contrastive span pair objective; Figure 6, its queue and f_m      `SpeWithContrast`, moco/
    together      their weighted sum                                                      `Spe.term_weights`

An objective of weight 0 costs nothing: its parts are not built, and for CSPO there is no key pass and no queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from data_shards.shards.reader import ShardReader
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.global_order_gather import GlobalOrderGather
from spe_dist.engine.world import World
from spe_dist.methods.method import Method
from spe_dist.methods.metric_sums import MetricSums
from spe_dist.methods.spe.batch import SpanPairBatch
from spe_dist.methods.spe.collate import SpanPairCollate, build_collate
from spe_dist.methods.spe.config import COUNTED, TERMS, SpeConfig
from spe_dist.methods.spe.contrastive_span_pair import STEP_METRICS, count_found_in_step
from spe_dist.methods.spe.flops import spe_flops
from spe_dist.methods.spe.geometry_probe import build_probes
from spe_dist.methods.spe.model import METRICS, SpeEncoder, SpeModel
from spe_dist.methods.workload import Workload
from spe_dist.moco.key_queue import KeyQueue, Negatives
from spe_dist.moco.momentum_encoder import MomentumEncoder

if TYPE_CHECKING:  # DeepSpeed takes seconds to import; showing and exporting need none of it
    from spe_dist.engine.deepspeed_engine import Engine

_MOST_NEGATIVES = 2_048  # of a queue filled for a benchmark: a longer one changes little there, and takes long


def build_spe(config: SpeConfig, reader: ShardReader, *, device: torch.device) -> Spe:
    """A run's method: with CSPO, or of TBO and SPO alone."""
    return SpeWithContrast(config, reader, device=device) if config.cspo.weight > 0 else Spe(config, reader)


class Spe(Method):
    """TBO and SPO, all that happens within one forward.

    Args:
        config: the run.
        reader: reader of its dataset.
    """

    terms = TERMS
    metrics = METRICS
    counted = COUNTED

    config: SpeConfig
    collate: SpanPairCollate
    model: SpeModel

    def __init__(self, config: SpeConfig, reader: ShardReader) -> None:
        super().__init__(config, reader)
        self.collate = build_collate(config, reader)
        self.model = SpeModel(config, SpeEncoder(config, self.new_encoder()))
        self.term_weights = (config.tbo.weight / 2,) * 2 + (config.spo.weight / 2,) * 2 + (config.cspo.weight,)

    def forward(self, engine: Engine, batch: SpanPairBatch) -> tuple[Tensor, Tensor]:
        """Losses [5] and metrics [7] of a batch, as `SpeModel.forward`."""
        losses, metrics, _ = engine.forward(batch)
        return losses, metrics

    def model_flops(self, workload: Workload) -> int:
        """FLOPs of some steps on all ranks."""
        return spe_flops(self.config, self.encoder_config, workload)

    def report(self, sums: MetricSums) -> dict[str, float | str]:
        """What to log of an interval's sums: losses and accuracies, the mean of both views."""
        report: dict[str, float | str] = {}
        for objective, weight in (("tbo", self.config.tbo.weight), ("spo", self.config.spo.weight)):
            if weight:
                names = [f"{objective}_{view}" for view in ("pair", "context")]
                report[f"{objective}_loss"] = sum(sums.mean_loss(name) for name in names) / 2
                report[f"{objective}_accuracy"] = sums.share([f"{name}_found" for name in names], names)
        return report


class SpeWithContrast(Spe):
    """TBO, SPO and CSPO, with the queue and the momentum encoder of Figure 6.

    Args:
        config: the run.
        reader: reader of its dataset.
        device: where it trains.
    """

    step_metrics = STEP_METRICS

    def __init__(self, config: SpeConfig, reader: ShardReader, *, device: torch.device) -> None:
        super().__init__(config, reader)
        self.momentum_encoder = MomentumEncoder(
            self.model.encoder, momentum=config.cspo.momentum, device=device, precision=config.train.precision
        )
        self.queue = KeyQueue(config.cspo.queue_size, self.model.encoder.key_size, device=device)
        self.probes = {name: probe.to(device) for name, probe in build_probes(reader, self.collate).items()}
        self._keys: list[tuple[Tensor, Tensor]] = []  # record ids [R] and keys [S, D] of this step's forwards
        self._queries: list[Tensor] = []  # [2, R, D] of each of them

    def compile(self) -> None:
        """Compile the layers of both sentence encoders."""
        super().compile()
        keys = cast(SpeEncoder, self.momentum_encoder.computing)
        keys.sentence_encoder.compile_layers(graph_pieces=self.config.compute.graph_pieces)

    # Figure 6, in the order of a step: keys and queries, losses; backward passes; the optimizer; momentum, enqueue.
    # `Session.take_step` calls these four hooks; between the last two it calls engine.step, the optimizer.

    def before_step(self, engine: Engine, world: World, plan: BatchPlan, batches: Sequence[SpanPairBatch]) -> Mapping:
        """Count what the queries are compared with, the queue as it stands now, and what the key pass encodes."""
        pieces, squared_lengths, _, words = torch.stack([batch.views.sizes for batch in batches]).sum(dim=0).tolist()
        comparisons = sum(len(batch.record_ids) for batch in batches) * self.queue.filled
        return dict(zip(COUNTED, (comparisons, pieces, squared_lengths, words), strict=True))

    def forward(self, engine: Engine, batch: SpanPairBatch) -> tuple[Tensor, Tensor]:
        """Encode keys and queries of the same views; losses [5] and metrics [7], as `SpeModel.forward`."""
        keys = self.momentum_encoder.encode(batch)
        self._keys.append((batch.record_ids, keys))
        losses, metrics, queries = engine.forward(batch, keys, self.queue.negatives())
        self._queries.append(queries.unflatten(0, (2, len(batch.record_ids))))
        return losses, metrics

    def before_last_backward(self, world: World, plan: BatchPlan) -> None:
        """Begin to gather the keys of the step in global order."""
        rows_of_ranks = [len(plan.lanes_of_rank(rank)) * plan.lane_size for rank in range(world.size)]
        # A key's record travels with it, its 64 bits as two floats that nobody computes with.
        rows = [torch.cat([ids[:, None].view(torch.float32), *keys.chunk(2)], dim=1) for ids, keys in self._keys]
        self._gather = GlobalOrderGather(torch.cat(rows), rows_of_ranks)
        self._first_row = sum(rows_of_ranks[: world.rank])

    def after_step(self, engine: Engine) -> Tensor:
        """Move the momentum encoder, then enqueue the keys; how many records found their own in the step, [1]."""
        names = {f"encoder.{name}": name for name in self.momentum_encoder.names}
        with engine.gather_parameters(names) as parameters:
            self.momentum_encoder.update({names[name]: parameters[name] for name in names})
        gathered = self._gather.wait()
        record_ids, keys = gathered[:, :2].contiguous().view(torch.int64), gathered[:, 2:]
        pair_keys, context_keys = keys.chunk(2, dim=1)
        self.queue.enqueue(record_ids.squeeze(1), pair_keys, context_keys)
        queries = torch.cat(self._queries, dim=1)
        self._keys.clear()
        self._queries.clear()
        return count_found_in_step(queries, torch.stack([pair_keys, context_keys]), self._first_row)[None]

    def evaluate(self, batch: SpanPairBatch) -> tuple[Tensor, Tensor, Tensor]:
        """As `Method.evaluate`; queries are compared with the queue as it is now."""
        losses, metrics, _ = self.model(batch, self.momentum_encoder.encode(batch), self.queue.negatives())
        return losses, nn.functional.pad(metrics, (0, len(self.step_metrics))), batch.counts

    def rehearse(self, engine: Engine, batch: SpanPairBatch) -> Tensor:
        """Losses [5] of a forward that is no part of a step, with as many negatives as there will ever be."""
        whole_queue = Negatives(self.queue.pair_keys, self.queue.context_keys)
        return engine.forward(batch, self.momentum_encoder.encode(batch), whole_queue)[0]

    def prefill(self, batches: Iterator[SpanPairBatch] | None) -> None:
        """Fill the queue: with random keys, or up to 2,048 of the batches' own."""
        queue = self.queue
        if batches is None:
            for keys in (queue.pair_keys, queue.context_keys):
                keys.copy_(nn.functional.normalize(torch.randn_like(keys), dim=1))
            queue.enqueued.fill_(queue.size)
            return
        for batch in takewhile(lambda _: queue.filled < min(queue.size, _MOST_NEGATIVES), batches):
            queue.enqueue(batch.record_ids, *self.momentum_encoder.encode(batch).chunk(2))

    def state(self) -> dict[str, Tensor]:
        """Live tensors that a checkpoint holds beyond the engine's, by name; whole and equal on all ranks."""
        keys = {f"key_encoder.{name}": tensor for name, tensor in self.momentum_encoder.state().items()}
        return keys | {f"queue.{name}": tensor for name, tensor in self.queue.state().items()}

    def report(self, sums: MetricSums) -> dict[str, float | str]:
        """What to log: also the contrast."""
        report = super().report(sums)
        report["cspo_loss"] = sums.mean_loss("cspo")
        report["cspo_accuracy"] = sums.share(["found"], ["cspo"])
        report["cspo_step_accuracy"] = sums.share(["found_in_step"], ["cspo"])
        report["cspo_step_chance"] = 1 / (self.config.batch.lanes * self.config.batch.lane_size)
        for similarity in ("positive_similarity", "negative_similarity"):
            report[f"cspo_{similarity}"] = sums.share([similarity], ["cspo"])
        return report

    def report_state(self) -> dict[str, float | str]:
        """The queue, and accuracies among sentences that look alike."""
        report: dict[str, float | str] = dict(self._probe_report())
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
