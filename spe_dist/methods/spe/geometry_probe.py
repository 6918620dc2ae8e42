"""A test of contrast that position cannot pass.

Masking piece by piece hides the words of a view but not their number, nor the places of the span pair: these alone find
a sentence's other view among tens of thousands. So accuracy against the queue proves little. A probe draws span pairs
as training does, puts sentences whose views look alike into groups, and asks for the right partner within the group:

    geometry   the same number of pieces, and span pairs at the same places
    layout     also the same word boundaries everywhere, so that nothing but the words themselves is left to go by
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.shards.reader import ShardReader
from data_shards.shards.record import Records
from spe_dist.methods.spe.batch import SpanPairBatch
from spe_dist.methods.spe.collate import DrawnSentences, SpanPairCollate

POOL = 16_384  # records that groups are looked for in: the first ones of the dataset
SENTENCES = 256  # of all groups together, at most
GROUP_SIZE = 4


@dataclass(frozen=True)
class GeometryProbe:
    """Sentences in groups that look alike, with the spans that make them so.

    Args:
        batch: both views of the R sentences, nothing permuted and nothing hidden by TBO.
        groups: the group of each sentence, [R].
    """

    batch: SpanPairBatch
    groups: Tensor

    def to(self, device: torch.device) -> GeometryProbe:
        """The same on a device."""
        return GeometryProbe(self.batch.to(device), self.groups.to(device))

    def chance(self) -> float:
        """What guessing finds."""
        sizes = torch.bincount(self.groups)
        return float(len(sizes) / sizes.sum())

    def count_found(self, vectors: Tensor) -> Tensor:
        """How many sentences find their partner, as the mean of both directions.

        Args:
            vectors: vectors of the pair views, then of the context views, [2 R, D].
        """
        pair, context = vectors.float().chunk(2)
        elsewhere = self.groups[:, None] != self.groups[None, :]
        similarity = (pair @ context.T).masked_fill(elsewhere, float("-inf"))
        partner = torch.arange(len(pair), device=similarity.device)
        found = (similarity.argmax(dim=1) == partner).sum() + (similarity.argmax(dim=0) == partner).sum()
        return found / 2


def build_probes(reader: ShardReader, collate: SpanPairCollate) -> dict[str, GeometryProbe]:
    """Find groups among the first records of a dataset: the probes by name, without those that find no group."""
    size = min(POOL, len(reader))
    plain = replace(collate, lane_size=size, tbo_share=0.0, spo_spans=0, whole_sentences=False)
    drawn = plain.draw(reader.take(np.arange(size)), 0, [0])
    generator = np.random.default_rng(collate.seed)
    probes = {}
    for name, looks in (("geometry", _geometry(drawn)), ("layout", _layout(drawn))):
        rows, groups = _choose_groups(drawn.records, looks, generator)
        if len(rows):
            shown = plain.show(drawn.records.take(rows), drawn.word_boundaries[rows])
            probes[name] = GeometryProbe(plain.batch(shown), torch.from_numpy(groups))
    return probes


def _geometry(drawn: DrawnSentences) -> list[bytes]:
    """What a sentence's views look like whatever the words: its length and the places of its pair, in pieces."""
    sentence = drawn.records.pieces.offsets[:-1, None]
    places = drawn.records.word_bounds[drawn.records.word_starts.offsets[:-1, None] + drawn.word_boundaries] - sentence
    return [row.tobytes() for row in places]


def _layout(drawn: DrawnSentences) -> list[bytes]:
    """As `_geometry`, with all word boundaries."""
    starts = drawn.records.word_starts
    return [look + starts.row(row).tobytes() for row, look in enumerate(_geometry(drawn))]


def _choose_groups(
    records: Records, looks: list[bytes], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of some random sentences and their groups; no text occurs twice in a group."""
    alike: dict[bytes, dict[bytes, int]] = {}
    for row, look in enumerate(looks):
        alike.setdefault(look, {}).setdefault(records.pieces.row(row).tobytes(), row)
    candidates = [list(texts.values()) for texts in alike.values() if len(texts) > 1]
    rows: list[int] = []
    groups: list[int] = []
    for number, candidate in enumerate(generator.permutation(len(candidates))):
        taken = generator.permutation(candidates[candidate])[:GROUP_SIZE].tolist()
        if len(rows) + len(taken) > SENTENCES:
            break
        rows += taken
        groups += [number] * len(taken)
    return np.array(rows, dtype=np.int64), np.array(groups, dtype=np.int64)
