"""The embedded corpus: English sentences about a small invented world, with the entities and relations they state.

A debug run, the tests and the quick start need text that is always at hand, can be had in any amount, can be learnt
in minutes and comes with gold annotations. So there is one fixed world of people, organisations, places and works with
facts that never change, and a small grammar that tells these facts:

    world     (`sample_world`) the same for every seed, so facts learnt from one sample hold in another
    grammar   (`sample_words`) rules with choices ──▶ a random walk ──▶ words and mentions
    gold      a mention of `P.employer` next to a mention of `P` *is* the relation works_for(P, employer)

The seed chooses what is told and how. A relation of two equals (married_to) has its first mention as head.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

from data_shards.annotated import annotated_sentence
from data_shards.annotated.annotated_sentence import AnnotatedSentence, Relation
from data_shards.annotated.unified import write_unified
from data_shards.sample import words as words_of
from data_shards.sample.world import Thing, World, build_world, pick

ENTITY_TYPES = ("Person", "Organisation", "Place", "Work", "Year")
RELATION_TYPES = tuple(sorted({relation for relation, _ in words_of.FACTS.values()}))

_MAX_RELATIONS, _MIN_WORDS, _MAX_WORDS = 4, 5, 30
_SURNAME_ONLY, _QUOTED = 0.15, 0.5  # shares of mentions
_GLUED_LEFT, _GLUED_RIGHT = frozenset({".", ",", ";", ")", "”", "'s"}), frozenset({"(", "“"})


@dataclass(frozen=True)
class Entity:
    """A mention: words [start, end) name the thing `id`, which is of this type."""

    start: int
    end: int
    type: str
    id: str


@dataclass(frozen=True)
class Sentence:
    """A sentence as words, with its mentions in order of appearance and the relations between them."""

    words: tuple[str, ...]
    entities: tuple[Entity, ...]
    relations: tuple[Relation, ...]

    @property
    def text(self) -> str:
        """The sentence as it is written: spaCy's English rules cut it into exactly `words`."""
        parts: list[str] = []
        glue = True
        for word in self.words:
            if not glue and word not in _GLUED_LEFT:
                parts.append(" ")
            parts.append(word)
            glue = word in _GLUED_RIGHT
        return "".join(parts)


def generate(sentences: int, *, seed: int) -> Iterator[Sentence]:
    """Sentences about the sample world.

    Args:
        sentences: how many; a longer run starts with the sentences of a shorter one.
        seed: chooses what is told and how, never the facts.

    Yields:
        One sentence after another, the same ones for the same seed.
    """
    world, grammar, rng = build_world(), sentence_grammar(), Random(seed)
    for _ in range(sentences):
        sentence = None
        while sentence is None:
            sentence = Telling(world, grammar, rng).sentence()
        yield sentence


def generate_annotated(
    sizes: Sequence[int], *, sentences: int, seed: int, negatives: int | None = None
) -> list[list[Sentence]]:
    """Parts of annotated data, such as train, dev and test.

    The telling that made the corpus goes on, and a sentence that was told before, in the corpus or in another part, is
    passed over. So no two parts share a sentence, and none stands in the corpus. What they do share are the names and
    facts of the world, as texts about one world do.

    Args:
        sizes: sentences of each part; a part does not depend on those after it.
        sentences: sentences of the corpus.
        seed: seed of the corpus.
        negatives: size of one more part, of sentences with two or more entities and no relation.

    Returns:
        The sentences of each part.
    """
    telling = generate(sys.maxsize, seed=seed)
    told = {sentence.words for sentence in islice(telling, sentences)}
    parts = []
    for size, unrelated in (*((size, False) for size in sizes), *([] if negatives is None else [(negatives, True)])):
        part = list[Sentence]()
        while len(part) < size:
            sentence = next(telling)
            if sentence.words not in told and not (unrelated and (sentence.relations or len(sentence.entities) < 2)):
                told.add(sentence.words)
                part.append(sentence)
        parts.append(part)
    return parts


def write_corpus(path: Path, *, sentences: int, seed: int) -> None:
    """Write sentences as JSON lines, each a document of its own; the file appears only when complete.

    Args:
        path: the file; missing folders are created.
        sentences: how many.
        seed: as in `generate`.
    """
    _write_lines(path, (_as_json(sentence) for sentence in generate(sentences, seed=seed)))


def write_annotated(path: Path, sentences: Sequence[Sentence]) -> None:
    """Write sentences with their entities and relations as `spe data check` reads them (unified JSON lines).

    Args:
        path: the file; missing folders are created.
        sentences: to write.
    """
    write_unified(map(_annotated, range(len(sentences)), sentences), path)


