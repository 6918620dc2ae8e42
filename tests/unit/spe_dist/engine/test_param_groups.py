from torch import nn

from spe_dist.engine.param_groups import param_groups


def test_matrices_decay_and_biases_and_norms_do_not():
    decayed, plain = param_groups(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), 0.1)
    assert (decayed["names"], decayed["weight_decay"]) == (["0.weight"], 0.1)
    assert (plain["names"], plain["weight_decay"]) == (["0.bias", "1.weight", "1.bias"], 0.0)
    assert [param.shape for param in plain["params"]] == [(4,), (4,), (4,)]


def test_a_shared_parameter_appears_once():
    module = nn.ModuleDict({"words": nn.Embedding(5, 3), "decoder": nn.Linear(3, 5, bias=False)})
    module["decoder"].weight = module["words"].weight
    (group,) = param_groups(module, 0.1)
    assert group["names"] == ["words.weight"]
