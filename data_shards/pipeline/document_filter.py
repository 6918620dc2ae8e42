"""Which documents a dataset keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DocumentFilter:
    """Limits of a record; facts are counted as related ordered pairs of entities, without blocked ones.

    Default limits: the ERICA paper's least ones; most entities and facts keep lists and tables out.
    """

    min_words: int = 128
    min_entities: int = 4
    min_facts: int = 4
    max_entities: int = 64
    max_facts: int = 60
