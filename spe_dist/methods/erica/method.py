"""ERICA (Qin et al., ACL 2021), readable beside the paper.

    documents     sentence encoder; an entity's vector is the mean of its mentions (eq. 1)     model.py, collate.py
    entities      ED, entity discrimination          questions.py, entity_discrimination.py
    relations     RD, relation discrimination        facts.py, fact_pairs.py, relation_discrimination.py
    words         MLM, masked language modelling     batches/masked_pieces.py
    together      their weighted sum                 `Erica.term_weights`

RD compares the facts of all documents of a step, whichever rank has them. So entity vectors are gathered before the
first backward pass (`before_step`), the loss of all ranks together is differentiated with respect to them, and each
forward's backward pass begins with the gradient of its own entities: equal to one process with all documents.

If a rank has one forward in a step, it is made in `before_step` and its graph kept. If it has several, documents are
encoded there without gradient, and again in `forward`, with the same dropout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_shards.annotated.read import read_documents
from data_shards.shards.reader import ShardReader
from data_shards.text.word_pieces import WordPieces
from spe_dist.batches.batch import send
from spe_dist.documents.marked_facts import ADDED_PIECES
from spe_dist.documents.prefix import PREFIX_PIECES
from spe_dist.documents.probes import WITH_RELATION, WITHOUT, DocumentProbes, average, probe_documents
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.global_order_gather import GlobalOrderGather
from spe_dist.engine.world import World
from spe_dist.methods.erica.batch import DocumentBatch
from spe_dist.methods.erica.collate import build_collate
from spe_dist.methods.erica.compared_facts import METRICS as RELATION_METRICS
from spe_dist.methods.erica.compared_facts import ComparedFacts
from spe_dist.methods.erica.config import COUNTED, TERMS, EricaConfig
from spe_dist.methods.erica.fact_pairs import HEAD, LANE, STEP, TAIL
from spe_dist.methods.erica.flops import erica_flops
from spe_dist.methods.erica.markers import MOST_MENTIONS
from spe_dist.methods.erica.model import METRICS, EricaEncoder, EricaModel, add_markers
from spe_dist.methods.method import Method
from spe_dist.methods.metric_sums import MetricSums
from spe_dist.methods.workload import Workload

if TYPE_CHECKING:  # DeepSpeed takes seconds to import; showing and exporting need none of it
    from spe_dist.engine.deepspeed_engine import Engine

_DIGEST_PRIME = 1_099_511_628_211


@dataclass
class _Forward:
    """What `before_step` prepares for a forward of the step."""

    output: tuple[Tensor, Tensor, Tensor] | None = None  # of the model, if it is made already
    random_state: Tensor | None = None  # that it must be made with, if its documents were encoded already
    gradient: Tensor | None = None  # of the step's relation loss with respect to its entities, [K, H]
    loss: Tensor | None = None  # its part of that loss
    compared: ComparedFacts | None = None  # within its lanes


def build_erica(config: EricaConfig, reader: ShardReader, *, device: torch.device) -> Erica:
    """A run's method."""
    return Erica(config, reader, device)


