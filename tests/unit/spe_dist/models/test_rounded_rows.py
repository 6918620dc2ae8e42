"""Numbers of rows are rounded up by little, to few, and nothing that is found depends on it."""

import copy

import pytest
import torch
from torch import nn

from spe_dist.models import sentence_encoder as module
from spe_dist.models.rounded_rows import round_rows, rounded_up
from spe_dist.models.transform_block import TransformBlock
from tests.unit.spe_dist.models.test_packed_attention import encoder_and_its_padded_twin, pack


def test_few_numbers_are_left_and_none_is_much_larger():
    rounded = [rounded_up(rows) for rows in range(5000)]
    assert rounded[0] == 0 and rounded == sorted(rounded)
    assert all(rows <= more <= max(rows * 9 / 8, rows + 7) and more % 8 == 0 for rows, more in enumerate(rounded))
    assert len(set(rounded)) == 59 and all(rounded_up(more) == more for more in rounded)


@pytest.mark.parametrize(("dtype", "first"), [(torch.bfloat16, 16), (torch.float32, 13)])
def test_rows_that_are_added_change_no_result(dtype, first, monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), TransformBlock(6, 5, dropout=0.0)).to(dtype).eval()
    rounded = copy.deepcopy(model)
    round_rows(rounded, dtype)
    inputs, seen, linear = torch.randn(13, 4, dtype=dtype), [], nn.functional.linear
    expected = model(inputs)
    monkeypatch.setattr(nn.functional, "linear", lambda x, *others: seen.append(len(x)) or linear(x, *others))
    for one in (rounded, copy.deepcopy(rounded)):
        round_rows(one, dtype)  # again: an extractor that is unpickled rounds anew
        seen.clear()
        with torch.no_grad():
            torch.testing.assert_close(one(inputs), expected)
            assert seen == [first, 16]
            assert one(inputs[:0]).shape == (0, 5) and one(inputs.view(1, 13, 4)).shape == (1, 13, 5)
        seen.clear()
        one(inputs)
        assert seen == [13, 13]


@pytest.mark.parametrize("lengths", [(5,), (5, 1, 9, 3), (7, 7), (3,) * 40], ids=str)
@pytest.mark.parametrize("kind", ["bert", "modernbert"])  # the second looks nearby only, in some layers
def test_without_gradients_each_sequence_attends_by_itself_with_the_same_states(kind, lengths, monkeypatch):
    encoder, _ = encoder_and_its_padded_twin(kind)
    encoder.eval()
    for name, weight in encoder.model.named_parameters():
        if "query" in name or "key" in name or "Wqkv" in name:
            nn.init.normal_(weight)
    packed = pack([torch.randint(2, 40, (length,)) for length in lengths])
    expected, pieces, calls = encoder(packed).detach(), sum(lengths), []
    for name in ("linear", "scaled_dot_product_attention"):
        monkeypatch.setattr(nn.functional, name, _noted(calls, getattr(nn.functional, name)))

    def called() -> tuple[set[int], bool]:
        """Rows of linear layers, and whether sequences have attended by themselves."""
        rows = {x.shape[:-1].numel() for name, x in calls if name == "linear"}
        alone = any(name != "linear" for name, _ in calls)
        calls.clear()
        return rows, alone

    encoder.predicts = True
    torch.testing.assert_close(encoder(packed), expected, rtol=0, atol=0)
    assert called() == ({pieces}, False)
    few = len(lengths) < 16  # many of one length are a group, which needs no padding
    with torch.no_grad():
        torch.testing.assert_close(encoder(packed), expected, rtol=1e-5, atol=1e-5)
        assert called() == ({pieces}, few)
        encoder.to(torch.bfloat16)
        rounded = encoder(packed)
        assert called() == ({rounded_up(pieces)}, few)
        with torch.enable_grad():
            encoder(packed)
        assert called() == ({pieces}, False)
        monkeypatch.setattr(module, "rounded_up", lambda rows: rows)
        torch.testing.assert_close(encoder(packed), rounded, rtol=0.05, atol=0.05)
        assert called() == ({pieces}, few)
        torch.testing.assert_close(rounded.float(), expected, rtol=0.2, atol=0.2)


def _noted(calls, function):
    return lambda x, *others, **settings: calls.append((function.__name__, x)) or function(x, *others, **settings)
