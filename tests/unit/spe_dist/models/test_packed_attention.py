"""Packed sequences, and groups of them where layers must be padded, give what the Hugging Face model gives."""

import copy
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from spe_dist.batches.batch import PackedSequences
from spe_dist.config import EncoderConfig
from spe_dist.models import sentence_encoder
from spe_dist.models.architectures import architecture_of, set_dropout
from spe_dist.models.joint_projections import lay_side_by_side
from spe_dist.models.packed_attention import AttentionRows, layout_of, packed_attention, varlen_layout
from spe_dist.models.saved_encoder import new_sentence_encoder

pytestmark = pytest.mark.any_version

SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 20, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
CONFIGS = {
    "bert": BertConfig(**SIZES, pad_token_id=0),
    "roberta": RobertaConfig(**SIZES, pad_token_id=1),
    "electra": ElectraConfig(**SIZES, embedding_size=8, pad_token_id=0),
    "xlm-roberta": XLMRobertaConfig(**SIZES, pad_token_id=1),
    "modernbert": ModernBertConfig(  # the second layer looks three pieces to either side
        **{name: size for name, size in SIZES.items() if "dropout" not in name}, local_attention=6,
        global_attn_every_n_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=1, cls_token_id=1, sep_token_id=1,
    ),
    "deberta-v2": DebertaV2Config(
        **SIZES, pad_token_id=0, relative_attention=True, pos_att_type=["p2c", "c2p"], conv_kernel_size=3,
        conv_act="gelu", type_vocab_size=2,
    ),
    "deberta-v3": DebertaV2Config(
        **SIZES, pad_token_id=0, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=4,
        share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False, type_vocab_size=0,
    ),
}  # fmt: skip
PACKED = [kind for kind, config in CONFIGS.items() if architecture_of(config).packed]
MANY_OF_A_LENGTH = [3, 5] * 12 + [5] * 8  # as when predicting
LENGTHS = [[5, 1, 12, 3], [7], [2, 2, 2], MANY_OF_A_LENGTH]


def pack(sequences):
    lengths = torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64)
    return PackedSequences(
        piece_ids=torch.cat([*sequences, torch.zeros(0, dtype=torch.int64)]),
        positions=torch.cat([*(torch.arange(length) for length in lengths), torch.zeros(0, dtype=torch.int64)]),
        sequence_starts=torch.cat([torch.zeros(1), lengths.cumsum(0)]).int(),
        longest=int(lengths.max()) if len(lengths) else 0,
    )


def encoder_and_its_padded_twin(kind):
    torch.manual_seed(0)
    encoder = new_sentence_encoder(copy.deepcopy(CONFIGS[kind]))
    pooling = {"add_pooling_layer": False} if architecture_of(CONFIGS[kind]).pooler else {}
    twin = AutoModel.from_config(copy.deepcopy(CONFIGS[kind]), attn_implementation="eager", **pooling)
    twin.load_state_dict(encoder.model.state_dict())
    return encoder, twin


def padded_states(twin, sequences, pad):
    """States of the sequences' pieces; the model finds positions and types by itself."""
    ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=pad)
    mask = torch.zeros_like(ids)
    for row, sequence in zip(mask, sequences, strict=True):
        row[: len(sequence)] = 1
    return twin(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]


