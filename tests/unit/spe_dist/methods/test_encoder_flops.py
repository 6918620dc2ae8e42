"""The formula of each kind of encoder against torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spe_dist.methods.model_flops import encoder_flops
from spe_dist.methods.workload import Workload
from tests.unit.spe_dist.models.test_packed_attention import CONFIGS, encoder_and_its_padded_twin, pack

SEQUENCES, HIDDEN, NEARBY = 3, 16, 7  # pieces that ModernBERT's second layer looks at


def formula_and_count(kind: str, length: int) -> tuple[int, int]:
    encoder, _ = encoder_and_its_padded_twin(kind)
    with FlopCounterMode(display=False) as counter:
        encoder(pack([torch.arange(2, 2 + length)] * SEQUENCES))
    # Older transformers compute the angles of positions as a product, which is not of the formula.
    angles = sum(sum(of.values()) for name, of in counter.get_flop_counts().items() if name.endswith("rotary_emb"))
    pieces = SEQUENCES * length
    work = Workload(
        counts={}, forwards=1, pieces=pieces, squared_lengths=pieces * length, padded_pieces=pieces, words=pieces
    )
    return sum(encoder_flops(encoder.model.config, work).values()), counter.get_total_flops() - angles


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_forward_pass_is_counted_to_the_flop(kind: str) -> None:
    formula, counted = formula_and_count(kind, NEARBY)
    assert formula == counted


def test_a_layer_that_looks_nearby_needs_less_than_a_cpu_computes() -> None:
    length = 2 * NEARBY
    formula, counted = formula_and_count("modernbert", length)
    assert counted - formula == 4 * HIDDEN * SEQUENCES * length * (length - NEARBY)
