"""CUDA graphs of compiled layers: the same states and gradients, replayed for batches of other sizes."""

import copy

import torch

from spe_dist.models.saved_encoder import new_sentence_encoder
from tests.gpu.device import DEVICE, on_device, only_on_a_gpu
from tests.gpu.test_attention_on_gpu import config, relative_error
from tests.unit.spe_dist.models.test_graph_buckets import random_batch

pytestmark = [*on_device, only_on_a_gpu]


def test_replayed_graphs_give_the_states_and_gradients_of_the_eager_encoder():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch.manual_seed(0)
    eager = new_sentence_encoder(config(128, 2)).bfloat16().to(DEVICE)
    graphed = copy.deepcopy(eager)
    graphed.compile_layers(graph_pieces=256)
    generator = torch.Generator().manual_seed(0)
    for sequences in (32, 32, 64, 32, 64, 32):  # each size is recorded, then replayed
        keys, queries = (random_batch(generator, sequences=sequences, most=30).to(DEVICE) for _ in range(2))
        into = torch.randn(len(queries.piece_ids), 128, dtype=torch.bfloat16, device=DEVICE)
        with torch.no_grad():
            of_keys, expected_keys = graphed(keys), eager(keys)
        found, expected = graphed(queries), eager(queries)
        for encoder, states in ((graphed, found), (eager, expected)):
            encoder.zero_grad(set_to_none=True)
            states.backward(into)
        assert relative_error(found, expected.cpu().double()) < 1e-2
        assert relative_error(of_keys, expected_keys.cpu().double()) < 1e-2  # nothing was written over them meanwhile
        mine, theirs = (torch.cat([p.grad.flatten() for p in each.parameters()]) for each in (graphed, eager))
        assert relative_error(mine, theirs.cpu().double()) < 5e-2
    assert not torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
