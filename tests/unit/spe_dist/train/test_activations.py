"""What a forward pass keeps, against a count by hand."""

import torch
from torch import nn

from spe_dist.train.activations import _kept_bytes


def test_what_is_kept_is_counted_once_in_bytes_without_parameters():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 2), nn.Linear(2, 2)).bfloat16()
        pieces = torch.empty(10, 4, dtype=torch.bfloat16)
    of_input, before_gelu, mask, after_dropout, between = 2 * 40, 2 * 80, 80, 2 * 80, 2 * 20
    kept = of_input + before_gelu + mask + after_dropout + between
    assert _kept_bytes(lambda: model(pieces).sum(), model) == kept
    assert _kept_bytes(lambda: (model(pieces) + model[0](pieces).sum()).sum(), model) == kept, "the input twice"
