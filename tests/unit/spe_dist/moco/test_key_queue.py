import random
from collections import deque

import pytest
import torch

from spe_dist.moco.key_queue import KeyQueue

D = 2


def oldest_first(queue):
    """The ring in the order of enqueuing, both views of each record side by side."""
    negatives = queue.negatives()
    both = torch.cat([negatives.pair_keys, negatives.context_keys], dim=1).tolist()
    turn = int(queue.enqueued) % queue.size if queue.filled == queue.size else 0
    return both[turn:] + both[:turn]


@pytest.mark.parametrize("size", [1, 4, 7, 32])
@pytest.mark.parametrize("seed", range(5))
def test_it_holds_the_newest_records_as_a_deque_does(size, seed):
    chance, queue, expected = random.Random(seed), KeyQueue(size, D, device=torch.device("cpu")), deque(maxlen=size)
    for step in range(40):
        rows = chance.choice([0, 1, 2, 3, size, size + 1, 3 * size + 2])
        keys = torch.arange(rows * 2 * D).reshape(rows, 2 * D) + 1000.0 * step
        queue.enqueue(*keys.chunk(2, dim=1))
        expected.extend(keys.tolist())
        assert oldest_first(queue) == list(expected)
        assert queue.filled == len(expected)


def test_it_starts_empty():
    queue = KeyQueue(5, D, device=torch.device("cpu"))
    assert queue.filled == len(queue.negatives().pair_keys) == len(queue.negatives().context_keys) == 0


def test_its_state_is_all_there_is():
    queue, again = (KeyQueue(5, D, device=torch.device("cpu")) for _ in range(2))
    queue.enqueue(torch.randn(7, D), torch.randn(7, D))
    for name, tensor in queue.state().items():
        again.state()[name].copy_(tensor)
    for _ in range(2):
        assert oldest_first(again) == oldest_first(queue)
        keys = torch.randn(3, D)
        queue.enqueue(keys, -keys)
        again.enqueue(keys, -keys)