@pytest.mark.parametrize(("packed", "known"), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind != "modernbert"])  # which has no segments
def test_the_second_of_two_texts_has_a_segment_of_its_own(kind, packed, known, monkeypatch):
    monkeypatch.setattr(CONFIGS[kind], "type_vocab_size", 1 + known)
    encoder, twin = encoder_and_its_padded_twin(kind)
    encoder.packed = packed
    sequences = [torch.arange(2, 9), torch.arange(5, 10), torch.arange(3, 18)]
    segments = [(torch.arange(len(sequence)) > 2).long() for sequence in sequences]
    states = encoder(replace(pack(sequences), segments=torch.cat(segments)))
    expected = [
        twin(input_ids=one[None], token_type_ids=segment[None] * known).last_hidden_state[0]
        for one, segment in zip(sequences, segments, strict=True)
    ]
    torch.testing.assert_close(states, torch.cat(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(states, encoder(pack(sequences))) is not known


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("kind", CONFIGS)
def test_packed_states_and_gradients_equal_the_padded_models(kind, lengths):
    encoder, twin = encoder_and_its_padded_twin(kind)
    generator = torch.Generator().manual_seed(1)
    sequences = [torch.randint(2, 50, (length,), generator=generator) for length in lengths]
    states = encoder(pack(sequences))
    expected = padded_states(twin, sequences, CONFIGS[kind].pad_token_id)
    torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-5)
    into = torch.randn(states.shape, generator=generator)
    states.backward(into)
    expected.backward(into)
    gradients = {name: parameter.grad for name, parameter in twin.named_parameters()}
    assert any(gradient.abs().max() > 0.1 for gradient in gradients.values())
    for name, parameter in encoder.model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("kind", CONFIGS)
def test_attention_of_rows_equals_what_transformers_returns(kind, lengths):
    encoder, twin = encoder_and_its_padded_twin(kind)
    with torch.no_grad():  # so that queries and keys are more than noise around 0
        for name, weight in encoder.model.named_parameters():
            if any(part in name for part in ("query", "key", "Wqkv")):
                weight.normal_()
    twin.load_state_dict(encoder.model.state_dict())
    generator = torch.Generator().manual_seed(1)
    sequences = [torch.randint(2, 50, (length,), generator=generator) for length in lengths]
    chosen = [torch.rand(length, generator=generator) < 0.4 for length in lengths]
    rows = AttentionRows(
        torch.cat(chosen).nonzero()[:, 0], tuple(int(each.sum()) for each in chosen), tuple(map(len, sequences))
    )
    packed = pack(sequences)
    states, attention = encoder.with_attention(packed, rows)
    assert torch.equal(states, encoder(packed)) and len(attention) == len(lengths)
    for found, sequence, wanted in zip(attention, sequences, chosen, strict=True):
        expected = twin(input_ids=sequence[None], output_attentions=True).attentions[-1][0][:, wanted]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_many_sequences_of_a_length_are_not_padded():
    groups = layout_of(pack([torch.arange(2, 2 + length) for length in MANY_OF_A_LENGTH])).groups
    assert [(group.sequences, group.longest) for group in groups] == [(12, 3), (20, 5)]
    assert all(group.slots is None and group.is_piece is None for group in groups)
    padded = layout_of(pack([torch.arange(2, 2 + length) for length in [3, 5] * 8])).groups[0]
    assert padded.slots is not None and padded.is_piece is not None


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_the_weights_of_long_sequences_are_kept_once_and_are_those_of_fp32_rounded(precision):
    heads, lengths, generator = 2, (150, 3, 131, 7), torch.Generator().manual_seed(1)
    inputs = torch.randn(3, 1, heads, sum(lengths), 8, generator=generator).to(precision).requires_grad_()
    layout, kept = layout_of(pack([torch.arange(length) for length in lengths])), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        in_order = inputs[..., layout.order, :]  # as the encoder gives them
        states, _ = packed_attention(torch.nn.Identity(), *in_order, None, layout=layout, scaling=0.5)
    squares = {tensor.data_ptr(): tensor.dtype for tensor in kept if tensor.numel() == heads * 150**2}
    assert list(squares.values()) == [precision]
    attended = states[0, layout.places].transpose(0, 1).double()
    exact = inputs.detach().double().requires_grad_()
    expected = torch.cat(
        [
            (q * 0.5 @ k.transpose(1, 2)).softmax(2) @ v
            for q, k, v in zip(*(part[0].split(lengths, dim=1) for part in exact), strict=True)
        ],
        dim=1,
    )
    into = torch.randn(attended.shape, generator=generator, dtype=torch.float64)
    (gradients,), (exact_gradients,) = (
        torch.autograd.grad(x, of, into) for x, of in ((attended, inputs), (expected, exact))
    )
    for found, meant in ((attended, expected), (gradients, exact_gradients)):
        assert (found - meant).norm() < (1e-6 if precision == torch.float32 else 0.01) * meant.norm()


@pytest.mark.parametrize("kind", CONFIGS)
def test_padding_of_the_whole_forward_changes_no_state_and_no_gradient(kind):
    encoder, _ = encoder_and_its_padded_twin(kind)
    padded = copy.deepcopy(encoder)
    padded.packed = False
    batch = pack([torch.arange(2, 2 + length) for length in LENGTHS[0]])
    into = torch.randn(int(batch.sequence_starts[-1]), 16)
    for each in (encoder, padded):
        each(batch).backward(into)
    torch.testing.assert_close(padded(batch), encoder(batch), rtol=1e-5, atol=1e-6)
    for (name, one), other in zip(encoder.named_parameters(), padded.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "xlm-roberta"])  # windows need varlen_attn, no CPU has
