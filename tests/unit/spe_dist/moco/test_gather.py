import pytest
import torch
import torch.distributed as dist

from spe_dist.engine.global_order_gather import GlobalOrderGather
from tests.distributed.ranks import run_ranks

ROWS = [2, 5, 0]


def gather_my_rows():
    rank = dist.get_rank()
    first = sum(ROWS[:rank])
    rows = torch.arange(first, first + ROWS[rank])[:, None] * torch.ones(1, 3)
    return GlobalOrderGather(rows, ROWS).wait().tolist()


@pytest.mark.distributed
def test_unequal_rows_of_three_ranks_come_in_global_order_on_every_rank():
    assert run_ranks(gather_my_rows, 3, timeout=90) == [[[float(row)] * 3 for row in range(7)]] * 3


def test_a_single_rank_keeps_its_rows():
    rows = torch.randn(4, 3)
    assert GlobalOrderGather(rows, [4]).wait() is rows