class Erica(Method):
    """One run's ERICA.

    Args:
        config: the run.
        reader: reader of its dataset.
        device: where it trains.
    """

    terms = TERMS
    metrics = METRICS
    step_metrics = (*RELATION_METRICS, "rd_relations", "steps")
    counted = COUNTED
    config: EricaConfig

    def __init__(self, config: EricaConfig, reader: ShardReader, device: torch.device) -> None:
        added = {"mean": PREFIX_PIECES, "marker": PREFIX_PIECES + 2 * MOST_MENTIONS, "fact_marker": ADDED_PIECES}
        self.added_pieces = added[config.pooling]
        super().__init__(config, reader)
        self.collate = build_collate(config, reader)
        encoder = self.new_encoder()
        if config.pooling != "mean":
            add_markers(config, encoder, reader.manifest.tokenizer.vocab_size)
            self.encoder_config = encoder.model.config
        self.model = EricaModel(config, EricaEncoder(encoder))
        self.probes = _draw_probes(config, reader, positions=encoder.max_pieces)
        self.term_weights = (config.ed.weight, config.rd.weight, config.mlm.weight)
        self._device = device
        self._host_world: World | None = None  # rows of pairs go from host to host: no rank waits for its GPU
        self._forwards: list[_Forward] = []  # of the step, those still to come
        self._relation_metrics = torch.zeros(len(RELATION_METRICS), device=device)
        self._of_step = (0, 0)  # relations that took part, and 1, on the first rank
        self._digest = torch.zeros((), dtype=torch.int64)  # of all that relation discrimination has drawn

    def before_step(
        self, engine: Engine, world: World, plan: BatchPlan, batches: Sequence[DocumentBatch]
    ) -> Mapping[str, int]:
        """Draw what relation discrimination compares; compare it if that is the whole step."""
        self._relation_metrics.zero_()
        self._of_step = (0, 0)
        self._forwards = [_Forward() for _ in batches]
        counts = {"candidates": sum(int((batch.ed_candidates >= 0).sum()) for batch in batches)}
        if not self.config.rd.weight:
            return counts
        if self.config.rd.scope == "step":
            return counts | self._compare_step(engine, world, batches)
        anchors = comparisons = relations = 0
        for forward, batch in zip(self._forwards, batches, strict=True):
            rows = batch.rd_pairs.numpy()
            forward.compared = self._draw(rows, rows[:, LANE], batch.step)
            anchors += len(forward.compared.draws.anchors)
            comparisons += len(forward.compared.draws.anchors) * len(batch.rd_entities)
            relations += forward.compared.relations()
        self._of_step = (relations, int(world.is_first))
        return counts | {"rd": anchors, "comparisons": comparisons}

    def forward(self, engine: Engine, batch: DocumentBatch) -> tuple[Tensor, Tensor]:
        """Losses [3] and metrics [4] of a batch."""
        prepared = self._forwards.pop(0)
        if prepared.random_state is not None:
            self._set_random_state(prepared.random_state)
        losses, metrics, entities = prepared.output or engine.forward(batch)
        if prepared.gradient is not None and prepared.loss is not None:
            surrogate = (entities * prepared.gradient).sum()  # its gradient is that of the step's loss
            rd = surrogate - surrogate.detach() + prepared.loss
        elif prepared.compared is not None:
            rd, found = prepared.compared.loss(entities)
            self._relation_metrics += found
        else:
            rd = entities.sum() * 0
        return torch.stack([losses[0], rd, losses[1]]), metrics

    def after_step(self, engine: Engine) -> Tensor:
        """What relation discrimination found on this rank, [step_metrics]."""
        return torch.cat([self._relation_metrics, send(torch.tensor(self._of_step, dtype=torch.float32), self._device)])

    def evaluate(self, batch: DocumentBatch) -> tuple[Tensor, Tensor, Tensor]:
        """As `Method.evaluate`; facts are compared within their lanes, which no rank shares."""
        losses, metrics, entities = self.model(batch)
        counts, rd, found = batch.counts.clone(), losses.new_zeros(()), torch.zeros_like(self._relation_metrics)
        if self.config.rd.weight:
            rows = batch.rd_pairs.cpu().numpy()
            compared = self._draw(rows, rows[:, LANE], batch.step)
            rd, found = compared.loss(entities)
            counts[self.terms.index("rd")] = len(compared.draws.anchors)
        return torch.stack([losses[0], rd, losses[1]]), nn.functional.pad(torch.cat([metrics, found]), (0, 2)), counts

    def rehearse(self, engine: Engine, batch: DocumentBatch) -> Tensor:
        """Losses [3] of a forward that is no part of a step; its facts are compared with each other."""
        losses, _, entities = engine.forward(batch)
        rd = entities.sum() * 0
        if self.config.rd.weight:
            rows = batch.rd_pairs.cpu().numpy()
            rd, _ = self._draw(rows, np.full(len(rows), STEP), batch.step).loss(entities)
        return torch.stack([losses[0], rd, losses[1]])

    def state(self) -> dict[str, Tensor]:
        """The digest of all that relation discrimination has drawn from whole steps."""
        return {"relations.digest": self._digest}

    def model_flops(self, workload: Workload) -> int:
        """FLOPs of some steps on all ranks."""
        return erica_flops(self.config, self.encoder_config, workload)

    def report(self, sums: MetricSums) -> dict[str, float | str]:
        """What to log: accuracies beside what chance and the nearest mention give."""
        report = super().report(sums)
        if self.config.ed.weight:
            report["ed_chance"] = sums.share(["ed_by_chance"], ["ed"])
            report["ed_nearest"] = sums.share(["ed_by_nearness"], ["ed"])
        if self.config.rd.weight:
            report["rd_accuracy"] = sums.share(["rd_found"], ["rd"])
            report["rd_chance"] = sums.share(["rd_by_chance"], ["rd"])
            report["rd_disjoint_accuracy"] = sums.share(["rd_disjoint_found"], ["rd_disjoint"])
            for kind in self.config.rd.terms:
                report[f"rd_{kind}_accuracy"] = sums.share([f"rd_{kind}_found"], [f"rd_{kind}"])
            report["rd_anchors"] = sums.counts["rd"] / max(sums.sums["steps"], 1.0)
            report["rd_relations"] = sums.share(["rd_relations"], ["steps"])
        return report

    def report_state(self) -> dict[str, float | str]:
        """What was drawn so far, and answers about held-out documents."""
        report: dict[str, float | str] = {}
        if self.config.rd.weight:
            report["digest_relations"] = f"{int(self._digest) % (1 << 64):016x}"
        if self.probes is not None:  # every rank asks: the weights of a layer may lie on several
            answers = average(self.probes.ask(self.model.encoder.sentence_encoder))
            report |= {f"probe_{name}": value for name, value in answers.items()}
        return report

    def _draw(self, rows: NDArray[np.int64], groups: NDArray[np.int64], step: int) -> ComparedFacts:
        return ComparedFacts.draw(self.config.rd, rows, groups, seed=self.config.run.seed, step=step)

    def _compare_step(self, engine: Engine, world: World, batches: Sequence[DocumentBatch]) -> dict[str, int]:
        """Compare the facts of this rank's documents with those of the step; keep the gradients of its entities."""
        vectors = [self._encode(engine, forward, batch) for forward, batch in zip(self._forwards, batches, strict=True)]
        sizes = [len(of_forward) for of_forward in vectors]
        of_ranks = self._gather_rows(world, batches)
        first_entities = np.cumsum([0, *(entities for entities, _ in of_ranks)])
        first_rows = np.cumsum([0, *(len(rows) for _, rows in of_ranks)])
        gather = GlobalOrderGather(torch.cat(vectors), [entities for entities, _ in of_ranks])
        rows = _numbered([rows for _, rows in of_ranks], first_entities[:-1].tolist())
        drawn = self._draw(rows, np.full(len(rows), STEP), batches[0].step)
        own = drawn.of_rows(*first_rows[world.rank : world.rank + 2])
        entities = gather.wait().float().requires_grad_()
        loss, found = own.add_gradients(entities)
        gradient = world.all_reduce(torch.zeros_like(entities) if entities.grad is None else entities.grad)
        first = first_entities[world.rank]
        for forward, part in zip(self._forwards, gradient[first : first + sum(sizes)].split(sizes), strict=True):
            forward.gradient, forward.loss = part, torch.zeros_like(loss)
        self._forwards[0].loss = loss
        self._relation_metrics += found
        self._of_step = (drawn.relations(), 1) if world.is_first else (0, 0)
        self._note(drawn)
        return {"rd": len(own.draws.anchors), "comparisons": len(own.draws.anchors) * len(entities)}

    def _encode(self, engine: Engine, forward: _Forward, batch: DocumentBatch) -> Tensor:
        """Vectors of the entities of relation discrimination, [K, H], without gradient."""
        batch = batch.to(self._device)
        if len(self._forwards) == 1:
            forward.output = engine.forward(batch)
            return forward.output[2].detach()
        forward.random_state = self._random_state()
        with torch.no_grad():
            _, entities = self.model.encoder(batch)
        return entities[batch.rd_entities]

    def _gather_rows(self, world: World, batches: Sequence[DocumentBatch]) -> list[tuple[int, NDArray[np.int64]]]:
        """Number of entities and rows of pairs of each rank's forwards, its entities numbered through."""
        if self._host_world is None:
            self._host_world = world.with_own_group()
        sizes = [len(batch.rd_entities) for batch in batches]
        rows = _numbered([batch.rd_pairs.numpy() for batch in batches], np.cumsum([0, *sizes[:-1]]).tolist())
        return self._host_world.all_gather_objects((sum(sizes), rows))

    def _note(self, drawn: ComparedFacts) -> None:
        """Chain what was drawn into the digest."""
        draws = drawn.draws
        data = b"".join(
            np.ascontiguousarray(part).tobytes() for part in (draws.anchors, draws.positives, draws.negatives)
        )
        digest = int.from_bytes(blake2b(data, digest_size=6).digest(), "little")
        self._digest.copy_(self._digest * _DIGEST_PRIME + digest)

    def _random_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _set_random_state(self, state: Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.set_rng_state(state)


def _draw_probes(config: EricaConfig, reader: ShardReader, *, positions: int) -> DocumentProbes | None:
    """The questions that a run asks about held-out documents."""
    if config.probe.documents is None:
        return None
    language = reader.manifest.language
    documents, _ = read_documents(Path(config.probe.documents), language=language)
    words = WordPieces.load(str(reader.tokenizer_folder()), language=language)
    count, measures = config.probe.count, (WITH_RELATION, WITHOUT)
    return probe_documents(documents, words, positions=positions, count=count, seed=config.run.seed, measures=measures)


def _numbered(parts: Sequence[NDArray[np.int64]], first_entities: Sequence[int]) -> NDArray[np.int64]:
    """Rows of pairs of several parts with their entities numbered through."""
    rows = np.concatenate(parts)
    begins = np.repeat(first_entities, [len(part) for part in parts])
    rows[:, [HEAD, TAIL]] += begins[:, None]
    return rows