def test_the_way_of_a_gpu_gives_the_same_states_gradients_and_attention(kind, side_by_side):
    config = copy.deepcopy(CONFIGS[kind])
    config.hidden_size = 64
    torch.manual_seed(0)
    encoder = new_sentence_encoder(config)
    joint = copy.deepcopy(encoder)  # its self-attentions must use their own weights
    if side_by_side:
        lay_side_by_side(joint)
    packed = pack([torch.arange(2, 2 + length) for length in LENGTHS[0]])
    pieces = int(packed.sequence_starts[-1])
    rows = AttentionRows(torch.arange(pieces), tuple(LENGTHS[0]), tuple(LENGTHS[0]))
    into = torch.randn(pieces, 64)
    expected, expected_attention = encoder.with_attention(packed, rows)
    expected.backward(into)
    with patch.object(sentence_encoder, "layout_of", lambda packed, **_: varlen_layout(packed)):
        states, attention = joint.with_attention(packed, rows)
    states.backward(into)
    torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(attention, expected_attention, rtol=1e-5, atol=1e-5)
    for (name, one), other in zip(encoder.named_parameters(), joint.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_compiled_layers_are_two_graphs_for_all_shapes():
    torch._dynamo.reset()
    encoder, _ = encoder_and_its_padded_twin("bert")
    compiled = copy.deepcopy(encoder)
    compiled.compile_layers(backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    generator = torch.Generator().manual_seed(1)
    for sequences in range(2, 8):
        lengths = torch.randint(2, 20, (sequences,), generator=generator).tolist()
        batch = pack([torch.randint(2, 50, (length,), generator=generator) for length in lengths])
        torch.testing.assert_close(compiled(batch), encoder(batch))
        with torch.no_grad():
            torch.testing.assert_close(compiled(batch), encoder(batch))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_added_to_embeddings_is_added_to_each_piece(kind):
    encoder, twin = encoder_and_its_padded_twin(kind)
    sequences = [torch.arange(5, 9), torch.arange(20, 30), torch.arange(20, 24)]
    table = encoder.word_embeddings
    added = [torch.randn(len(one), table.embedding_dim) for one in sequences]
    expected = [
        twin(inputs_embeds=(table(one) + more)[None]).last_hidden_state[0]
        for one, more in zip(sequences, added, strict=True)
    ]
    states = encoder(pack(sequences), torch.cat(added))
    torch.testing.assert_close(states, torch.cat(expected), rtol=1e-5, atol=1e-5)


def test_rotary_frequencies_stay_in_fp32():
    encoder, twin = encoder_and_its_padded_twin("modernbert")
    encoder.bfloat16()
    assert encoder.word_embeddings.weight.dtype == torch.bfloat16
    buffers = dict(encoder.model.named_buffers())
    assert len(buffers) == 4
    for name, buffer in twin.named_buffers():
        assert buffers[name].dtype == torch.float32 and torch.equal(buffers[name], buffer)
    assert encoder(pack([torch.arange(5, 15)])).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_sequence_does_not_see_its_neighbours(kind):
    encoder, _ = encoder_and_its_padded_twin(kind)
    sequences = [torch.arange(5, 9), torch.arange(20, 30)]
    alone = torch.cat([encoder(pack([sequence])) for sequence in sequences])
    torch.testing.assert_close(encoder(pack(sequences)), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_sequences_give_every_parameter_a_gradient_of_zeros(kind):
    encoder, _ = encoder_and_its_padded_twin(kind)
    states = encoder(pack([]))
    assert states.shape == (0, 16)
    states.sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_attention_drops_weights_in_training_only(kind):
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[kind])
    set_dropout(config, EncoderConfig(name_or_path=None, dropout=0.0, attention_dropout=0.5))
    encoder, batch = new_sentence_encoder(config), pack([torch.arange(5, 15)])
    assert not torch.equal(encoder.train()(batch), encoder(batch))
    assert torch.equal(encoder.eval()(batch), encoder(batch))
