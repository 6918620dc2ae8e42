from hypothesis import given
from hypothesis import strategies as st

from spe_dist.engine.tensor_owners import assign_to_ranks


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 1000), max_size=40), st.integers(1, 9))
def test_every_name_has_a_rank_and_no_rank_has_much_more_than_its_share(sizes, world_size):
    ranks = assign_to_ranks(sizes, world_size)
    assert set(ranks) == set(sizes)
    loads = [sum(size for name, size in sizes.items() if ranks[name] == rank) for rank in range(world_size)]
    assert max(loads) <= sum(sizes.values()) / world_size + max(sizes.values(), default=0)


def test_the_order_of_the_names_does_not_matter():
    sizes = {"a": 3, "b": 3, "c": 1}
    assert assign_to_ranks(sizes, 2) == assign_to_ranks(dict(reversed(sizes.items())), 2)
