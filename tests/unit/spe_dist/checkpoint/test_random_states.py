import random

import numpy as np
import torch

from spe_dist.checkpoint.random_states import collect_random_states, restore_random_states
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World


def draw():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()


def test_every_generator_goes_on_where_it_was(tmp_path):
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    draw()  # leaves one Gaussian in reserve in each generator that makes them in pairs
    world = World()
    store = CheckpointStore(tmp_path, keep_last=1, keep_every=0, world=world)
    store.save(1, collect_random_states(world), {})
    expected = draw()
    draw()
    restore_random_states(store.latest(), world)
    assert draw() == expected
