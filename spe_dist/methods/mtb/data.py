"""What MTB learns from: pairs of sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_shards.errors import UserError

if TYPE_CHECKING:  # it imports torch, and a recipe is read without
    from data_shards.shards.reader import ShardReader


def require_pairs(reader: ShardReader) -> None:
    """Check that a dataset has pairs of sentences.

    Raises:
        UserError: it has not.
    """
    if "sentences_paired" not in reader.manifest.build:
        raise UserError(
            f"{reader.location} has no pairs of sentences: make them with: spe shards sentences DOCUMENTS --out "
            "SENTENCES, then spe shards pair SENTENCES --out PAIRS"
        )
