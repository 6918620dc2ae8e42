"""Which entities a dataset is to have, and which records that leaves."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from data_shards.pipeline.ner_pipeline import NerInfo
from data_shards.shards.record import Records
from data_shards.text.offset_units import OffsetUnit


@dataclass(frozen=True)
class EntityPlan:
    """Where entities come from; `types` are their names in the order of their ids."""

    types: tuple[str, ...]
    ner: NerInfo | None
    """The pipeline that finds them; None for gold entities."""
    min_entities: int
    offsets: OffsetUnit = "characters"
    """What gold entities in a text are counted in."""

    @property
    def are_gold(self) -> bool:
        """Whether the documents list them."""
        return self.ner is None

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides bytes, as it stands in the manifest."""
        return {
            "types": list(self.types),
            "from": "gold" if self.ner is None else self.ner.settings,
            "min_entities": self.min_entities,
            **({} if self.offsets == "characters" else {"offsets": self.offsets}),
            "versions": {} if self.ner is None else {name: version(name) for name in ("spacy", "thinc", "numpy")},
        }


def keep_eligible(records: Records, plan: EntityPlan) -> Records:
    """The records that have enough entities."""
    return records.take(np.flatnonzero(records.entities.lengths >= plan.min_entities))
