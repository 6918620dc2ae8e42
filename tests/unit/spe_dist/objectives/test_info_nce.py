import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from spe_dist.objectives.info_nce import info_nce

T = 0.2


def vectors(rows, *, seed, size=7):
    drawn = torch.randn(rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return normalize(drawn, dim=1).float()


def by_cross_entropy(queries, positives, negatives):
    """The positive is number 0 of the concatenated logits."""
    logits = torch.cat([(queries * positives).sum(1, keepdim=True), queries @ negatives.T], dim=1) / T
    return cross_entropy(logits, torch.zeros(len(queries), dtype=torch.int64), reduction="none")


@pytest.mark.parametrize("num_negatives", [1, 2, 100])
@pytest.mark.parametrize("scale", [1, 50])  # 50: as large as without normalisation
def test_it_is_cross_entropy_over_positive_and_negatives_with_target_0(num_negatives, scale):
    queries = (vectors(6, seed=1) * scale).requires_grad_()
    positives, negatives = vectors(6, seed=2), vectors(num_negatives, seed=3)
    found, expected = (
        info_nce(queries, positives, negatives, temperature=T),
        by_cross_entropy(queries, positives, negatives),
    )
    torch.testing.assert_close(found.losses, expected, rtol=1e-5, atol=1e-5)
    weights = torch.linspace(0.1, 1, 6)
    torch.testing.assert_close(
        torch.autograd.grad(found.losses, queries, weights)[0],
        torch.autograd.grad(expected, queries, weights)[0],
        rtol=1e-4,
        atol=3e-5,
    )


def as_tensor_cores_read(values):
    """Rounded to the ten bits of TF32."""
    return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def test_products_on_tensor_cores_change_losses_less_than_queries_in_bf16_do():
    queries, positives, negatives = (
        vectors(64, seed=1, size=768),
        vectors(64, seed=2, size=768),
        vectors(4096, seed=3, size=768),
    )
    exact, in_tf32, in_bf16 = (
        info_nce(of_queries, positives, of_keys, temperature=0.07)
        for of_queries, of_keys in (
            (queries, negatives),
            (as_tensor_cores_read(queries), as_tensor_cores_read(negatives)),
            (queries.bfloat16().float(), negatives),
        )
    )
    differences = [(other.negatives - exact.negatives).abs().max() for other in (in_tf32, in_bf16)]
    assert differences[0] < 1e-4 and differences[0] < differences[1] / 4
    assert (in_tf32.losses - exact.losses).abs().max() < 5e-4  # of 8 to 9; queries in bf16: 2e-3


def test_with_an_empty_queue_the_loss_is_zero_and_so_is_the_gradient():
    queries = vectors(6, seed=1).requires_grad_()
    result = info_nce(queries, vectors(6, seed=2), vectors(0, seed=3), temperature=T)
    result.losses.sum().backward()
    assert result.losses.tolist() == [0.0] * 6
    assert queries.grad.tolist() == [[0.0] * 7] * 6
    assert result.found().all()


def test_no_queries_give_a_loss_of_zero_that_has_a_gradient():
    queries = vectors(0, seed=1).requires_grad_()
    info_nce(queries, vectors(0, seed=2), vectors(9, seed=3), temperature=T).losses.sum().backward()
    assert queries.grad.shape == (0, 7)


def test_found_are_the_queries_nearer_to_their_positive_than_to_every_negative():
    queries, positives, negatives = vectors(50, seed=1), vectors(50, seed=2), vectors(3, seed=3)
    result = info_nce(queries, positives, negatives, temperature=T)
    expected = [all(q @ p > q @ n for n in negatives) for q, p in zip(queries, positives, strict=True)]
    assert result.found().tolist() == expected
    assert 0 < sum(expected) < 50


def test_similarities_carry_no_temperature_and_no_gradient():
    queries = vectors(4, seed=1).requires_grad_()
    positives, negatives = vectors(4, seed=2), vectors(3, seed=3)
    result = info_nce(queries, positives, negatives, temperature=T)
    torch.testing.assert_close(result.positives, (queries * positives).sum(1).detach())
    torch.testing.assert_close(result.negatives, (queries @ negatives.T).detach())
    assert not result.positives.requires_grad
    assert not result.negatives.requires_grad
