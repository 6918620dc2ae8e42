"""The figures of the paper, or of its released program where the paper says none, in the recipe `spe_wiki`."""

import pytest
import torch
from transformers import BertConfig

from spe_dist.engine.schedule import learning_rate
from spe_dist.methods.spe.footprint import bytes_beside
from spe_dist.methods.spe.model import SpeEncoder, SpeModel, new_model
from spe_dist.moco.key_queue import KeyQueue
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.recipe import load_recipe
from tests.paper.tiny_spe import RECIPES, build_spe

CONFIG = load_recipe(RECIPES / "spe_wiki.yaml")


def test_batch_of_256_and_40_000_steps_with_18_000_of_warm_up():
    assert CONFIG.batch.lanes * CONFIG.batch.lane_size == 256
    optimizer = CONFIG.optimizer
    rates = [
        learning_rate(step, peak=optimizer.learning_rate, warmup_steps=optimizer.warmup_steps, steps=CONFIG.train.steps)
        for step in range(CONFIG.train.steps + 1)
    ]
    assert max(rates) == rates[17_999] == 1e-4
    assert rates[-1] == 0 < rates[-2]
    assert len(rates) - 1 == 40_000


def test_adam_with_betas_of_0_9_and_0_999_and_decay_of_0_01():
    optimizer = CONFIG.optimizer
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.999), 1e-6)
    assert (optimizer.weight_decay, optimizer.clip) == (0.01, 1.0)


def test_span_lengths_are_geometric_with_p_of_0_2_up_to_10_words():
    assert (CONFIG.spans.geometric_p, CONFIG.spans.max_words) == (0.2, 10)


def test_tbo_hides_15_percent_and_20_pieces_at_most_and_decodes_with_the_word_embeddings():
    assert (CONFIG.tbo.budget_share, CONFIG.tbo.budget_cap, CONFIG.tbo.tied) == (0.15, 20, True)


def test_two_spans_of_a_sentence_are_permuted():
    assert CONFIG.spo.max_spans == 2


def test_contrast_has_65_536_records_momentum_of_0_999_and_normalised_vectors_at_temperature_0_07():
    cspo = CONFIG.cspo
    assert (cspo.queue_size, cspo.momentum, cspo.temperature, cspo.normalize, cspo.head) == (
        65_536, 0.999, 0.07, True, True
    )  # fmt: skip


def test_dropout_is_0_1_in_encoder_and_heads():
    assert CONFIG.encoder.dropout == CONFIG.heads_dropout == 0.1


def test_a_new_run_starts_from_cased_bert():
    assert CONFIG.encoder.name_or_path == "bert-base-cased"


@pytest.fixture(scope="module")
def shapes():
    """Of the recipe's model on an encoder of BERT's width."""
    bert = BertConfig(vocab_size=30, hidden_size=768, num_hidden_layers=0, num_attention_heads=12)
    with torch.device("meta"):
        model = SpeModel(CONFIG, SpeEncoder(CONFIG, new_sentence_encoder(bert)))
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def test_the_span_cnn_has_100_filters_of_2_3_and_4_words_and_spans_have_300_numbers(shapes):
    assert CONFIG.span_encoder.kernel_sizes == (2, 3, 4)
    assert shapes["encoder.span_encoder.taps.weight"] == ((2 + 3 + 4) * 100, 768)
    assert shapes["encoder.span_encoder.bias"] == (300,)
    assert shapes["encoder.span_encoder.block.linear.weight"] == (300, 300)


def test_pair_attention_has_500_numbers_and_positions_100(shapes):
    assert shapes["encoder.pair_encoder.from_span.weight"] == (500, 300)
    assert shapes["encoder.pair_encoder.from_sentence.weight"] == (500, 768)
    assert shapes["encoder.pair_encoder.from_positions.weight"] == (500, 200)
    assert shapes["encoder.pair_encoder.positions.weight"] == (7, 100)


def test_the_head_of_contrast_goes_from_300_over_768_to_768(shapes):
    assert shapes["encoder.head.blocks.0.linear.weight"] == (768, 300)
    assert shapes["encoder.head.blocks.1.linear.weight"] == (768, 768)


def test_tbo_reads_a_state_and_an_offset_of_200_numbers_and_spo_tells_6_orders(shapes):
    assert shapes["tbo.offsets.weight"] == (150, 200)
    assert shapes["tbo.block.linear.weight"] == (768, 968)
    assert shapes["spo.classifier.weight"] == (6, 300)


def test_the_loss_is_a_weighted_sum_in_which_both_views_count_the_same():
    assert (CONFIG.tbo.weight, CONFIG.spo.weight, CONFIG.cspo.weight) == (0.15, 1.0, 0.4)  # of equal gradients
    spe, _ = build_spe(tbo={"weight": 0.5}, spo={"weight": 1.0}, cspo={"weight": 0.3})
    assert dict(zip(spe.terms, spe.term_weights, strict=True)) == {
        "tbo_pair": 0.25, "tbo_context": 0.25, "spo_pair": 0.5, "spo_context": 0.5, "cspo": 0.3
    }  # fmt: skip


def test_the_papers_queues_take_the_memory_that_the_formula_says():
    """65,536 records of two keys of 768 in fp32, and their ids."""
    bert = BertConfig(vocab_size=30, hidden_size=768, num_hidden_layers=0, num_attention_heads=12)
    with torch.device("meta"):
        model = new_model(CONFIG, bert, None)
    queue = KeyQueue(CONFIG.cspo.queue_size, model.encoder.key_size, device=torch.device("cpu"))
    held = sum(tensor.nbytes for name, tensor in queue.state().items() if name != "enqueued")
    assert held == bytes_beside(CONFIG, model)["queues"] == 65_536 * (2 * 768 * 4 + 8)
