import torch
from torch.nn.functional import cross_entropy, normalize

from spe_dist.methods.spe.contrastive_span_pair import (
    METRICS,
    ContrastiveSpanPairObjective,
    Negatives,
    count_found_in_step,
)

R, D, K, T = 5, 6, 8, 0.2
OBJECTIVE = ContrastiveSpanPairObjective(temperature=T)


def vectors(rows, seed):
    return normalize(torch.randn(rows, D, generator=torch.Generator().manual_seed(seed)), dim=1)


QUERIES, KEYS = vectors(2 * R, 1), vectors(2 * R, 2)
QUEUE = Negatives(pair_keys=vectors(K, 3), context_keys=vectors(K, 4))


def loss_by_loops(queries, keys, queue):
    losses = []
    for row in range(R):
        pair_query, context_query, pair_key, context_key = queries[row], queries[R + row], keys[row], keys[R + row]
        by_pair = torch.stack([pair_query @ context_key, *(pair_query @ key for key in queue.context_keys)])
        by_context = torch.stack([context_query @ pair_key, *(context_query @ key for key in queue.pair_keys)])
        losses.append(sum(cross_entropy(logits / T, torch.tensor(0)) for logits in (by_pair, by_context)) / 2)
    return torch.stack(losses)


def test_each_view_looks_for_the_other_views_key_among_the_other_views_queue():
    queries = QUERIES.clone().requires_grad_()
    losses, _ = OBJECTIVE(queries, KEYS, QUEUE)
    expected = loss_by_loops(queries, KEYS, QUEUE)
    torch.testing.assert_close(losses, expected)
    into = torch.linspace(0.1, 1, R)
    torch.testing.assert_close(torch.autograd.grad(losses, queries, into), torch.autograd.grad(expected, queries, into))


def test_swapping_the_views_changes_nothing():
    swapped = OBJECTIVE(QUERIES.roll(R, 0), KEYS.roll(R, 0), Negatives(QUEUE.context_keys, QUEUE.pair_keys))
    torch.testing.assert_close(swapped, OBJECTIVE(QUERIES, KEYS, QUEUE))


def test_measures_are_sums_over_records_of_the_mean_of_both_directions():
    _, metrics = OBJECTIVE(QUERIES, KEYS, QUEUE)
    found = positive = negative = 0.0
    for row in range(R):
        for query, key, queue in (
            (QUERIES[row], KEYS[R + row], QUEUE.context_keys),
            (QUERIES[R + row], KEYS[row], QUEUE.pair_keys),
        ):
            found += float(query @ key > (queue @ query).max()) / 2
            positive += float(query @ key) / 2
            negative += float((queue @ query).mean()) / 2
    expected = {"found": found, "positive_similarity": positive, "negative_similarity": negative}
    torch.testing.assert_close(metrics, torch.tensor([expected[name] for name in METRICS]))


def test_an_empty_queue_gives_no_loss_and_finite_measures():
    none = torch.zeros(0, D)
    losses, metrics = OBJECTIVE(QUERIES, KEYS, Negatives(none, none))
    assert losses.tolist() == [0.0] * R
    assert metrics.isfinite().all()


def found_in_step_by_loops(queries, keys):
    found = 0.0
    for query_view, key_view in ((0, 1), (1, 0)):
        for row in range(queries.shape[1]):
            similarities = [float(queries[query_view, row] @ key) for key in keys[key_view]]
            found += all(similarities[row] > other for i, other in enumerate(similarities) if i != row) / 2
    return found


def test_a_rank_looks_for_its_records_among_the_keys_of_all_ranks():
    records = 40
    keys = vectors(2 * records, 5).view(2, records, D)
    queries = normalize(keys.flip(0) + 0.6 * vectors(2 * records, 6).view(2, records, D), dim=2)
    expected = found_in_step_by_loops(queries, keys)
    assert 0.2 * records < expected < 0.9 * records
    assert float(count_found_in_step(queries, keys, 0)) == expected
    parts = [(0, 13), (13, 13), (13, 40)]  # of three ranks, one of which has no records
    assert sum(float(count_found_in_step(queries[:, a:b], keys, a)) for a, b in parts) == expected


def test_equal_keys_are_not_told_apart_in_a_step():
    keys = vectors(2, 5).view(2, 1, D).expand(2, R, D)
    assert float(count_found_in_step(keys.flip(0), keys, 0)) == 0.0


def test_it_has_no_parameters():
    assert not list(OBJECTIVE.parameters())
