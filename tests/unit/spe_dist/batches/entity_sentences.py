"""Sentences with entities as plain lists, for slow and obvious oracles."""

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from data_shards.ragged import Ragged
from data_shards.shards.record import Records
from spe_dist.methods.enpar.collate import EntityPairCollate
from tests.unit.spe_dist.batches.sentences import SPECIAL, Sentence, random_sentences, records_of

Entity = tuple[int, int, int]  # first word, word after the last, type


def random_entities(sentences: Sequence[Sentence], *, seed: int, least: int = 2, types: int = 4) -> list[list[Entity]]:
    """At the ends, next to each other, of one word and of many: at least two in every sentence."""
    chance = random.Random(seed)
    drawn = []
    for sentence in sentences:
        entities: list[Entity] = []
        while len(entities) < least:
            cuts = sorted(chance.sample(range(len(sentence) + 1), chance.randint(2, min(len(sentence) + 1, 12))))
            spans = [(start, end) for start, end in pairwise(cuts) if chance.random() < 0.6]
            entities = [(start, end, chance.randrange(types)) for start, end in spans]
        drawn.append(entities)
    return drawn


def with_entities(records: Records, entities: Sequence[Sequence[Entity]]) -> Records:
    rows = np.array([row for given in entities for row in given], dtype=np.uint16).reshape(-1, 3)
    return records.with_layer(
        "entities", Ragged.from_lengths(rows, np.array([len(given) for given in entities], dtype=int))
    )


def random_records(count: int, *, seed: int, **sizes: int) -> tuple[list[Sentence], list[list[Entity]], Records]:
    sentences = random_sentences(count, seed=seed, **({"least": 3} | sizes))
    entities = random_entities(sentences, seed=seed + 1)
    return sentences, entities, with_entities(records_of(sentences), entities)


def build_collate(**changes: float) -> EntityPairCollate:
    settings = {
        "seed": 7, "lane_size": 5, "masked": 0.15, "replaced": 0.05, "hide": True, "typed": True, "perturbed": 5,
        "max_shift": 5, "permuted": 4, "identity": True,
    }  # fmt: skip
    return EntityPairCollate(special=SPECIAL, **(settings | changes))
