"""A test of contrast that position cannot pass.

Masking hides the words of a view but not their number, and neither the places of the span pair: these alone find a
sentence's other view among tens of thousands. So accuracy against the queue proves little. The probe puts sentences in
groups of equal layout (the same number of pieces, the same word boundaries), gives every sentence of a group the same
span pair, and asks for the right partner within the group: what is left to go by are the words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.reader import ShardReader
from data_shards.record import Records
from spe_dist.batches.batch import SpanPairBatch
from spe_dist.batches.collate_span_pairs import SpanPairCollate
from spe_dist.batches.spans import COLUMNS, sample_span_pairs

POOL = 16_384  # records that groups are looked for in: the first ones of the dataset
SENTENCES = 256  # of all groups together, at most
GROUP_SIZE = 4
MIN_WORDS = 5


@dataclass(frozen=True)
class GeometryProbe:
    """Sentences in groups of equal layout, with equal spans.

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
            vectors: of the pair views, then of the context views, [2 R, D].
        """
        pair, context = vectors.float().chunk(2)
        elsewhere = self.groups[:, None] != self.groups[None, :]
        similarity = (pair @ context.T).masked_fill(elsewhere, float("-inf"))
        partner = torch.arange(len(pair), device=similarity.device)
        found = (similarity.argmax(dim=1) == partner).sum() + (similarity.argmax(dim=0) == partner).sum()
        return found / 2


def build_probe(reader: ShardReader, collate: SpanPairCollate, *, seed: int) -> GeometryProbe | None:
    """Find groups among the first records of a dataset; None if there are no two sentences of equal layout."""
    records = reader.take(np.arange(min(POOL, len(reader))))
    rows, groups = _choose_groups(records, np.random.default_rng(seed))
    if not len(rows):
        return None
    chosen = records.take(rows)
    uniforms = np.random.default_rng(seed).random((groups[-1] + 1, COLUMNS))[groups]
    word_boundaries = sample_span_pairs(
        chosen.word_starts.lengths, uniforms, geometric_p=collate.geometric_p, max_words=collate.max_span_words
    )
    return GeometryProbe(collate.batch(collate.show(chosen, word_boundaries)), torch.from_numpy(groups))


def _choose_groups(records: Records, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of some random sentences and their groups; no text occurs twice."""
    layouts: dict[tuple[int, bytes], dict[bytes, int]] = {}
    for row in range(len(records)):
        pieces, starts = records.pieces.row(row), records.word_starts.row(row)
        if len(starts) >= MIN_WORDS:
            layouts.setdefault((len(pieces), starts.tobytes()), {}).setdefault(pieces.tobytes(), row)
    groups = [list(texts.values()) for texts in layouts.values() if len(texts) > 1]
    rows: list[int] = []
    numbers: list[int] = []
    for number, group in enumerate(generator.permutation(len(groups))):
        taken = generator.permutation(groups[group])[:GROUP_SIZE].tolist()
        if len(rows) + len(taken) > SENTENCES:
            break
        rows += taken
        numbers += [number] * len(taken)
    return np.array(rows, dtype=np.int64), np.array(numbers, dtype=np.int64)
