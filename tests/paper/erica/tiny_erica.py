"""The smallest ERICA there can be, on random documents, without shards and without DeepSpeed."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import torch

from data_shards.shards.record import Records
from data_shards.text.word_pieces import WordPieces
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.methods.erica.batch import DocumentBatch
from spe_dist.methods.erica.fact_pairs import HEAD, NA, RELATION, TAIL
from spe_dist.methods.erica.method import Erica
from spe_dist.recipe import config_from_values
from tests.paper.erica.oracle import Document, Row, documents_of, random_documents
from tests.paper.tiny_spe import PlainEngine, recipe_values
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

LANES, LANE_SIZE = 6, 4
RELATIONS = ("born in", "works for", "part of")
OFF = {"weight": 0.0}
SEEDS = range(6)
TINY_ENCODER = {"layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 24, "max_positions": 256}


def tiny_config(**sections):
    """The debug recipe, smaller; `ed={"weight": 0.0}` changes a setting."""
    values = recipe_values("erica_debug")
    small = {
        "batch": {"lanes": LANES, "lane_size": LANE_SIZE, "lanes_per_forward": 2},
        "encoder": TINY_ENCODER,
    }
    for changes in (small, sections):
        for section, change in changes.items():
            values[section] = values.get(section, {}) | change if isinstance(change, dict) else change
    return config_from_values(values, source="test")


@cache
def word_pieces() -> WordPieces:
    return WordPieces.load(str(DEBUG_VOCAB))


class Reader:
    """A dataset of some documents."""

    location = "tiny"

    def __init__(self, records: Records) -> None:
        self.records = records
        self.manifest = SimpleNamespace(
            tokenizer=SimpleNamespace(vocab_size=word_pieces().vocab_size, special_ids=word_pieces().special_ids),
            max_pieces=200,
            build={"documents": {"max_entities": 64}},
            language="en",
            relation_types={f"R{number}": SimpleNamespace(name=name) for number, name in enumerate(RELATIONS)},
            require_documents=lambda location: None,
        )

    def tokenizer_folder(self):
        return DEBUG_VOCAB

    def __len__(self):
        return len(self.records)

    def take(self, ids):
        return self.records.take(np.asarray(ids).reshape(-1))


class Step:
    """A run's method, and the batches of one step on one rank.

    Args:
        records: LANES · LANE_SIZE documents, lane after lane.
        lanes_per_forward: of the step.
        step: its number.
        sections: of the recipe that differ.
    """

    def __init__(self, records: Records | None = None, *, lanes_per_forward: int = 2, step: int = 0, **sections):
        torch.manual_seed(0)
        self.records = random_documents(LANES * LANE_SIZE, seed=5) if records is None else records
        self.documents: Sequence[Document] = documents_of(self.records)
        self.erica = Erica(tiny_config(**sections), Reader(self.records), torch.device("cpu"))
        self.engine = PlainEngine(self.erica.model)
        self.plan = BatchPlan(LANES, LANE_SIZE, lanes_per_forward, world_size=1)
        self.forwards = self.plan.forwards(0)
        self.batches = [self._batch(lanes, step) for lanes in self.forwards]

    def _batch(self, lanes: Sequence[int], step: int) -> DocumentBatch:
        ids = np.array([[lane * LANE_SIZE + i for i in range(LANE_SIZE)] for lane in lanes], dtype=np.int64)
        ids = ids.reshape(len(lanes), LANE_SIZE)
        return self.erica.collate(Reader(self.records).take(ids), ids, step, lanes)

    def losses(self) -> tuple[torch.Tensor, dict[str, int]]:
        """Sums of the losses of the step, with gradients added to the parameters as the loop does; and counts."""
        counts = self.erica.before_step(self.engine, World(), self.plan, self.batches)
        of_batches = torch.stack([batch.counts for batch in self.batches]).sum(dim=0)
        items = {
            term: int(count) + counts.get(term, 0)
            for term, count in zip(self.erica.terms, of_batches.tolist(), strict=True)
        }
        divisors = torch.tensor([max(1, items[term]) for term in self.erica.terms])
        total = torch.zeros(len(self.erica.terms))
        for batch in self.batches:
            losses, _ = self.erica.forward(self.engine, batch)
            (losses * torch.tensor(self.erica.term_weights) / divisors).sum().backward()
            total = total + losses.detach()
        self.found = self.erica.after_step(self.engine)
        return total, items

    def gradient(self) -> torch.Tensor:
        return torch.cat([p.grad.flatten() for p in self.erica.model.parameters()])

    def documents_of(self, number: int) -> list[Document]:
        """The documents of a forward."""
        return [self.documents[lane * LANE_SIZE + i] for lane in self.forwards[number] for i in range(LANE_SIZE)]

    def sequences(self, batch: DocumentBatch) -> list[list[int]]:
        """Pieces of each sequence of a batch, special ones included."""
        starts = batch.packed.sequence_starts.tolist()
        pieces = batch.packed.piece_ids.tolist()
        return [pieces[start:end] for start, end in pairwise(starts)]

    def states(self, batch: DocumentBatch) -> list[torch.Tensor]:
        """States of the document's pieces in each sequence, in double precision: neither specials nor prefix."""
        with torch.no_grad():
            states = self.erica.model.encoder.sentence_encoder(batch.packed).double()
        ends = batch.packed.sequence_starts[1:].tolist()
        lengths = self._lengths(batch)
        return [states[end - 1 - length : end - 1] for end, length in zip(ends, lengths, strict=True)]

    def _lengths(self, batch: DocumentBatch) -> list[int]:
        return [len(self.documents[record].pieces) for record in batch.record_ids.tolist()]


def step_of(seed: int, **settings) -> Step:
    return Step(random_documents(LANES * LANE_SIZE, seed=seed), step=seed, **settings)


def rows_of(step: Step, number: int) -> list[Row]:
    """The candidates of relation discrimination of a forward, as the batch has them."""
    batch, documents = step.batches[number], step.documents_of(number)
    first = np.cumsum([0, *(len(document.knowledge) for document in documents)])
    entities, rows = batch.rd_entities.tolist(), []
    for row in batch.rd_pairs.tolist():
        head, tail = entities[row[HEAD]], entities[row[TAIL]]
        document = int(np.searchsorted(first, head, side="right")) - 1
        assert first[document] <= tail < first[document + 1]
        relation = None if row[RELATION] == NA else row[RELATION]
        rows.append(Row(document, head - first[document], tail - first[document], relation))
    return rows
