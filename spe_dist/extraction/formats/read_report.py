"""What reading a file of annotated data found: nothing is left out, merged or chosen without being counted here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

DUPLICATE_ENTITIES = "duplicate entities merged"
DUPLICATE_RELATIONS = "duplicate relations merged"
ARGUMENT_OF_SEVERAL_TYPES = "relations whose argument has several types (the first one was taken)"
ACROSS_SENTENCES = "relations across sentences left out"
WITHOUT_ENTITY = "relations left out because an argument is no entity"
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
    """

    path: Path
    format: str
    documents: int = 0
    sentences: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    unread_fields: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """The report for people; its first line says what was read."""
        told = [f"{self.path}: {self.sentences:,} sentences in {self.documents:,} items, format {self.format}"]
        told += [f"  {count:,} {what}" for what, count in self.findings.items()]
        if self.unread_fields:
            names = ", ".join(f"{name} ({count:,})" for name, count in self.unread_fields.items())
            told.append(f"  fields that are not read: {names}")
        return told
