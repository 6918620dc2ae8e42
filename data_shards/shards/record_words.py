"""Records → their words as text, from the pieces."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel

from data_shards.shards.record import Records


class RecordWords:
    """Puts pieces together to words.

    A word is what its pieces say: lower-case and without accents if the tokenizer makes it so, and an unknown piece
    stands as it is called (`[UNK]`).

    Args:
        tokenizer: that made the pieces.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = _with_decoder(tokenizer)
        self._known: dict[tuple[int, ...], str] = {}  # words of several pieces
        size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
        self._of_piece = np.array([self._join([piece]) for piece in range(size)], dtype=object)

    def words(self, records: Records) -> list[list[str]]:
        """The words of each record."""
        pieces, bounds = records.pieces.values, records.word_bounds
        words = self._of_piece[pieces[bounds[:-1]].astype(np.int64)].tolist()
        for index in np.flatnonzero(np.diff(bounds) > 1).tolist():
            words[index] = self._word(tuple(pieces[bounds[index] : bounds[index + 1]].tolist()))
        return [words[begin:end] for begin, end in pairwise(records.word_starts.offsets.tolist())]

    def _word(self, pieces: tuple[int, ...]) -> str:
        if pieces not in self._known:
            self._known[pieces] = self._join(list(pieces))
        return self._known[pieces]

    def _join(self, pieces: list[int]) -> str:
        text = "".join(self._tokenizer.decode(pieces, skip_special_tokens=False).split())  # no word holds white space
        return text or self._tokenizer.id_to_token(pieces[0]) or "?"


def _with_decoder(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer; one of bytes that lacks a decoder gets it, or its words would be bytes written as letters."""
    pre_tokenizer = json.dumps(json.loads(tokenizer.to_str())["pre_tokenizer"])
    if tokenizer.decoder is None and "ByteLevel" in pre_tokenizer:
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        tokenizer.decoder = ByteLevel()
    return tokenizer
