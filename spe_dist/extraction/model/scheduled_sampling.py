"""Scheduled sampling: sentences learn from gold spans at first, then more and more from spans that the model finds.

As in the papers' program it is drawn for each sentence, once for spans and once for typed entities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray

_SAMPLING = 5  # keeps these numbers apart from the ones of other purposes


def gold_probability(epoch: int, *, gold_epochs: int, k: float) -> float:
    """The probability that a sentence learns from gold: 1 up to epoch `gold_epochs`, then k / (k + exp(e / k)).

    Args:
        epoch: counted from 0.
        gold_epochs: the last epoch with gold only; e is counted from it.
        k: the larger, the slower it falls.
    """
    if epoch <= gold_epochs:
        return 1.0
    exponent = (epoch - gold_epochs) / k
    return k / (k + math.exp(exponent)) if exponent < 700 else 0.0  # where exp is near its largest number


@dataclass(frozen=True)
class GoldDraws:
    """Which sentences learn from gold."""

    spans: NDArray[np.bool_]  # [S] candidates are gold spans only
    entities: NDArray[np.bool_]  # [S] pairs are of gold entities only

    def take(self, rows: IntArray) -> GoldDraws:
        """The draws of some of the sentences."""
        return GoldDraws(self.spans[rows], self.entities[rows])


def draw_gold(sentences: int, epoch: int, *, seed: int, gold_epochs: int, k: float) -> GoldDraws:
    """Draw for all sentences of the training data; a sentence's draw does not depend on its batch."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_SAMPLING, seed, epoch))))
    uniforms = generator.random((sentences, 2))
    spans, entities = (uniforms < gold_probability(epoch, gold_epochs=gold_epochs, k=k)).T
    return GoldDraws(spans, entities)
