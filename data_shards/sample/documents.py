"""Documents of the embedded corpus: some sentences about a few things of the sample world that have to do with another.

    topic     a person, organisation, work or town
    about     the topic and things within two facts of it; variables of the grammar are bound to these first
    gold      every fact of the world between two things of a document, stated in it or not

So the facts are those of distant supervision, and all of them are true. A thing is named in full where it is mentioned
first; a person may have the surname alone from then on. Years are words like others here: no thing of the world, hence
no entity, for names without a capital letter are not looked for in texts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

from data_shards.annotated.docred import RELATION_NAMES
from data_shards.files import write_atomically, written_atomically
from data_shards.sample import words as words_of
from data_shards.sample.corpus import Sentence, Telling, sentence_grammar
from data_shards.sample.world import Thing, World, build_world, pick

_TOPICS = ("people", "organisations", "works", "towns")
_FEWEST_THINGS, _MOST_THINGS = 9, 14
_FEWEST_SENTENCES, _MOST_SENTENCES = 7, 9
_MAX_STRANGERS, _MAX_STATED = 1, 1  # of a sentence: things that its document is not about, facts without years
_SURNAME_AGAIN = 0.5
_YEAR = "Year"
_READ_AS_ABBREVIATION = "Art"  # before a full stop: splitters of sentences take it for that of an article


@dataclass(frozen=True)
class SampleDocument:
    """Sentences with the things that they mention; `title` names the topic and is another for every document."""

    title: str
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        """The document as it is written."""
        return " ".join(sentence.text for sentence in self.sentences)

    def as_docred(self) -> dict[str, object]:
        """The document in DocRED's JSON, with codes of relations; entities are numbered by their first mention."""
        mentions: dict[str, list[dict[str, object]]] = {}
        for number, sentence in enumerate(self.sentences):
            for entity in sentence.entities:
                if entity.type != _YEAR:
                    name, pos = " ".join(sentence.words[entity.start : entity.end]), [entity.start, entity.end]
                    mention = {"name": name, "sent_id": number, "pos": pos, "type": entity.type}
                    mentions.setdefault(entity.id, []).append(mention)
        stated = self._stated()
        labels = [
            {"h": h, "t": t, "r": relation, "evidence": stated.get((head, tail, relation), [])}
            for h, head in enumerate(mentions)
            for t, tail in enumerate(mentions)
            for relation in facts_of_world().get((head, tail), ())
        ]
        words = [sentence.words for sentence in self.sentences]
        return {"title": self.title, "sents": words, "vertexSet": list(mentions.values()), "labels": labels}

    def _stated(self) -> dict[tuple[str, str, str], list[int]]:
        """The sentences that state each fact; that of a married couple is two facts."""
        sentences: dict[tuple[str, str, str], list[int]] = {}
        for number, sentence in enumerate(self.sentences):
            for relation in sentence.relations:
                head, tail = (sentence.entities[index].id for index in (relation.head, relation.tail))
                for fact in ((head, tail, relation.type), (tail, head, relation.type)):
                    if relation.type in facts_of_world().get(fact[:2], ()):
                        sentences.setdefault(fact, []).append(number)
        return sentences


@cache
def facts_of_world() -> dict[tuple[str, str], tuple[str, ...]]:
    """All facts between things: ids of head and tail → their relations."""
    facts: dict[tuple[str, str], tuple[str, ...]] = {}
    for thing in _things().values():
        for fact, other in thing.facts.items():
            if other.type != _YEAR:
                relation, owner_is_head = words_of.FACTS[fact]
                pair = (thing.id, other.id) if owner_is_head else (other.id, thing.id)
                facts[pair] = (*facts.get(pair, ()), relation)
    return facts


@cache
def _things() -> dict[str, Thing]:
    return {thing.id: thing for things in build_world().values() for thing in things}


@cache
def _neighbours() -> dict[str, dict[str, None]]:
    """The things that each thing has facts with, in a fixed order."""
    neighbours: dict[str, dict[str, None]] = {id: {} for id in _things()}
    for head, tail in facts_of_world():
        neighbours[head][tail] = neighbours[tail][head] = None
    return neighbours


def relation_names() -> dict[str, str]:
    """The relations between things: code → name in words."""
    return {relation: relation.replace("_", " ") for relation in sorted({*sum(facts_of_world().values(), ())})}


