"""What reading a file of annotated data found: nothing is left out, merged or chosen without being counted here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from data_shards.counted import counted

DUPLICATE_ENTITIES = "duplicate entities merged"
DUPLICATE_RELATIONS = "duplicate relations merged"
ARGUMENT_OF_SEVERAL_TYPES = "relations whose argument has several types (the first one was taken)"
ACROSS_SENTENCES = "relations across sentences left out"
NO_RELATION = "labels NR, which mean no relation, left out"
SHARED_MENTION = "relations left out because both arguments are the same mention"
WITHOUT_ENTITY = "relations left out because an argument is no entity"
WITH_ITSELF = "relations of an entity with itself left out"
MOVED = "entities moved to where the text has their words"
NOT_FOUND = "entities left out because the text does not have their words"
WIDENED = "entities widened to whole words"
ENTITIES_ACROSS_SENTENCES = "entities across sentences left out"
TEXTS_WITHOUT_WORDS = "texts without words left out"
NOT_ACCEPTED = "texts left out because the answer to them was not accept"
SPANS_NOT_ACCEPTED = "spans left out because the answer to them was not accept"
SKIPPED = "texts left out because their annotation was cancelled"
NOT_ANNOTATED = "texts left out because nobody has annotated them"
OTHER_ANNOTATIONS = "annotations of a text that has another one left out"
OTHER_REGIONS = "regions that are no spans of the text (such as choices) left out"
UNLABELLED_REGIONS = "regions without a label left out"
UNLABELLED_RELATIONS = "relations without a label left out"
DISCONTINUOUS = "entities in several parts taken from the first part to the last"
BRAT_LINES = {  # what else .ann files hold, by the first letter of a line
    "E": "events left out (their triggers are entities)",
    "A": "attributes left out",
    "M": "attributes left out",
    "N": "links to knowledge bases left out",
    "#": "notes left out",
    "*": "equivalences of other kinds than Equiv left out",
}
SEVERAL_PLACES = "arguments of triples that the text has several times (the first place was taken)"
ENTITIES_WITHOUT_WORDS = "entities without words left out"
WITHOUT_WORDS = "sentences without words left out"


@dataclass
class ReadReport:
    """What was read from a file.

    Args:
        path: the file.
        format: name of its format.
        documents: items of the file: documents, or sentences where the format knows no documents.
        sentences: how many came out.
        findings: what happened, and how often.
        unread_fields: fields that hold something else, by their number of occurrences.
        places: places of each sentence: its file and line, or file and item.
        warnings: what is odd, one line each.
        relation_names: what codes of relations mean, where the data say it.
        keeps_no_relation: pairs that are labelled as ones without a relation (NR) stay facts, of that type.
        format_is_given: a person has named the format; otherwise the fields of the first item told it.
    """

    path: Path
    format: str
    documents: int = 0
    sentences: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    unread_fields: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    relation_names: dict[str, str] = field(default_factory=dict)
    format_is_given: bool = False
    keeps_no_relation: bool = False
    _first_unread: dict[str, str] = field(default_factory=dict)

    def count_unread(self, name: str, where: str) -> None:
        """Count a field that is not read, and remember where it stood first."""
        self.unread_fields[name] += 1
        if name not in self._first_unread:
            self._first_unread[name] = self.place(where)

    def place(self, where: str) -> str:
        """Where something stands, without the file."""
        number = where.removeprefix(f"{self.path}:").strip()
        return f"line {number}" if number.isdecimal() else number

    def lines(self) -> list[str]:
        """The report for people; its first line says what was read."""
        read = f"{counted(self.sentences, 'sentence')} in {counted(self.documents, 'item')}"
        told = [f"{self.path}: {read}, format {self.format}"]
        told += [f"  {count:,} {what}" for what, count in self.findings.items()]
        if self.unread_fields:
            alike: dict[tuple[int, str], list[str]] = {}
            for name, count in self.unread_fields.items():
                alike.setdefault((count, self._first_unread[name]), []).append(name)
            names = "; ".join(
                f"{', '.join(names)} ({count:,}{' each' if len(names) > 1 else ''}, first in {where})"
                for (count, where), names in alike.items()
            )
            told.append(f"  fields that are not read: {names}")
        return told + self.warnings
