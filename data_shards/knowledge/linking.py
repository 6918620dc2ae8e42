"""Names of entities in text: the longest name from left to right, on words as the word rules cut text and names.

A name of several entities means the one that has it as (title of its article > label > title without what tells it
apart from others of its name > alias), of equal ones the entity with more facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from data_shards.knowledge.knowledge_base import KnowledgeBase
from data_shards.ragged import offsets_from_lengths
from data_shards.text.word_rules import WordRules, chunks_of

MIN_CHARACTERS, MAX_WORDS = 3, 8
_TITLE, _LABEL, _CUT_TITLE, _ALIAS = range(4)  # ranks of names; the lowest wins
_IN_PARENTHESES = re.compile(r"\s*\([^()]*\)$")
# One-word names that are more often something else; English, other languages have none yet.
_NOT_MATCHED = {
    "en": frozenset(
        """
        January February March April May June July August September October November December Monday Tuesday
        Wednesday Thursday Friday Saturday Sunday I Me My Mine You Your Yours He Him His She Her Hers It Its We
        Us Our Ours They Them Their Theirs Who Whom Whose What Which This That These Those One Someone Somebody
        Something Anyone Anybody Anything Everyone Everybody Everything Nobody Nothing None Myself Himself
        Herself Itself Themselves A An The And But Or Nor So Yet For If Then Else When While Where Why How
        Because Although Though Since Until Before After During Under Over Above Below Between Through With
        Without Within From Into Onto Upon At By In Of On Off Out Up Down To As About Against Among Around Along
        Across Behind Beside Besides Beyond Despite Like Near Next Per Via Now Here There Today Tomorrow
        Yesterday Once Twice Again Also Always Never Often Sometimes Usually Soon Later Early Earlier Still Just
        Only Even Ever Already Almost Perhaps Maybe However Therefore Thus Hence Instead Meanwhile Moreover
        Otherwise Finally First Second Third Last Many Most More Much Some Any All Both Each Every Either
        Neither Few Several Other Others Another Such Same Own Not No Yes Is Are Was Were Be Been Being Am Do
        Does Did Done Has Have Had Can Could Will Would Shall Should Might Must Let See Two Three Four Five Six
        Seven Eight Nine Ten New Old Well Very Too Than
        """.split()  # noqa: SIM905
    )
}


@dataclass(frozen=True)
class LinkedMentions:
    """M mentions, in the order of the text."""

    sentences: NDArray[np.int64]
    """Sentence of each, ascending, [M]."""
    words: NDArray[np.int64]
    """First word and word after the last, counted in the sentence; sorted, not overlapping, [M, 2]."""
    entities: NDArray[np.int64]
    """Numbers in the knowledge base, [M]."""
    counts: Mapping[str, int]
    """`mentions`, and those of them whose name several entities have (`ambiguous_mentions`)."""


class Linker:
    """Finds names of a knowledge base.

    Args:
        kb: the knowledge base.
        language: whose rules cut the names into words, as those of the text were (a spaCy language code).
    """

    def __init__(self, kb: KnowledgeBase, *, language: str = "en") -> None:
        self.language = language
        self._entities: dict[str, int] = {}  # of each name, its words with a space between two
        self._ambiguous: set[str] = set()
        lengths: dict[str, set[int]] = {}  # of names by their first word
        self._add_names(kb)
        for name in self._entities:
            first, *rest = name.split(" ")
            lengths.setdefault(first, set()).add(1 + len(rest))
        self._lengths = {first: tuple(sorted(those, reverse=True)) for first, those in lengths.items()}

    @property
    def names(self) -> int:
        """Number of names that are looked for."""
        return len(self._entities)

    @property
    def ambiguous_names(self) -> int:
        """Number of those that several entities have."""
        return len(self._ambiguous)

    def _add_names(self, kb: KnowledgeBase) -> None:
        words = _NameWords(self.language)
        facts = kb.facts_of_entities().tolist()
        order: dict[str, tuple[int, int]] = {}  # of the entity that a name means: rank of the name, facts
        for entity, own in enumerate(kb.names):
            for text, rank in names_of(own, kb.titles.get(entity)):
                name = words.name(text)
                if name is None:
                    continue
                known = self._entities.get(name)
                if known is not None and known != entity:
                    self._ambiguous.add(name)
                if known is None or (rank, -facts[entity]) < order[name]:
                    self._entities[name], order[name] = entity, (rank, -facts[entity])

    def link(self, sentences: Sequence[Sequence[str]]) -> LinkedMentions:
        """The mentions in sentences.

        Args:
            sentences: words of each, as `WordPieces.locate_words` cuts them.
        """
        words = list(chain.from_iterable(sentences))
        offsets = offsets_from_lengths(np.fromiter(map(len, sentences), dtype=np.int64, count=len(sentences)))
        lengths_of, entity_of = self._lengths, self._entities
        begins = [index for index, word in enumerate(words) if word in lengths_of]
        sentence_of = np.searchsorted(offsets, begins, side="right") - 1
        firsts: list[int] = []
        ends: list[int] = []
        entities: list[int] = []
        ambiguous = end = 0
        for first, sentence_end in zip(begins, offsets[sentence_of + 1].tolist(), strict=True):
            if first < end:
                continue
            for length in lengths_of[words[first]]:
                after = first + length
                if after > sentence_end:
                    continue
                name = words[first] if length == 1 else " ".join(words[first:after])
                if (entity := entity_of.get(name)) is not None:
                    firsts.append(first)
                    ends.append(after)
                    entities.append(entity)
                    ambiguous += name in self._ambiguous
                    end = after
                    break
        places = np.array([firsts, ends], dtype=np.int64).T.reshape(-1, 2)
        sentence = np.searchsorted(offsets, places[:, 0], side="right") - 1
        return LinkedMentions(
            sentence, places - offsets[sentence, None], np.array(entities, dtype=np.int64),
            {"mentions": len(entities), "ambiguous_mentions": ambiguous},
        )  # fmt: skip


def names_of(names: Sequence[str], title: str | None) -> Iterator[tuple[str, int]]:
    """The names of an entity, each with its rank.

    Args:
        names: label, which may be empty, and aliases.
        title: title of its article, if it has one.
    """
    label, *aliases = names
    for text, rank in ((title or "", _TITLE), (label, _LABEL)):
        bare = _IN_PARENTHESES.sub("", text)
        yield bare, rank if bare == text else _CUT_TITLE
        before, comma, _ = bare.partition(", ")
        if comma:
            yield before, _CUT_TITLE
    for alias in aliases:
        yield alias, _ALIAS


class _NameWords:
    """Cuts names into words, and tells which names are matched."""

    def __init__(self, language: str) -> None:
        self._rules = WordRules(language)
        self._not_matched = _NOT_MATCHED.get(language, frozenset())
        self._of_chunk: dict[str, str] = {}

    def name(self, text: str) -> str | None:
        """The words of a name with a space between two; None if it is not one to look for."""
        if len(text) < MIN_CHARACTERS or text in self._not_matched or text == text.lower():
            return None
        name = " ".join(map(self._words, chunks_of(text)))
        return name if name.count(" ") < MAX_WORDS else None

    def _words(self, chunk: str) -> str:
        if (words := self._of_chunk.get(chunk)) is None:
            words = self._of_chunk[chunk] = " ".join(self._rules.words_of_chunk(chunk))
        return words
