"""Builds a document of words from annotations: checks offsets, and finds the entities that relations name."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from data_shards.annotated.document import Document, Fact, Mention
from data_shards.annotated.read_report import ARGUMENT_OF_SEVERAL_TYPES, WITHOUT_ENTITY, ReadReport
from data_shards.counted import counted
from data_shards.errors import UserError

Place = tuple[int, int, int]  # sentence, first word, word after the last


class DocumentBuilder:
    """A document that is being read.

    Args:
        sentences: of words.
        where: it stands, for errors.
        report: counts what is left out.
        numbered: errors name sentences by their numbers; False where the item is a single sentence.
    """

    def __init__(
        self, sentences: Sequence[Sequence[str]], where: str, report: ReadReport, *, numbered: bool = True
    ) -> None:
        self._sentences, self._where, self._report, self._numbered = sentences, where, report, numbered
        self._mentions: list[Mention] = []
        self._facts: list[Fact] = []
        self._at: dict[Place, dict[str, int]] = {}  # words of mentions → type → mention

    def add_mention(
        self, start: int, end: int, type: str, *, sentence: int = 0, entity: int | None = None, name: str = ""
    ) -> int:
        """Add a mention, of an entity of its own (of the same number) if none is given; returns its number.

        Raises:
            UserError: the span is empty or reaches beyond the sentence.
        """
        words = self._sentences[sentence]
        if 0 <= end < start <= len(words):
            raise UserError(
                f"{self._place(sentence)}: entity of type {type!r} ends before word {start}, where it begins: correct "
                "the offsets"
            )
        if 0 <= start == end <= len(words):
            raise UserError(
                f"{self._place(sentence)}: entity of type {type!r} begins at word {start} and ends at {end}, which "
                "leaves it empty: ends are exclusive"
            )
        if not 0 <= start < end <= len(words):
            raise UserError(
                f"{self._place(sentence)}: entity of type {type!r} on words {start} up to, not including, {end}, but "
                f"the sentence has words 0 to {len(words) - 1}: correct the offsets"
            )
        number = len(self._mentions)
        mention = Mention(start, end, type, number if entity is None else entity, sentence, name)
        self._mentions.append(mention)
        self._at.setdefault((sentence, start, end), {}).setdefault(type, number)
        return number

    def add_fact(self, head: int, tail: int, type: str, evidence: Sequence[int] = ()) -> None:
        """Add a relation between two entities, named by their numbers."""
        self._facts.append(Fact(head, tail, type, tuple(evidence)))

    def add_relation(self, head: int, tail: int, type: str) -> None:
        """Add a relation between two entities of their own, named by what `add_mention` returned.

        Raises:
            UserError: there is no such entity, or both are the same words.
        """
        if max(head, tail) >= len(self._mentions):
            raise UserError(
                f"{self._where}: relation {type!r} from entity {head} to {tail}, but the sentence has "
                f"{counted(len(self._mentions), 'entity')}, counted from 0: correct the numbers"
            )
        first, second = self._mentions[head], self._mentions[tail]
        if (*first[:3], first.sentence) == (*second[:3], second.sentence):
            text = " ".join(self._sentences[first.sentence][first.start : first.end])
            raise UserError(
                f"{self._place(first.sentence)}: relation {type!r} of {text!r} (words {first.start} up to, not "
                f"including, {first.end}) with itself: correct its arguments or remove it"
            )
        self.add_fact(head, tail, type)

    def add_relation_of_spans(self, head: Place, tail: Place, type: str) -> None:
        """Add a relation whose arguments are named by their words; without entities there, it is left out."""
        arguments = [list(self._at.get(place, {}).values()) for place in (head, tail)]
        if not all(arguments):
            self._report.findings[WITHOUT_ENTITY] += 1
            return
        if head[0] == tail[0] and any(len(mentions) > 1 for mentions in arguments):
            self._report.findings[ARGUMENT_OF_SEVERAL_TYPES] += 1
        self.add_relation(arguments[0][0], arguments[1][0], type)

    def has_mentions(self, *places: Place) -> bool:
        """Whether there is a mention on each of these words."""
        return all(place in self._at for place in places)

    def check_text(self, name: str, start: int, end: int, text: str | None) -> None:
        """Refuse a text of a mention that is not that of its words; spaces and case do not count."""
        if text is None:
            return
        words = " ".join(self._sentences[0][start:end])
        if without_spaces(words) != without_spaces(text):
            raise UserError(
                f"{self._where}: {name} says {text!r}, but its words {[start, end]} are {words!r}: correct the offset "
                "(the end is exclusive) or the text"
            )

    def _place(self, sentence: int) -> str:
        return f"{self._where}, sentence {sentence}" if self._numbered else self._where

    def build(self, *, name: str, number: int = 0) -> Document:
        """The document; `number` is that of its first sentence."""
        return Document.of_words(self._sentences, self._mentions, self._facts, name=name, number=number)


def without_spaces(text: str) -> str:
    """What two texts are compared by: neither spaces nor case count, nor whether letters are composed (é) or not."""
    return unicodedata.normalize("NFD", "".join(text.split()).casefold())
