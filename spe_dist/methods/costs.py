"""What a step of a method costs, before it is run: asked by `--dry-run`, `spe plan` and `spe bench costs`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import PretrainedConfig

from data_shards.manifest import Manifest, Statistics
from spe_dist.batches.batch import SIZES
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.zero_config import Precision
from spe_dist.engine.zero_costs import Transfer
from spe_dist.methods.model_flops import Passes
from spe_dist.methods.work import Work
from spe_dist.models.sizes import SpanEncoderSizes

# Of a sentence of Simple English Wikipedia (docs/results.md), to fill in what a manifest does not say.
_WORDS_PER_PIECE, _ENTITIES = 0.90, 3.5
_SQUARE_OVER_SQUARED_MEAN = 1.4  # of lengths; assumed
_DIGESTS = 2


@dataclass(frozen=True)
class RecordSizes:
    """Means of a record, without [CLS] and [SEP]."""

    pieces: float
    words: float
    entities: float

    @classmethod
    def of(cls, statistics: Statistics) -> RecordSizes:
        """Those of a dataset."""
        means = (total / statistics.records for total in (statistics.pieces, statistics.words, statistics.entities))
        return cls(*means)

    @classmethod
    def guessed(cls, pieces: float) -> RecordSizes:
        """Those of records of so many pieces."""
        return cls(pieces, pieces * _WORDS_PER_PIECE, _ENTITIES)

    def squared_lengths(self, sequences: float) -> int:
        """Σ n² over sequences of these records."""
        return int(sequences * _SQUARE_OVER_SQUARED_MEAN * (self.pieces + 2) ** 2)

    def assumptions(self) -> str:
        """What is known and guessed of records, for people."""
        return (
            f"A record has {self.pieces:.1f} pieces ([CLS] and [SEP] added to each copy), {self.words:.1f} words; "
            f"mean square of lengths {_SQUARE_OVER_SQUARED_MEAN} x their squared mean."
        )


class Costs(Protocol):
    """Of a method with some settings."""

    @property
    def model(self) -> Any:
        """What is trained, without weights."""
        ...

    def flops(self, work: Work) -> dict[str, Passes]:
        """Model FLOPs by part."""
        ...

    def transfers(self, plan: BatchPlan) -> list[Transfer]:
        """What a step sends beside DeepSpeed."""
        ...

    def activation_bytes(self, work: Work, *, precision: Precision) -> int:
        """What one forward pass keeps for its backward pass, roughly: what grows with pieces, spans and targets.

        Attention keeps no scores, as on CUDA; nor does a pass without gradient.
        """
        ...

    def expected_work(self, sizes: RecordSizes, records: int, *, forwards: int) -> Work:
        """Of so many records, far into training."""
        ...

    def sequences(self) -> str:
        """Which sequences the sentence encoder sees of each record, for people."""
        ...

    def assumptions(self, sizes: RecordSizes) -> list[str]:
        """What `expected_work` takes for granted, for people."""
        ...


def costs_of(config: Config, encoder: PretrainedConfig, manifest: Manifest | None) -> Costs:
    """What a configuration costs; its model has no weights."""
    from spe_dist.methods.enpar_costs import EnparCosts
    from spe_dist.methods.spe_costs import SpeCosts

    types = {"entity_types": len(manifest.entity_types)} if manifest is not None else {}
    of: Any = {"spe": SpeCosts.of, "enpar": EnparCosts.of}[config.method]
    return of(config, encoder, **types)


def exchanges_of_every_method(terms: Sequence[str], plan: BatchPlan) -> list[Transfer]:
    """What the training loop itself sends in a step; tests/distributed/test_costs.py counts it."""
    if plan.world_size == 1:
        return []
    return [
        Transfer("counts", "all-reduce", 1, 8 * (len(terms) + len(SIZES) + _DIGESTS)),
        Transfer("stop flag", "all-reduce", 1, 4),
    ]


def bytes_of_a_piece(encoder: PretrainedConfig, wide: int) -> int:
    """What the sentence encoder keeps of a piece, in numbers of `wide` bytes."""
    hidden, inner = encoder.hidden_size, encoder.intermediate_size
    masks = 2 * hidden if encoder.hidden_dropout_prob else 0
    # Input, query, key, value, attended, sums before both norms, first norm's result; before and behind GELU.
    layer = wide * (8 * hidden + 2 * inner) + masks
    return encoder.num_hidden_layers * layer + wide * 2 * hidden  # and around the norm of the embeddings


def bytes_of_a_span(cnn: SpanEncoderSizes, wide: int) -> int:
    """What a span encoder keeps of a span."""
    pooled = len(cnn.kernel_sizes) * cnn.channels
    # Extremes before GELU, both and their maximum behind it in fp32, where they were found; the block's three inputs.
    return 4 * (2 * pooled + 2 * pooled + 2 * pooled) + wide * (pooled + 2 * cnn.size)
