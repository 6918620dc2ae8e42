"""Which rank computes which lanes of a global batch, in how many forward passes. Changes no result, only who does it.

    lanes            0 1 2 3 4 5 6        7 lanes, 3 ranks, 2 lanes per forward
    rank 0           0 1                  forwards (0, 1)  ()
    rank 1               2 3              forwards (2, 3)  ()
    rank 2                   4 5 6        forwards (4, 5)  (6,)

Every rank makes the same number of forward passes, because each of them is a collective act; an empty one has weight 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from data_shards.errors import UserError


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is spread over the ranks.

    Args:
        lanes: lanes of a global batch, Λ.
        lane_size: records of a lane.
        lanes_per_forward: lanes a rank packs into one forward pass.
        world_size: number of ranks, W.

    Raises:
        UserError: fewer lanes than ranks.
    """

    lanes: int
    lane_size: int
    lanes_per_forward: int
    world_size: int

    def __post_init__(self) -> None:
        if self.world_size > self.lanes:
            raise UserError(
                f"{self.world_size} workers cannot share {self.lanes} lanes: "
                f"raise batch.lanes to at least {self.world_size} or use at most {self.lanes} workers"
            )

    @property
    def global_batch(self) -> int:
        """Records of an optimizer step over all ranks, G."""
        return self.lanes * self.lane_size

    @property
    def accumulation(self) -> int:
        """Forward passes of every rank per optimizer step, A."""
        most_lanes = -(-self.lanes // self.world_size)
        return -(-most_lanes // self.lanes_per_forward)

    def lanes_of_rank(self, rank: int) -> range:
        """The lanes [⌊rΛ/W⌋, ⌊(r+1)Λ/W⌋) of a rank; never empty."""
        return range(rank * self.lanes // self.world_size, (rank + 1) * self.lanes // self.world_size)

    def forwards(self, rank: int) -> list[tuple[int, ...]]:
        """The lanes of each of a rank's A forward passes, in order; the last ones may be empty."""
        mine = self.lanes_of_rank(rank)
        size = self.lanes_per_forward
        return [tuple(mine[i * size : (i + 1) * size]) for i in range(self.accumulation)]
