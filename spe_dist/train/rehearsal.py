"""Records for the forward that is tried before the first step, so that memory runs out then and not in hour five.

A forward of a few records may well hold nothing but the longest sentences there can be. A forward of thousands does
not, and room for that would be several times what is ever used. So it is as large as no forward of a run will be:
whatever the lengths are, Hoeffding's inequality bounds the sum of n lengths of at most M by n times their mean and
M √(n ln(1/p) / 2), but for a chance of p. The mean is that of the shard with the longest sentences, as the records of a
forward come from a few texts. Where forwards are cut by pieces, that many pieces are tried, of as many records as they
can be cut into: heads and contrast take memory for each record.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import Ragged
from data_shards.shards.manifest import Manifest
from data_shards.shards.record import LAYERS, Layer, Records
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World

if TYPE_CHECKING:
    from spe_dist.engine.deepspeed_engine import Engine
    from spe_dist.methods.method import Method
    from spe_dist.train.gradients import StepGradients

_CHANCE = 1e-12  # of a forward: of a run of a million steps on a thousand ranks, one in a thousand exceeds it
_SPREAD = math.log(1 / _CHANCE) / 2
_SHORTEST = 3  # pieces of a record of one word
_FEWEST_PIECES = 6  # two entities with a word between them, of up to two pieces each


def most_pieces(count: int, manifest: Manifest) -> int:
    """No forward of so many records has more pieces, [CLS] and [SEP] included."""
    longest = manifest.max_pieces
    bound = count * max(_mean_pieces(manifest)) + longest * math.sqrt(count * _SPREAD)
    return min(count * longest, math.ceil(bound))


def most_records(pieces: int, manifest: Manifest) -> int:
    """No forward of so many pieces has more records: of more, the sum of lengths would be larger.

    That is the n with n times the mean of the shard with the shortest records, less M √(n ln(1/p) / 2), equal to it.
    """
    mean, spread = min(_mean_pieces(manifest)), manifest.max_pieces * math.sqrt(_SPREAD)
    root = (spread + math.sqrt(spread**2 + 4 * mean * pieces)) / (2 * mean)
    return min(pieces // _SHORTEST, math.ceil(root**2))


def largest_forwards(plan: BatchPlan, rank: int, manifest: Manifest) -> list[tuple[tuple[int, ...], Records]]:
    """Lanes and records of the forwards of a step, each as large as no forward of this rank will be.

    If forwards are cut by pieces, two of them stand for all, of words of one piece and of two; what the second finds
    taken is what later ones find. They have a lane more than they may: lengths differ in more ways than are tried.
    """
    forwards = plan.forwards(rank)
    if plan.pieces_per_forward is None:
        return [(lanes, largest_records(len(lanes) * plan.lane_size, manifest)) for lanes in forwards]
    lanes = forwards[0]
    pieces = plan.pieces_per_forward + most_pieces(plan.lane_size, manifest)
    pieces = min(pieces, most_pieces(len(lanes) * plan.lane_size, manifest))
    lanes = lanes[: max(1, math.ceil(most_records(pieces, manifest) / plan.lane_size))]
    count = len(lanes) * plan.lane_size
    return [(lanes, _records(_lengths(count, pieces, manifest), np.full(count, size))) for size in (1, 2)]


def rehearse_step(
    method: Method,
    engine: Engine,
    plan: BatchPlan,
    world: World,
    manifest: Manifest,
    gradients: StepGradients | None,
) -> None:
    """Forward and backward passes of a step of the largest forwards; also what measuring its gradients takes."""
    forwards = largest_forwards(plan, world.rank, manifest)
    if plan.pieces_per_forward is not None:
        engine.begin_step(len(forwards))
    for number, (lanes, records) in enumerate(forwards):
        ids = np.zeros((len(lanes), plan.lane_size), dtype=np.int64)
        batch = method.collate(records, ids, 0, lanes).to(world.device)
        if gradients is not None and number == 0:
            gradients.rehearse(method, engine, batch)
        engine.backward(method.rehearse(engine, batch).sum() / plan.global_batch)


def largest_records(count: int, manifest: Manifest) -> Records:
    """Records of at least `most_pieces` in all: some as long as any can be, the others about as long as the mean.

    They consist by turns of words of one piece (most words) and of two (most hidden pieces). They have all
    layers, which a method that needs fewer does not look at.
    """
    return _records(_lengths(count, most_pieces(count, manifest), manifest), 1 + np.arange(count) % 2)


def _lengths(count: int, pieces: int, manifest: Manifest) -> NDArray[np.int64]:
    """Pieces of each record, [CLS] and [SEP] included, of that many in all or a few more; even, for words of two."""
    longest, shortest = manifest.max_pieces, _FEWEST_PIECES + 2
    usual = min(longest, max(2 * math.ceil(max(_mean_pieces(manifest)) / 2), shortest))
    if count * usual > pieces:
        usual = min(usual, max(2 * (pieces // (2 * count)), shortest))
    beyond = pieces - count * usual
    long = max(0, math.ceil(beyond / (longest - usual))) if longest > usual else count
    return np.where(np.arange(count) < long, longest, usual)


def _records(lengths: NDArray[np.int64], pieces_of_words: NDArray[np.int64]) -> Records:
    words = [np.full((length - 2) // size, size) for length, size in zip(lengths, pieces_of_words, strict=True)]
    return Records(**{name: _largest(layer, words) for name, layer in LAYERS.items()})


def _mean_pieces(manifest: Manifest) -> list[float]:
    """Mean number of pieces of the records of each shard, [CLS] and [SEP] included."""
    return [2 + shard.pieces / shard.records for shard in manifest.shardlist if shard.records] or [2.0]


def _largest(layer: Layer, word_lengths: list[np.ndarray]) -> Ragged:
    rows = [layer.largest(lengths) for lengths in word_lengths]
    sizes = np.array([len(row) for row in rows], dtype=np.int64)
    return Ragged.from_lengths(np.concatenate([layer.no_values().astype(np.int64), *rows]), sizes)
