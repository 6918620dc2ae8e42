"""The attention of packed sequences in bf16, whichever is chosen for their lengths, against one sequence at a time."""

import pytest
import torch
from transformers import AutoModel, BertConfig

from spe_dist.models.saved_encoder import new_sentence_encoder
from tests.gpu.device import DEVICE, on_device
from tests.unit.spe_dist.models.test_packed_attention import pack

pytestmark = on_device
LENGTHS = {
    "sentences": [22, 9, 31, 17, 5, 64, 12, 40] * 4,
    "one piece": [1, 2, 1, 3],
    "one sequence": [77],
    "tiles": [15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129],
    "documents": [300, 129, 511],
    "of all lengths": [20, 400, 7, 130, 64],
}


def config(hidden_size, heads):
    return BertConfig(
        vocab_size=50, hidden_size=hidden_size, num_hidden_layers=2, num_attention_heads=heads, intermediate_size=32,
        max_position_embeddings=512, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("head_size", [32, 64])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_states_and_gradients_are_those_of_one_sequence_at_a_time_in_double_precision(lengths, head_size):
    torch.manual_seed(0)
    encoder = new_sentence_encoder(config(2 * head_size, 2)).bfloat16()
    with torch.no_grad():  # so that queries and keys are more than noise around 0
        for name, weight in encoder.model.named_parameters():
            if "query.weight" in name or "key.weight" in name:
                weight.normal_(std=2 / head_size**0.5)
    exact = AutoModel.from_config(config(2 * head_size, 2), attn_implementation="eager", add_pooling_layer=False)
    exact.load_state_dict(encoder.model.state_dict())
    exact.double()
    sequences = [torch.randint(2, 50, (length,)) for length in lengths]
    expected = torch.cat([exact(input_ids=one[None]).last_hidden_state[0] for one in sequences])
    into = torch.randn(expected.shape, dtype=torch.float64)
    expected.backward(into)
    encoder.to(DEVICE)
    found = encoder(pack(sequences).to(DEVICE))
    found.backward(into.to(DEVICE, torch.bfloat16))
    assert relative_error(found, expected) < 1e-2
    gradients = {name: parameter.grad for name, parameter in encoder.model.named_parameters()}
    for part in ("query.weight", "key.weight", "value.weight", "embeddings"):
        names = [name for name, parameter in exact.named_parameters() if part in name and parameter.ndim == 2]
        mine = torch.cat([gradients[name].flatten() for name in names])
        theirs = torch.cat([exact.get_parameter(name).grad.flatten() for name in names])
        assert relative_error(mine, theirs) < 8e-2, part


def relative_error(found, expected):
    return ((found.detach().cpu().double() - expected).norm() / expected.norm()).item()
