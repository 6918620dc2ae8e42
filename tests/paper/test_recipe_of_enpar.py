"""The figures of the ENPAR paper, or of its released program where the paper says none, in the recipe `enpar_wiki`."""

import pytest
import torch
from transformers import BertConfig

from spe_dist.methods.enpar.model import new_model
from spe_dist.recipe import load_recipe
from tests.paper.tiny_spe import RECIPES

CONFIG = load_recipe(RECIPES / "enpar_wiki.yaml")


def test_of_the_entities_15_percent_are_masked_and_5_percent_replaced():
    assert (CONFIG.masking.masked, CONFIG.masking.replaced) == (0.15, 0.05)


def test_a_pair_has_five_perturbed_copies_shifted_by_up_to_five_words_and_a_margin_of_1():
    assert (CONFIG.acd.perturbed, CONFIG.acd.max_shift, CONFIG.acd.margin) == (5, 5, 1.0)


def test_n_p_is_5():
    assert CONFIG.pp.permutations == 5


def test_the_loss_is_the_plain_sum():
    assert (CONFIG.met.weight, CONFIG.mep.weight, CONFIG.acd.weight, CONFIG.pp.weight) == (1.0, 1.0, 1.0, 1.0)


def test_batches_are_about_512_sequences():
    a_record = 1 + CONFIG.acd.perturbed + CONFIG.pp.permutations - 1 + 1
    assert 512 <= CONFIG.batch.lanes * CONFIG.batch.lane_size * a_record <= 540


def test_learning_rate_of_5e_5_warm_up_of_a_tenth_and_adam_as_in_spe():
    optimizer = CONFIG.optimizer
    assert optimizer.learning_rate == 5e-5
    assert optimizer.warmup_steps == CONFIG.train.steps / 10
    assert (optimizer.weight_decay, optimizer.clip, optimizer.eps) == (0.01, 1.0, 1e-6)


@pytest.fixture(scope="module")
def shapes():
    """Of the recipe's model on an encoder of BERT's width, with the 18 types of OntoNotes."""
    bert = BertConfig(vocab_size=30, hidden_size=768, num_hidden_layers=0, num_attention_heads=12)
    with torch.device("meta"):
        model = new_model(CONFIG, bert, None)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def test_entities_have_192_numbers_from_filters_of_2_3_and_4_words(shapes):
    assert CONFIG.entity_encoder.kernel_sizes == (2, 3, 4)
    assert shapes["encoder.span_encoder.taps.weight"] == ((2 + 3 + 4) * 100, 768)
    assert shapes["encoder.span_encoder.block.linear.weight"] == (192, 300)


def test_contexts_have_128_numbers_from_filters_of_3_4_and_5_words(shapes):
    assert CONFIG.context_encoder.kernel_sizes == (3, 4, 5)
    assert shapes["encoder.context_encoder.taps.weight"] == ((3 + 4 + 5) * 100, 768)
    assert shapes["encoder.context_encoder.block.linear.weight"] == (128, 300)


def test_a_pair_goes_from_768_to_256(shapes):
    assert shapes["encoder.pair_encoder.block.linear.weight"] == (256, 3 * 128 + 2 * 192)
    assert 3 * 128 + 2 * 192 == 768


def test_heads_tell_18_types_and_120_orders_and_give_one_score(shapes):
    assert shapes["met.classifier.weight"] == (18, 192)
    assert shapes["pp.classifier.weight"] == (120, 256)
    assert shapes["acd.score.weight"] == (1, 256)


def test_pieces_are_predicted_by_a_768_block_and_the_word_embeddings(shapes):
    assert shapes["mep.block.linear.weight"] == (768, 768)
    assert "mep.decoder.weight" not in shapes  # tied
    assert shapes["mep.decoder.bias"] == (30,)
