import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.finetune_on_ray import Shares, share_out
from data_shards.errors import UserError
from spe_dist.finetuning.config import SeedsOnRayConfig


@pytest.mark.parametrize(
    ("seeds", "cores", "gpus", "settings", "shares"),
    [
        (5, [2], 0, {}, Shares(2, 1, 0)),
        (2, [16], 0, {}, Shares(2, 8, 0)),
        (5, [16], 0, {}, Shares(5, 3, 0)),
        (5, [16], 0, {"parallel": 2}, Shares(2, 8, 0)),
        (5, [1], 0, {}, Shares(1, 1, 0)),
        (2, [3, 3], 0, {}, Shares(2, 3, 0)),
        (3, [4, 4], 0, {}, Shares(3, 2, 0)),
        (3, [0, 4], 0, {}, Shares(3, 1, 0)),
        (5, [32], 2, {}, Shares(2, 16, 1)),
        (5, [32], 2, {"gpus_per_seed": 0}, Shares(5, 6, 0)),
    ],
)
def test_cores_are_shared_out(seeds, cores, gpus, settings, shares):
    assert share_out(seeds, cores, gpus, SeedsOnRayConfig(**settings)) == shares


@given(st.integers(1, 20), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_all_that_go_on_at_the_same_time_find_a_machine_and_no_core_more_would_fit(seeds, cores):
    shares = share_out(seeds, cores, 0, SeedsOnRayConfig())
    assert shares.parallel == min(seeds, sum(cores))
    assert sum(machine // shares.cores for machine in cores) >= shares.parallel
    assert sum(machine // (shares.cores + 1) for machine in cores) < shares.parallel


def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(UserError, match=r"cluster\.gpus_per_seed is 1 but Ray finds no GPU"):
        share_out(2, [4], 0, SeedsOnRayConfig(gpus_per_seed=1))
