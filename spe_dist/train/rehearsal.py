"""Records for the forward that is tried before the first step, so that memory runs out then and not in hour five.

A forward of a few records may well hold nothing but the longest sentences there can be. A forward of thousands does
not, and room for that would be several times what is ever used. So it is as large as no forward of a run will be:
whatever the lengths are, Hoeffding's inequality bounds the sum of n lengths of at most M by n times their mean and
M √(n ln(1/p) / 2), but for a chance of p. The mean is that of the shard with the longest sentences, as the records of a
forward come from a few texts.
"""

from __future__ import annotations

import math

import numpy as np

from data_shards.ragged import Ragged
from data_shards.shards.manifest import Manifest
from data_shards.shards.record import LAYERS, Layer, Records

_CHANCE = 1e-12  # of a forward: of a run of a million steps on a thousand ranks, one in a thousand exceeds it
_FEWEST_PIECES = 6  # two entities with a word between them, of up to two pieces each


def most_pieces(count: int, manifest: Manifest) -> int:
    """No forward of so many records has more pieces, [CLS] and [SEP] included."""
    longest = manifest.max_pieces
    bound = count * _mean_pieces(manifest) + longest * math.sqrt(count * math.log(1 / _CHANCE) / 2)
    return min(count * longest, math.ceil(bound))


def largest_records(count: int, manifest: Manifest) -> Records:
    """Records of at least `most_pieces` in all: some as long as any can be, the others about as long as the mean.

    They consist by turns of words of one piece (most words) and of two (most hidden pieces). They have all
    layers, which a method that needs fewer does not look at.
    """
    longest = manifest.max_pieces
    usual = min(longest, max(2 * math.ceil(_mean_pieces(manifest) / 2), _FEWEST_PIECES + 2))  # even: words of two
    beyond = most_pieces(count, manifest) - count * usual
    long = max(0, math.ceil(beyond / (longest - usual))) if longest > usual else count
    pieces = np.where(np.arange(count) < long, longest, usual) - 2
    word_lengths = [np.full(length // (1 + row % 2), 1 + row % 2) for row, length in enumerate(pieces)]
    return Records(**{name: _largest(layer, word_lengths) for name, layer in LAYERS.items()})


def _mean_pieces(manifest: Manifest) -> float:
    """Of the records of the shard with the longest ones."""
    return 2 + max((shard.pieces / shard.records for shard in manifest.shardlist if shard.records), default=0.0)


def _largest(layer: Layer, word_lengths: list[np.ndarray]) -> Ragged:
    rows = [layer.largest(lengths) for lengths in word_lengths]
    sizes = np.array([len(row) for row in rows], dtype=np.int64)
    return Ragged.from_lengths(np.concatenate([layer.no_values().astype(np.int64), *rows]), sizes)
