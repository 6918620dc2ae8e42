import pytest
import torch
from torch import nn

from spe_dist.methods.spe.token_boundary import LARGEST_OFFSET, TokenBoundaryObjective

HIDDEN, EMBEDDING, VOCAB, OFFSET_SIZE = 6, 6, 30, 4


def build(*, tied=True, embedding=EMBEDDING):
    torch.manual_seed(0)
    table = nn.Embedding(VOCAB, embedding)
    objective = TokenBoundaryObjective(HIDDEN, table, offset_size=OFFSET_SIZE, tied=tied, dropout=0.0)
    for parameter in objective.parameters():
        nn.init.normal_(parameter)
    return objective.double(), table


def items(count=12):
    anchors = torch.randn(count, HIDDEN, dtype=torch.float64, requires_grad=True)
    return anchors, torch.randint(1, 9, (count,)), torch.randint(0, VOCAB, (count,))


@pytest.mark.parametrize("embedding", [6, 3])  # Electra's table is narrower than its states
@pytest.mark.parametrize("tied", [True, False])
def test_loss_is_minus_the_log_probability_of_the_hidden_piece(tied, embedding):
    objective, table = build(tied=tied, embedding=embedding)
    anchors, offsets, targets = items()
    losses, found = objective(anchors, offsets, targets)
    matrix = table.weight if tied else objective.decoder.weight
    expected, best = [], []
    for anchor, offset, target in zip(anchors, offsets, targets, strict=True):
        inputs = torch.cat([anchor, objective.offsets.weight[offset]])
        logits = matrix @ objective.block(inputs) + objective.decoder.bias
        expected.append(logits.exp().sum().log() - logits[target])
        best.append(bool(logits.argmax() == target))
    expected = torch.stack(expected)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
    assert found.tolist() == best
    torch.testing.assert_close(
        torch.autograd.grad(losses.sum(), anchors)[0],
        torch.autograd.grad(expected.sum(), anchors)[0],
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_tied_decoder_is_the_word_embedding_itself():
    objective, table = build(tied=True)
    assert objective.decoder.weight is table.weight
    objective(*items())[0].sum().backward()
    assert table.weight.grad.any()


def test_an_untied_decoder_is_a_matrix_of_its_own():
    objective, table = build(tied=False)
    assert objective.decoder.weight is not table.weight
    objective(*items())[0].sum().backward()
    assert table.weight.grad is None


@pytest.mark.parametrize("tied", [True, False])
def test_building_it_leaves_the_word_embeddings_as_they_were(tied):
    table = nn.Embedding(VOCAB, EMBEDDING)
    before = table.weight.clone()
    TokenBoundaryObjective(HIDDEN, table, offset_size=OFFSET_SIZE, tied=tied, dropout=0.0)
    assert torch.equal(table.weight, before)


def test_offsets_beyond_the_table_use_its_last_row():
    objective, _ = build()
    anchors, _, targets = items(3)
    losses, _ = objective(anchors[:1].expand(3, -1), torch.tensor([149, 150, 500]), targets[:1].expand(3))
    assert losses[0] == losses[1] == losses[2]
    assert LARGEST_OFFSET == 150


def test_without_targets_every_parameter_gets_a_gradient_of_zeros():
    objective, _ = build()
    none = torch.zeros(0, dtype=torch.int64)
    losses, found = objective(torch.zeros(0, HIDDEN, dtype=torch.float64), none, none)
    losses.sum().backward()
    assert len(losses) == len(found) == 0
    assert all(p.grad is not None and not p.grad.any() for p in objective.parameters())
