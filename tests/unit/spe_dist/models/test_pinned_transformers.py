"""What transformers does today and this project relies on, seen through its public calls.

If one of these tests fails after an upgrade, nothing is wrong yet: read what it says and change
`spe_dist/models/sentence_encoder.py`, `packed_attention.py` or `export/export_run.py` to match.
"""

import pytest
import torch
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    ElectraConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

SIZES = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 20,
    "type_vocab_size": 1,
}
KINDS = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES, pad_token_id=1),
    "electra": ElectraConfig(**SIZES, embedding_size=8),
}
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def build(kind, attention="sdpa", **options):
    torch.manual_seed(0)
    if kind != "electra":
        options["add_pooling_layer"] = False
    return AutoModel.from_config(KINDS[kind], attn_implementation=attention, **options).eval()


def test_a_registered_attention_gets_keyword_arguments_of_the_model_call_and_no_mask_in_every_layer(kind):
    calls = []

    def spy(module, query, key, value, attention_mask, *, scaling, dropout=0.0, extra=None, **_):
        calls.append((tuple(query.shape), attention_mask, scaling, dropout, extra))
        return torch.zeros(query.shape[0], query.shape[2], query.shape[1], query.shape[3]), None

    AttentionInterface.register("pinned", spy)
    model = build(kind, "pinned")
    states = model(input_ids=IDS, position_ids=torch.arange(4)[None], extra="passed on").last_hidden_state
    assert states.shape == (1, 4, 8)
    # [batch, heads, pieces, size]; 1 / √size; the result is [batch, pieces, heads, size]
    assert calls == [((1, 2, 4, 4), None, 0.5, 0.0, "passed on")] * 2


def test_dropout_reaches_the_attention_in_training_only():
    seen = []

    def spy(module, query, key, value, attention_mask, *, dropout=0.0, **_):
        seen.append(dropout)
        return query.transpose(1, 2), None

    AttentionInterface.register("pinned", spy)
    config = BertConfig(**SIZES, attention_probs_dropout_prob=0.3)
    model = AutoModel.from_config(config, attn_implementation="pinned", add_pooling_layer=False)
    for training in (True, False):
        model.train(training)(input_ids=IDS)
    assert seen == [0.3, 0.3, 0.0, 0.0]


def test_given_positions_are_taken_as_they_are_and_roberta_counts_from_behind_its_padding(kind):
    model = build(kind)
    first = 2 if kind == "roberta" else 0
    given = model(input_ids=IDS, position_ids=torch.arange(first, first + 4)[None]).last_hidden_state
    shifted = model(input_ids=IDS, position_ids=torch.arange(first + 1, first + 5)[None]).last_hidden_state
    torch.testing.assert_close(given, model(input_ids=IDS).last_hidden_state)
    assert (given - shifted).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_model_without_pooler_has_no_weights_that_do_not_reach_the_states(kind):
    model = build(kind)
    model(input_ids=IDS).last_hidden_state.sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert not any("pooler" in name for name, _ in model.named_parameters())


def test_buffers_are_not_part_of_the_state(kind):
    """A checkpoint holds parameters only."""
    model = build(kind)
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


def test_dropout_settings_have_these_names(kind):
    assert {"hidden_dropout_prob", "attention_probs_dropout_prob"} <= KINDS[kind].to_dict().keys()


def test_weights_are_saved_and_loaded_bit_by_bit_and_the_kind_is_in_the_config(kind, tmp_path):
    model = build(kind)
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).model_type == kind
    options = {} if kind == "electra" else {"add_pooling_layer": False}
    again = AutoModel.from_pretrained(tmp_path, **options)
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    assert (tmp_path / "model.safetensors").exists()


def test_a_vocabulary_is_not_listed_in_the_order_of_its_ids(tmp_path):
    """So ids come from the mapping, never from the order of iteration."""
    from data_shards.text.word_pieces import WordPieces

    WordPieces.load(str(DEBUG_VOCAB)).save(tmp_path)
    vocabulary = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json")).get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert list(vocabulary.values()) != list(range(len(vocabulary)))


def test_a_bert_without_given_token_types_takes_type_0():
    model = BertModel(BertConfig(**SIZES | {"type_vocab_size": 2}), add_pooling_layer=False).eval()
    zeros, ones = (
        model(input_ids=IDS, token_type_ids=make(IDS)).last_hidden_state for make in (torch.zeros_like, torch.ones_like)
    )
    torch.testing.assert_close(zeros, model(input_ids=IDS).last_hidden_state)
    assert (zeros - ones).abs().max() > 1e-3
