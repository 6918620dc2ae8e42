"""The facts of some documents, with entities numbered over all of them. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.ragged import IntArray
from data_shards.shards.record import BLOCKED, Records


@dataclass(frozen=True)
class DocumentFacts:
    """F facts, document after document."""

    records: NDArray[np.int64]  # [F] ascending
    heads: NDArray[np.int64]  # [F]
    tails: NDArray[np.int64]  # [F]
    relations: NDArray[np.int64]  # [F]

    @classmethod
    def of(cls, records: Records, kept_relations: NDArray[np.bool_]) -> tuple[DocumentFacts, DocumentFacts]:
        """The facts of documents; and rows that are none: of blocked pairs and of relations that are not kept."""
        rows = records.layers["relations"]
        record = rows.row_index()
        values = rows.values.astype(np.int64)
        first = records.layers["knowledge_ids"].offsets[record]
        every = cls(record, values[:, 0] + first, values[:, 1] + first, values[:, 2])
        kept = np.append(kept_relations, np.zeros(BLOCKED + 1 - len(kept_relations), dtype=np.bool_))
        is_fact = kept[every.relations]
        return every.take(is_fact), every.take(~is_fact)

    def take(self, rows: IntArray | NDArray[np.bool_]) -> DocumentFacts:
        """Some of the facts."""
        return DocumentFacts(self.records[rows], self.heads[rows], self.tails[rows], self.relations[rows])