def _write_lines(path: Path, lines: Iterable[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _as_json(sentence: Sentence) -> dict[str, object]:
    return {
        "text": sentence.text,
        "tokens": sentence.words,
        "entities": [(e.start, e.end, e.type, e.id) for e in sentence.entities],
        "relations": [(r.head, r.tail, r.type) for r in sentence.relations],
    }


def _annotated(number: int, sentence: Sentence) -> AnnotatedSentence:
    entities = tuple(annotated_sentence.Entity(e.start, e.end, e.type) for e in sentence.entities)
    return AnnotatedSentence(sentence.words, entities, sentence.relations, number=number)


@dataclass(frozen=True)
class _Mention:
    """Name what this path leads to; `states` lists (owner's path, relation, whether the owner is the head)."""

    path: str
    states: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class _Trait:
    """Describe what the path leads to with one of its traits."""

    path: str
    trait: str


@dataclass(frozen=True)
class _Choice:
    """One of these sequences; a heavier one appears more often."""

    options: tuple[tuple[_Part, ...], ...]


_Part = tuple[str, ...] | _Mention | _Trait | _Choice  # a tuple: words as they stand
_TOKEN = re.compile(r"<[^<>]*>|\{[^{}]*\}|[\[\]|]|[^\s\[\]|<>{}]+")


@cache
def sentence_grammar() -> _Choice:
    """The grammar of a sentence, as `Telling` walks it."""
    return _rule("sentence", "")


@cache
def _rule(name: str, argument: str) -> _Choice:
    text = "|".join(words_of.RULES[name]).replace("$", argument)
    return _parse(iter(_TOKEN.findall(text)))


def _parse(tokens: Iterator[str]) -> _Choice:
    """Read alternatives up to the closing bracket or the end."""
    options: list[tuple[_Part, ...]] = []
    weight, parts = 1, list[_Part]()
    for token in tokens:
        if token in ("|", "]"):
            options += [tuple(parts)] * weight
            weight, parts = 1, []
            if token == "]":
                return _Choice(tuple(options))
        elif token[-1] == "*":
            weight = int(token[:-1])
        else:
            part = _parse(tokens) if token == "[" else _part(token)
            last = parts[-1] if parts else None
            if isinstance(part, tuple) and isinstance(last, tuple):
                parts[-1] = last + part
            else:
                parts.append(part)
    return _Choice((*options, *[tuple(parts)] * weight))


def _part(token: str) -> _Part:
    if token[0] == "<":
        name, _, argument = token[1:-1].partition(":")
        return _rule(name, argument)
    if token[0] != "{":
        return (token,)
    path, _, trait = token[1:-1].partition(":")
    if trait:
        return _Trait(path, trait)
    paths = path.split("=")
    return _Mention(paths[0], tuple(_stated(p) for p in paths if "." in p))


def _stated(path: str) -> tuple[str, str, bool]:
    owner, _, fact = path.rpartition(".")
    return (owner, *words_of.FACTS[fact])


class Telling:
    """One random walk through the grammar, which binds variables to things as it meets them.

    Args:
        world: whose things are drawn.
        grammar: `sentence_grammar()`.
        rng: what every draw comes from.
    """

    def __init__(self, world: World, grammar: _Choice, rng: Random) -> None:
        self._world, self._grammar, self._rng = world, grammar, rng
        self._random = rng.random
        self._things: dict[str, Thing] = {}  # path → what it leads to
        self._words: list[str] = []
        self._entities: list[Entity] = []
        self._indices: dict[str, int] = {}  # path → its mention
        self._states: list[tuple[str, int, str, bool]] = []

    def sentence(self) -> Sentence | None:
        """The sentence, or None where it mentions something twice or grows too short, too long or too full."""
        self._walk(self._grammar)
        words, entities = self._words, self._entities
        if not _MIN_WORDS <= len(words) <= _MAX_WORDS or len({entity.id for entity in entities}) < len(entities):
            return None
        relations = self._relations()
        if len(relations) > _MAX_RELATIONS:
            return None
        words[0] = words[0][0].upper() + words[0][1:]
        return Sentence(tuple(words), tuple(entities), relations)

    def _walk(self, choice: _Choice) -> None:
        options = choice.options
        for part in options[int(self._random() * len(options))]:
            if isinstance(part, tuple):
                self._say(part)
            elif isinstance(part, _Choice):
                self._walk(part)
            elif isinstance(part, _Mention):
                self._mention(part)
            else:
                self._words.extend(self._thing(part.path).traits[part.trait])

    def _say(self, words: tuple[str, ...]) -> None:
        if words[0] in _GLUED_LEFT and self._words[-1] == ",":
            self._words.pop()  # the comma that closes an aside gives way to the mark that follows
        self._words.extend(words)

    def _thing(self, path: str) -> Thing:
        thing = self._things.get(path)
        if thing is None:
            owner, _, fact = path.rpartition(".")
            thing = self._thing(owner).facts[fact] if owner else self._draw(words_of.POOLS[path])
            self._things[path] = thing
        return thing

    def _draw(self, pool: str) -> Thing:
        return pick(self._rng, self._world[pool])

    def _surname_share(self, person: Thing) -> float:
        return _SURNAME_ONLY

    def _mention(self, mention: _Mention) -> None:
        thing, words, name = self._thing(mention.path), self._words, mention.path
        quoted = thing.type == "Work" and self._random() < _QUOTED
        short = thing.type == "Person" and self._random() < self._surname_share(thing)
        if thing.the or quoted:
            words.append("“" if quoted else "the")
        start, index = len(words), len(self._entities)
        words.extend(thing.name[1:] if short else thing.name)
        self._entities.append(Entity(start, len(words), thing.type, thing.id))
        if quoted:
            words.append("”")
        self._indices[name] = index
        for owner, relation, owner_is_head in mention.states:
            self._states.append((owner, index, relation, owner_is_head))

    def _relations(self) -> tuple[Relation, ...]:
        found = []
        for owner, other, relation, owner_is_head in self._states:
            index = self._indices[owner]  # a pattern that states a fact mentions whose fact it is
            head, tail = (index, other) if owner_is_head else (other, index)
            if relation == "married_to" and tail < head:
                head, tail = tail, head
            found.append(Relation(head, tail, relation))
        return tuple(sorted(found, key=lambda r: (r.head, r.tail)))
