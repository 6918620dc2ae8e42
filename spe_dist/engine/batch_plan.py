"""Which rank computes which lanes of a global batch, in how many forward passes. Changes no result, only who does it.

    lanes            0 1 2 3 4 5 6        7 lanes, 3 ranks, 2 lanes per forward
    rank 0           0 1                  forwards (0, 1)  ()
    rank 1               2 3              forwards (2, 3)  ()
    rank 2                   4 5 6        forwards (4, 5)  (6,)

Every rank makes the same number of forward passes, because each of them is a collective act; an empty one has weight 0.
Where forwards are cut by pieces, that number is another at every step, and ranks agree on it (`Session.take_step`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_shards.counted import counted
from data_shards.errors import UserError


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is spread over the ranks.

    Args:
        lanes: lanes of a global batch, Λ.
        lane_size: records of a lane.
        lanes_per_forward: lanes a rank packs into one forward pass, at most.
        world_size: number of ranks, W.
        pieces_per_forward: pieces of their records, [CLS] and [SEP] included, at most; a lane of more comes alone.
            None: as many as `lanes_per_forward` have.

    Raises:
        UserError: fewer lanes than ranks.
    """

    lanes: int
    lane_size: int
    lanes_per_forward: int
    world_size: int
    pieces_per_forward: int | None = None

    def __post_init__(self) -> None:
        if self.world_size > self.lanes:
            raise UserError(
                f"{counted(self.world_size, 'worker')} cannot share {counted(self.lanes, 'lane')}: "
                f"raise batch.lanes to at least {self.world_size} or use at most {counted(self.lanes, 'worker')}"
            )

    @property
    def global_batch(self) -> int:
        """Records of an optimizer step over all ranks, G."""
        return self.lanes * self.lane_size

    @property
    def accumulation(self) -> int:
        """Forward passes of every rank per optimizer step, A; if they are cut by pieces, the fewest there can be."""
        most_lanes = -(-self.lanes // self.world_size)
        return -(-most_lanes // self.lanes_per_forward)

    def usual_accumulation(self, pieces_per_record: float) -> int:
        """Forward passes of every rank in a step of records of so many pieces, [CLS] and [SEP] included."""
        if self.pieces_per_forward is None:
            return self.accumulation
        fitting = int(self.pieces_per_forward / (pieces_per_record * self.lane_size))
        most_lanes = -(-self.lanes // self.world_size)
        return -(-most_lanes // max(1, min(fitting, self.lanes_per_forward)))

    def lanes_of_rank(self, rank: int) -> range:
        """The lanes [⌊rΛ/W⌋, ⌊(r+1)Λ/W⌋) of a rank; never empty."""
        return range(rank * self.lanes // self.world_size, (rank + 1) * self.lanes // self.world_size)

    def forwards(self, rank: int) -> list[tuple[int, ...]]:
        """The lanes of each of a rank's A forward passes, in order, not cut by pieces; the last ones may be empty."""
        mine = self.lanes_of_rank(rank)
        size = self.lanes_per_forward
        return [tuple(mine[i * size : (i + 1) * size]) for i in range(self.accumulation)]

    def cut(self, rank: int, pieces: Sequence[int]) -> list[tuple[int, ...]]:
        """The lanes of each of a rank's forward passes, in order, as few as the pieces allow; none is empty.

        Args:
            rank: whose.
            pieces: pieces of the records of each of its lanes at a step, [CLS] and [SEP] included.
        """
        forwards: list[list[int]] = []
        filled = 0
        for lane, size in zip(self.lanes_of_rank(rank), pieces, strict=True):
            full = self.pieces_per_forward is not None and filled + size > self.pieces_per_forward
            if not forwards or full or len(forwards[-1]) == self.lanes_per_forward:
                forwards.append([])
                filled = 0
            forwards[-1].append(lane)
            filled += size
        return [tuple(lanes) for lanes in forwards]
