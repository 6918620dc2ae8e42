"""Sentences with facts of few entities, in which a piece tells the relation, as records and as a dataset."""

import random
from pathlib import Path

from data_shards.shards.manifest import Manifest
from data_shards.shards.record import BLOCKED, DOCUMENT_LAYERS, ENTITIES, TEXT_LAYERS, UNLINKED, Records
from tests.unit.spe_dist.random_documents import ragged, write_records

LENGTH = 14  # pieces of every sentence
RELATIONS = 3
_ENTITIES = 8
_FILLER, _NAMES, _TELLING = range(200, 240), 300, 100


def relation_of(head: int, tail: int) -> int:
    """The relation of two entities of the invented world; both are of one that no other pair of the head is of."""
    return (head + 2 * tail) % RELATIONS


def fact_sentences(count: int, seed: int) -> Records:
    """One sentence a record: two or three entities of two pieces, in any order, one of which may be named twice.

    The first two are related, and a piece before the text says how; the third one may be related too, or blocked, or
    unlinked.
    """
    chance = random.Random(seed)
    layers: dict[str, list] = {name: [] for name in (*TEXT_LAYERS, ENTITIES, *DOCUMENT_LAYERS)}
    for _ in range(count):
        ids = chance.sample(range(_ENTITIES), chance.choice((2, 2, 3)))
        told = [(0, 1)] + [(2, 1)] * (len(ids) == 3 and chance.random() < 0.5)
        words = [[_TELLING + relation_of(ids[head], ids[tail])] for head, tail in told]
        named = [*range(len(ids)), *([0] if chance.random() < 0.3 else [])]
        fillers = LENGTH - len(words) - 2 * len(named)
        order = [*named, *([None] * fillers)]
        chance.shuffle(order)
        numbers: dict[int, int] = {}
        mentions, of_mentions = [], []
        for what in order:
            if what is None:
                words.append([chance.choice(_FILLER)])
                continue
            mentions.append((len(words), len(words) + 1, 0))
            of_mentions.append(numbers.setdefault(what, len(numbers)))
            words.append([_NAMES + 2 * ids[what], _NAMES + 2 * ids[what] + 1])
        lengths = [len(word) for word in words]
        rows = [(numbers[head], numbers[tail], relation_of(ids[head], ids[tail])) for head, tail in told]
        kept = {numbers[what]: ids[what] for what in numbers}
        if len(ids) == 3 and len(told) == 1:
            if chance.random() < 0.5:
                rows += [(numbers[0], numbers[2], BLOCKED), (numbers[2], numbers[0], BLOCKED)]
            else:
                kept[numbers[2]] = UNLINKED
        layers["pieces"].append([piece for word in words for piece in word])
        layers["words"].append([sum(lengths[:word]) for word in range(len(words))])
        layers[ENTITIES].append(mentions)
        layers["mention_entities"].append(of_mentions)
        layers["sentence_starts"].append([0])
        layers["knowledge_ids"].append([kept[number] for number in range(len(kept))])
        layers["relations"].append(sorted(rows))
    columns = {ENTITIES: 3, "relations": 3}
    return Records(**{name: ragged(rows, columns.get(name, 0)) for name, rows in layers.items()})


def write_fact_sentences(folder: Path, count: int, *, seed: int = 3, shards: int = 2) -> Manifest:
    """A dataset of them, as if `spe shards sentences` had cut them from documents."""
    return write_records(
        folder, fact_sentences(count, seed), shards=shards, documents_cut={"build": {"language": "en"}}
    )
