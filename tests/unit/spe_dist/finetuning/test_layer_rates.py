import pytest

from spe_dist.engine.param_groups import param_groups
from spe_dist.finetuning.layer_rates import layer_rate
from tests.unit.spe_dist.extraction.tiny import tiny_model


def rate(name, **changes):
    settings = {"layers": 12, "decay": 0.9, "embeddings": "lowest_layer", "heads": 1.0}
    return layer_rate(name, **(settings | changes))


def test_rates_fall_from_layer_to_layer():
    names = [f"sentence_encoder.model.encoder.layer.{i}.attention.self.query.weight" for i in range(12)]
    assert [rate(name) for name in names] == [pytest.approx(0.9 ** (11 - i)) for i in range(12)]
    assert rate(names[11]) == 1
    word_embeddings = "sentence_encoder.model.embeddings.word_embeddings.weight"
    assert rate(word_embeddings) == rate(names[0]) == pytest.approx(0.314, abs=5e-4)  # of 2.5e-5: 0.785e-5
    assert rate(word_embeddings, embeddings="full") == 1


def test_layers_of_modernbert_are_found():
    prefix = "sentence_encoder.model."
    assert rate(f"{prefix}layers.10.attn.Wqkv.weight") == 0.9
    assert rate(f"{prefix}final_norm.weight") == 1
    assert rate(f"{prefix}embeddings.tok_embeddings.weight") == pytest.approx(0.9**11)


def test_heads_have_a_rate_of_their_own():
    for name in ("tags.weight", "span_encoder.taps.weight", "pair_encoder.positions.weight", "relations.scores.bias"):
        assert rate(name) == 1
        assert rate(name, heads=5.0) == 5


def test_every_parameter_is_in_one_group_with_its_rate_and_decay():
    model = tiny_model()

    def rate_of(name):
        return rate(name, layers=2, heads=3.0)

    groups = param_groups(model, 0.01, rate_of)
    assert sorted({group["rate"] for group in groups}) == [0.9, 1.0, 3.0]
    parameters = dict(model.named_parameters())
    assert sorted(name for group in groups for name in group["names"]) == sorted(parameters)
    for group in groups:
        assert [id(p) for p in group["params"]] == [id(parameters[name]) for name in group["names"]]
        assert {rate_of(name) for name in group["names"]} == {group["rate"]}
        assert {parameters[name].ndim > 1 for name in group["names"]} == {group["weight_decay"] > 0}