def generate_documents(documents: int, *, seed: int) -> Iterator[SampleDocument]:
    """Documents about the sample world.

    Args:
        documents: how many; a longer run starts with the documents of a shorter one.
        seed: chooses what is told and how, never the facts.

    Yields:
        One document after another, the same ones for the same seed.
    """
    world, rng = build_world(), Random(seed)
    for number in range(documents):
        topic = pick(rng, world[pick(rng, _TOPICS)])
        about = _about(rng, topic)
        wanted = _between(rng, _FEWEST_SENTENCES, _MOST_SENTENCES)
        sentences, mentioned = list[Sentence](), set[str]()
        while len(sentences) < wanted:
            sentence = _DocumentTelling(about, mentioned, rng).sentence()
            if sentence is not None:
                sentences.append(sentence)
                mentioned.update(entity.id for entity in sentence.entities)
        yield SampleDocument(f"{' '.join(topic.name)} ({number})", tuple(sentences))


def _between(rng: Random, fewest: int, most: int) -> int:
    return fewest + int((most + 1 - fewest) * rng.random())


def _about(rng: Random, topic: Thing) -> World:
    """The topic and things within two facts of it, by pool; those that have most to do with the others go first."""
    neighbours = _neighbours()
    near = neighbours[topic.id]
    reached = dict.fromkeys([*near, *(further for other in near for further in neighbours[other])])
    reached.pop(topic.id)
    links = {id: (id in near) + rng.random() for id in reached}
    chosen = [topic.id]
    wanted = _between(rng, _FEWEST_THINGS, _MOST_THINGS)
    while links and len(chosen) < wanted:
        chosen.append(max(links, key=links.__getitem__))
        links.pop(chosen[-1])
        for other in neighbours[chosen[-1]]:
            if other in links:
                links[other] += 1
    return {pool: tuple(one for one in things if one.id in chosen) for pool, things in build_world().items()}


class _DocumentTelling(Telling):
    """Tells a sentence of a document.

    Args:
        about: the things that the document is about.
        mentioned: ids of what earlier sentences mention.
        rng: what every draw comes from.
    """

    def __init__(self, about: World, mentioned: set[str], rng: Random) -> None:
        super().__init__(build_world(), sentence_grammar(), rng)
        self._about, self._mentioned = about, mentioned

    def sentence(self) -> Sentence | None:
        """See `Telling.sentence`; None also where it strays from what the document is about, or states too much."""
        sentence = super().sentence()
        if sentence is None or sentence.words[-2] == _READ_AS_ABBREVIATION:
            return None
        known = {thing.id for things in self._about.values() for thing in things}
        strangers = [one for one in sentence.entities if one.type != _YEAR and one.id not in known]
        stated = [one for one in sentence.relations if sentence.entities[one.tail].type != _YEAR]
        return None if len(strangers) > _MAX_STRANGERS or len(stated) > _MAX_STATED else sentence

    def _draw(self, pool: str) -> Thing:
        """One that no earlier sentence mentions, if there is any."""
        left = [thing for thing in self._about[pool] if thing not in self._things.values()]
        new = [thing for thing in left if thing.id not in self._mentioned]
        return pick(self._rng, new or left) if left else super()._draw(pool)

    def _surname_share(self, person: Thing) -> float:
        return _SURNAME_AGAIN if person.id in self._mentioned else 0.0


def write_documents(folder: Path, *, documents: int, seed: int, annotated: Mapping[str, int]) -> None:
    """Write documents with entities and facts (documents.json), as text (text.jsonl), and the knowledge base (kb/).

    Args:
        folder: to write into; missing ones are created.
        documents: how many.
        seed: as in `generate_documents`.
        annotated: further files in DocRED's JSON: name → number of documents, none of which is in another file.
    """
    (folder / "kb").mkdir(parents=True, exist_ok=True)
    telling = generate_documents(sys.maxsize, seed=seed)
    with written_atomically(folder / "text.jsonl") as text, written_atomically(folder / "documents.json") as gold:
        for number, document in enumerate(islice(telling, documents)):
            text.write(_json({"title": document.title, "text": document.text}) + b"\n")
            gold.write((b",\n" if number else b"[") + _json(document.as_docred()))
        gold.write(b"]\n")
    for name, size in annotated.items():
        if not size:
            continue
        part = b",\n".join(_json(document.as_docred()) for document in islice(telling, size))
        write_atomically(folder / f"{name}.json", b"[" + part + b"]\n")
    write_atomically(folder / RELATION_NAMES, _json(relation_names()) + b"\n")
    for name, rows in _knowledge_base().items():
        write_atomically(folder / "kb" / name, "".join("\t".join(row) + "\n" for row in rows).encode())


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _knowledge_base() -> dict[str, list[tuple[str, ...]]]:
    """The whole world as rows of the files of a knowledge base."""
    return {
        "names.tsv": [
            (one.id, " ".join(one.name), *one.name[1:] * (one.type == "Person")) for one in _things().values()
        ],
        "triples.tsv": [
            (head, relation, tail) for (head, tail), relations in facts_of_world().items() for relation in relations
        ],
        "relations.tsv": [*relation_names().items()],
    }
