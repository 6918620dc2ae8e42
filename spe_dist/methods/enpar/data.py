"""What ENPAR learns from: sentences with two entities or more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_shards.errors import UserError

if TYPE_CHECKING:  # it imports torch, and a recipe is read without
    from data_shards.shards.reader import ShardReader


def require_entity_pairs(reader: ShardReader) -> None:
    """Check that every sentence of a dataset has a pair of entities.

    Raises:
        UserError: the dataset has no entities, or sentences with fewer than two.
    """
    reader.manifest.require_entities(reader.location)
    if reader.manifest.build["entities"]["min_entities"] < 2:
        raise UserError(
            f"{reader.location} holds sentences with fewer than two entities, which have no pair: annotate or build it "
            "with --min-entities 3 (the paper), or 2"
        )
