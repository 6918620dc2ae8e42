import random
from collections import deque

import pytest
import torch

from spe_dist.moco.key_queue import KeyQueue

D = 2


def oldest_first(queue):
    """The ring in the order of enqueuing, record id and both views of each record side by side."""
    negatives = queue.negatives()
    ids = queue.record_ids[: queue.filled, None]
    both = torch.cat([ids, negatives.pair_keys, negatives.context_keys], dim=1).tolist()
    turn = int(queue.enqueued) % queue.size if queue.filled == queue.size else 0
    return both[turn:] + both[:turn]


@pytest.mark.parametrize("size", [1, 4, 7, 32])
@pytest.mark.parametrize("seed", range(5))
def test_it_holds_the_newest_records_as_a_deque_does(size, seed):
    chance, queue, expected = random.Random(seed), KeyQueue(size, D, device=torch.device("cpu")), deque(maxlen=size)
    for step in range(40):
        rows = chance.choice([0, 1, 2, 3, size, size + 1, 3 * size + 2])
        ids, keys = torch.randint(1000, (rows,)), torch.arange(rows * 2 * D).reshape(rows, 2 * D) + 1000.0 * step
        queue.enqueue(ids, *keys.chunk(2, dim=1))
        expected.extend(torch.cat([ids[:, None], keys], dim=1).tolist())
        assert oldest_first(queue) == list(expected)
        assert queue.filled == len(expected)


def test_it_starts_empty():
    queue = KeyQueue(5, D, device=torch.device("cpu"))
    assert queue.filled == len(queue.negatives().pair_keys) == len(queue.negatives().context_keys) == 0


def test_its_state_is_all_there_is():
    queue, again = (KeyQueue(5, D, device=torch.device("cpu")) for _ in range(2))
    queue.enqueue(torch.arange(7), torch.randn(7, D), torch.randn(7, D))
    for name, tensor in queue.state().items():
        again.state()[name].copy_(tensor)
    for _ in range(2):
        assert oldest_first(again) == oldest_first(queue)
        keys = torch.randn(3, D)
        queue.enqueue(torch.arange(3), keys, -keys)
        again.enqueue(torch.arange(3), keys, -keys)


def test_the_digest_tells_which_records_are_where_and_not_what_their_keys_are():
    def digest(*steps):
        queue = KeyQueue(5, D, device=torch.device("cpu"))
        for ids in steps:
            queue.enqueue(torch.tensor(ids, dtype=torch.int64), torch.randn(len(ids), D), torch.randn(len(ids), D))
        return queue.digest()

    assert digest([0, 1, 2]) == digest([0, 1], [2]) == digest([0], [], [1, 2])
    different = [digest(), digest([0]), digest([1]), digest([0, 1, 2]), digest([1, 0, 2]), digest([0, 2, 1]),
                 digest([7, 8, 0, 1, 2]), digest([7, 8, 9, 0, 1, 2])]  # fmt: skip
    assert len(set(different)) == len(different)
    assert digest([9, 0, 1, 2, 3, 4]) == digest([8, 0, 1, 2, 3, 4])  # the first is gone
