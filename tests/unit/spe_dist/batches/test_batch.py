"""A batch moves as a whole: to a device, into pinned memory, between processes."""

from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch import Tensor

from spe_dist.methods.spe.batch import SpanPairBatch
from tests.unit.spe_dist.batches.sentences import build_collate, random_sentences, records_of


@pytest.fixture(scope="module")
def batch() -> SpanPairBatch:
    return build_collate(lane_size=5)(records_of(random_sentences(5, seed=1)), np.arange(5)[None], 0, [0])


def tensors(batch: SpanPairBatch) -> Iterator[tuple[str, Tensor]]:
    for name, value in (vars(batch.packed) | vars(batch)).items():
        if isinstance(value, Tensor):
            yield name, value


def same(one: SpanPairBatch, other: SpanPairBatch) -> bool:
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    assert len(pairs) == 15
    equal = all(a == b and x.dtype == y.dtype and torch.equal(x.cpu(), y.cpu()) for (a, x), (b, y) in pairs)
    return equal and one.packed.longest == other.packed.longest


def test_a_batch_comes_whole_out_of_another_process_and_not_as_shared_files(batch: SpanPairBatch) -> None:
    sent = bytes(ForkingPickler.dumps(batch))
    assert b"rebuild_storage" not in sent
    received = ForkingPickler.loads(sent)
    assert same(received, batch)
    assert type(received) is SpanPairBatch
    received.packed.piece_ids[0] += 1  # memory of its own, which can be written
    assert not same(received, batch)


def test_every_tensor_moves(batch: SpanPairBatch) -> None:
    assert {tensor.device.type for _, tensor in tensors(batch.to(torch.device("meta")))} == {"meta"}
    assert batch.to(torch.device("meta")).packed.longest == batch.packed.longest


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pinned_batches_hold_the_same(batch: SpanPairBatch) -> None:
    pinned = batch.pin_memory()
    assert all(tensor.is_pinned() for _, tensor in tensors(pinned))
    assert same(pinned, batch)
    assert same(pinned.to(torch.device("cuda")), batch)
