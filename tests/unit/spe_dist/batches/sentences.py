"""Sentences as plain lists (a sentence is a list of words, a word a list of pieces), for slow and obvious oracles."""

import itertools
import random
from collections.abc import Sequence

import numpy as np

from data_shards.ragged import Ragged
from data_shards.shards.record import Records
from data_shards.tokenizer.files import SpecialIds
from spe_dist.methods.spe.collate import SpanPairCollate

SPECIAL = SpecialIds(cls=1, sep=2, mask=3, pad=0, unk=4)
FIRST_ID = 4  # ids below are special
CLASS_ORDERS = list(itertools.permutations(range(3)))

Word = list[int]
Sentence = list[Word]


def random_sentences(
    count: int, *, seed: int, longest: int = 40, least: int = 2, vocabulary: int = 12
) -> list[Sentence]:
    """So few different pieces that equal words, and words that begin like others, are common."""
    chance = random.Random(seed)
    pieces_of_a_word = [1, 1, 1, 2, 2, 3, 6]
    return [
        [
            [chance.randrange(FIRST_ID, FIRST_ID + vocabulary) for _ in range(chance.choice(pieces_of_a_word))]
            for _ in range(chance.randint(least, longest))
        ]
        for _ in range(count)
    ]


def records_of(sentences: Sequence[Sentence]) -> Records:
    """With the integer types that shards have."""
    pieces = [piece for sentence in sentences for word in sentence for piece in word]
    starts = [start for sentence in sentences for start in word_starts(sentence)]
    return Records(
        Ragged.from_lengths(np.array(pieces, dtype=np.uint16), np.array([len(flat(s)) for s in sentences], dtype=int)),
        Ragged.from_lengths(np.array(starts, dtype=np.uint8), np.array([len(s) for s in sentences], dtype=int)),
    )


def sentences_of(records: Records) -> list[Sentence]:
    sentences = []
    for i in range(len(records)):
        pieces, starts = records.pieces.row(i).tolist(), records.word_starts.row(i).tolist()
        ends = [*starts[1:], len(pieces)]
        sentences.append([pieces[start:end] for start, end in zip(starts, ends, strict=True)])
    return sentences


def word_starts(sentence: Sentence) -> list[int]:
    starts, position = [], 0
    for word in sentence:
        starts.append(position)
        position += len(word)
    return starts


def flat(words: Sequence[Word]) -> list[int]:
    return [piece for word in words for piece in word]


def random_boundaries(sentences: Sequence[Sentence], *, seed: int) -> np.ndarray:
    """Any five spans, empty ones too."""
    chance = random.Random(seed)
    rows = [[0, *sorted(chance.randint(0, len(s)) for _ in range(4)), len(s)] for s in sentences]
    return np.array(rows, dtype=np.int64)


def texts_of_classes(words: Sentence) -> list[Sentence]:
    """A span in all six orders of first word, words between and last word."""
    units = [words[:1], words[1:-1], words[-1:]]
    return [[word for unit in order for word in units[unit]] for order in CLASS_ORDERS]


def build_collate(**changes: float) -> SpanPairCollate:
    settings = {
        "seed": 7, "lane_size": 5, "geometric_p": 0.2, "max_span_words": 10,
        "tbo_share": 0.15, "tbo_cap": 20, "spo_spans": 2,
    }  # fmt: skip
    return SpanPairCollate(special=SPECIAL, **(settings | changes))


def excess(counts: Sequence[float], expected: Sequence[float]) -> float:
    """Pearson's chi-square as standard deviations above what chance gives: below 4 unless something is wrong."""
    freedom = len(expected) - 1
    chi_square = sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))
    return (chi_square - freedom) / (2 * freedom) ** 0.5
