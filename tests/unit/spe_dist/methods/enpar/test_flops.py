"""The formula against torch's own counter, on the model that trains."""

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from spe_dist.batches.batch import SIZES
from spe_dist.methods.enpar.config import TERMS
from spe_dist.methods.workload import Workload
from tests.paper.tiny_enpar import LANE_SIZE, build_enpar
from tests.unit.spe_dist.batches.entity_sentences import random_entities, with_entities
from tests.unit.spe_dist.batches.sentences import flat, random_sentences, records_of

pytestmark = pytest.mark.any_version

OFF = {"weight": 0.0}
ENCODER = {"layers": 2, "hidden_size": 24, "heads": 3, "intermediate_size": 40}


def batch_of(enpar, lanes=2):
    """Sentences of equal lengths: of others a CPU computes more attention than the formula counts."""
    drawn = random_sentences(600, seed=1, least=8, longest=16)
    lengths = [len(flat(sentence)) for sentence in drawn]
    common = max(set(lengths), key=lengths.count)
    kept = [s for s, n in zip(drawn, lengths, strict=True) if n == common][: lanes * LANE_SIZE]
    ids = np.arange(len(kept)).reshape(lanes, LANE_SIZE)
    records = with_entities(records_of(kept), random_entities(kept, seed=2))
    return enpar.collate(records, ids, 0, range(lanes))


def work_of(enpar, batch):
    sizes = dict(zip(SIZES, batch.sizes.tolist(), strict=True))
    counts = dict(zip(TERMS, batch.counts.tolist(), strict=True)) | enpar.before_step(None, None, None, [batch])
    return Workload(counts=counts, forwards=1, **sizes)


def count(action):
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"entity_encoder": {"channels": 5, "size": 14, "kernel_sizes": [2, 4]}, "pair_encoder": {"size": 7}},
        {"met": OFF},
        {"mep": OFF},
        {"acd": OFF},
        {"pp": OFF},
        {"acd": OFF, "pp": OFF},
        {"met": OFF, "acd": OFF, "pp": OFF},
    ],
)
def test_forward_and_backward_are_counted_to_the_flop(sections):
    enpar, _ = build_enpar(encoder=ENCODER, **sections)
    batch = batch_of(enpar)
    result = []
    forward = count(lambda: result.append(enpar.model(batch)[0].sum()))
    assert enpar.model_flops(work_of(enpar, batch)) == forward + count(result[0].backward)
