"""Packed sequences that are filled up to few sizes: what was there stays, and padding changes nothing."""

import copy
from itertools import pairwise
from unittest.mock import patch

import pytest
import torch

from data_shards.errors import UserError
from spe_dist.models import sentence_encoder
from spe_dist.models.graph_buckets import SMALLEST_MULTIPLE, fill_up
from spe_dist.models.packed_attention import varlen_layout
from spe_dist.models.saved_encoder import new_sentence_encoder
from tests.unit.spe_dist.models.test_packed_attention import CONFIGS, pack

pytestmark = pytest.mark.any_version


def random_batch(generator, *, sequences, most):
    lengths = torch.randint(1, most + 1, (sequences,), generator=generator).tolist()
    return pack([torch.randint(2, 50, (length,), generator=generator) for length in lengths])


@pytest.mark.parametrize("multiple", [SMALLEST_MULTIPLE, 256, 1024])
def test_sizes_are_few_and_what_was_there_stays(multiple):
    generator = torch.Generator().manual_seed(multiple)
    sizes = set()
    for _ in range(50):
        batch = random_batch(generator, sequences=64, most=40)
        filled = fill_up(batch, multiple)
        pieces, starts = len(batch.piece_ids), filled.sequence_starts.tolist()
        assert len(filled.piece_ids) % multiple == 0 and (len(starts) - 1) % (multiple // 64) == 0
        assert pieces < len(filled.piece_ids) < pieces + 2 * multiple
        assert starts[:65] == batch.sequence_starts.tolist() and starts[-1] == len(filled.piece_ids)
        lengths = [end - start for start, end in pairwise(starts)]
        assert min(lengths) >= 1 and max(lengths) <= filled.longest and max(lengths[64:]) <= 65
        assert torch.equal(filled.positions[:pieces], batch.positions) and not filled.positions[pieces:].any()
        assert torch.equal(filled.piece_ids[:pieces], batch.piece_ids) and not filled.piece_ids[pieces:].any()
        assert filled.sequence_starts.dtype == batch.sequence_starts.dtype
        sizes.add((len(filled.piece_ids), len(starts), filled.longest))
    assert len(sizes) <= 2 + 600 // multiple  # 50 sums of 64 lengths lie within 600 of each other


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_states_and_gradients_are_those_without_padding(kind):
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[kind])
    config.hidden_size, config.max_position_embeddings = 64, 32  # fewer positions than a sequence of padding has pieces
    encoder = new_sentence_encoder(config)
    twin = copy.deepcopy(encoder)
    for seed, multiple in enumerate((64, 128, 128)):  # the first one adds a sequence of 64 pieces
        twin.graph_pieces = multiple
        batch = random_batch(torch.Generator().manual_seed(seed), sequences=5 + seed, most=30)
        pieces, size = len(batch.piece_ids), encoder.word_embeddings.embedding_dim
        added, into = torch.randn(pieces, size), torch.randn(pieces, 64)
        for each in (encoder, twin):
            each.zero_grad()
            with patch.object(sentence_encoder, "layout_of", lambda packed, **_: varlen_layout(packed)):
                each(batch, added).backward(into)
                states = each(batch)
                assert states.untyped_storage().nbytes() == states.nbytes or each is encoder  # not in a graph's memory
        with patch.object(sentence_encoder, "layout_of", lambda packed, **_: varlen_layout(packed)):
            torch.testing.assert_close(twin(batch), encoder(batch), rtol=1e-5, atol=1e-6)
        for (name, one), other in zip(encoder.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_graphs_are_asked_of_inductor_and_refused_for_padded_layers():
    encoder = new_sentence_encoder(CONFIGS["bert"])
    with patch.object(encoder.model, "compile") as compile_model:
        encoder.compile_layers(graph_pieces=256)
        encoder.compile_layers()
    asked, not_asked = (call.kwargs for call in compile_model.call_args_list)
    assert asked == {"dynamic": True, "backend": "inductor", "options": {"triton.cudagraphs": True}}
    assert not_asked == {"dynamic": True, "backend": "inductor", "options": None} and encoder.graph_pieces == 0
    for padded in (new_sentence_encoder(CONFIGS["bert"], packed=False), new_sentence_encoder(CONFIGS["deberta-v2"])):
        with pytest.raises(UserError, match="graph_pieces is for encoders whose layers run packed"):
            padded.compile_layers(graph_pieces=256)
