"""What came out of texts, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from data_shards.counted import counted
from launcher.predict_corpus.bad_lines import BadLines
from launcher.predict_corpus.progress import duration_text, rate_text

if TYPE_CHECKING:
    from spe_dist.extraction.predict.extracted_text import ExtractedText


@dataclass
class Counts:
    """Counts of the texts read so far and of what was found in them.

    Args:
        texts: number of texts read.
        sentences: number of their sentences.
        entities: number of entities found, by type.
        relations: number of relations found, by type.
    """

    texts: int = 0
    sentences: int = 0
    entities: dict[str, int] = field(default_factory=dict)
    relations: dict[str, int] = field(default_factory=dict)

    def add(self, text: ExtractedText) -> None:
        """Count a text."""
        self.add_types(len(text.sentences), (one.type for one in text.entities), (one.type for one in text.relations))

    def add_types(self, sentences: int, entities: Iterable[str], relations: Iterable[str]) -> None:
        """Count a text by the types of what was found in it."""
        self.texts += 1
        self.sentences += sentences
        for counts, types in ((self.entities, entities), (self.relations, relations)):
            for type in types:
                counts[type] = counts.get(type, 0) + 1

    @classmethod
    def sum(cls, counts: Iterable[Counts]) -> Counts:
        """The sum of several counts."""
        total, entities, relations = cls(), Counter[str](), Counter[str]()
        for one in counts:
            total.texts += one.texts
            total.sentences += one.sentences
            entities.update(one.entities)
            relations.update(one.relations)
        total.entities, total.relations = dict(sorted(entities.items())), dict(sorted(relations.items()))
        return total

    def lines(self, bad_lines: BadLines, time_text: str) -> list[str]:
        """Lines of a table for people, one for each quantity.

        Args:
            bad_lines: input lines that were skipped.
            time_text: time that the command took.
        """
        return [
            f"  text      {counted(self.texts, 'text')}, {counted(self.sentences, 'sentence')}",
            f"  entities  {_by_type(self.entities)}",
            f"  relations {_by_type(self.relations)}",
            f"  skipped   {bad_lines}",
            f"  time      {time_text}",
        ]


def speed_text(counts: Counts, seconds: float) -> str:
    """How long it took, and how fast that was."""
    seconds = max(seconds, 1e-3)
    texts, sentences = (rate_text(count / seconds) for count in (counts.texts, counts.sentences))
    return f"{duration_text(seconds)}: {texts} texts/s, {sentences} sentences/s"


def _by_type(counts: Mapping[str, int]) -> str:
    each = ", ".join(f"{count:,} {type}" for type, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))
    return f"{sum(counts.values()):,}{f': {each}' if each else ''}"
