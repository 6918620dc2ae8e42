"""The formula against torch's own counter, on the model that trains."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data_shards.shards.reader import ShardReader
from spe_dist.batches.batch import SIZES
from spe_dist.engine.world import World
from spe_dist.methods.erica.config import COUNTED, TERMS
from spe_dist.methods.erica.method import Erica
from spe_dist.methods.workload import Workload
from tests.exactness.runs import configure
from tests.paper.tiny_spe import PlainEngine
from tests.unit.spe_dist.random_documents import random_documents, write_documents

pytestmark = pytest.mark.any_version

OFF = {"weight": 0.0}
ENCODER = {"layers": 2, "hidden_size": 24, "heads": 3, "intermediate_size": 40}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flops") / "shards"
    write_documents(folder.with_name("document_shards"), 40, shards=1)
    return folder


def documents_of_equal_length(count):
    """Of others a CPU computes more attention than the formula counts."""
    records = random_documents(3000, seed=4, most_words=16)
    lengths = records.pieces.lengths
    return records.take(np.flatnonzero(lengths == np.bincount(lengths).argmax())[:count])


@pytest.mark.parametrize(
    ("sections", "documents"),
    [
        ({"ed": OFF}, 16),
        ({"ed": OFF, "rd": {"scope": "lane"}}, 16),
        ({"ed": OFF, "rd": {"negatives": "all"}}, 16),
        ({"ed": OFF, "rd": OFF}, 16),
        ({"ed": OFF, "mlm": OFF}, 16),
        ({"rd": OFF}, 1),  # a question makes its document longer, and questions have unequal numbers of candidates
        ({"rd": OFF, "mlm": OFF}, 1),
    ],
)
def test_forward_and_backward_are_counted_to_the_flop(shards, tmp_path, sections, documents):
    config = configure(shards, tmp_path, method="erica", encoder=ENCODER, batch={"lane_size": documents}, **sections)
    erica = Erica(config, ShardReader(config.data.shards), torch.device("cpu"))
    records = documents_of_equal_length(64)
    for first in range(64 // documents):
        chosen = np.arange(documents) + first * documents
        batch = erica.collate(records.take(chosen), chosen[None], 0, [0])
        if len(batch.ed_heads) or not erica.config.ed.weight:
            break
    counts = dict.fromkeys(COUNTED, 0) | dict(zip(TERMS, batch.counts.tolist(), strict=True))
    engine = PlainEngine(erica.model)
    with FlopCounterMode(display=False) as counter:
        counts |= erica.before_step(engine, World(), None, [batch])
        losses, _ = erica.forward(engine, batch)
        (losses * torch.tensor(erica.term_weights)).sum().backward()
    work = Workload(counts=counts, forwards=1, **dict(zip(SIZES, batch.sizes.tolist(), strict=True)))
    assert erica.model_flops(work) == counter.get_total_flops()
    assert all(counts.get(term) for term, weight in zip(TERMS, erica.term_weights, strict=True) if weight)
