"""Facts that evaluation data ask for, which pre-training must neither teach nor deny: pairs of names.

Names are compared in lower case and without white space, so that it does not matter how words were cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.document import Document, Mention
from data_shards.annotated.json_objects import Item, read_items
from data_shards.annotated.read import read_documents
from data_shards.errors import UserError
from data_shards.files import sha256_of
from data_shards.input.stream import open_input
from data_shards.knowledge.knowledge_base import pair_keys
from data_shards.knowledge.rows import read_lines
from data_shards.ragged import IntArray, concat_ranges

_TACRED_FIELDS = frozenset({"token", "subj_start", "subj_end", "obj_start", "obj_end"})
_SEMEVAL_LINE = re.compile(r'\s*(\d+)\t\s*"?.*</e[12]>')  # number and sentence
_SEMEVAL_MARKED = re.compile(r"<e([12])>(.*?)</e\1>")

_NamePair = tuple[str, str]


@dataclass(frozen=True)
class ExcludedPairs:
    """Pairs of names that no fact of pre-training may join, in either order."""

    numbers: Mapping[str, int]
    """Number of each name, as `plain_name` normalises it."""
    keys: NDArray[np.int64]
    """Both names of a pair as one number, in both orders, ascending."""

    @classmethod
    def read(cls, paths: Iterable[str | Path]) -> ExcludedPairs:
        """The names of all mentions of both arguments of all facts in files of evaluation data.

        Labels that mean "no relation" (`no_relation`, `Other`, `NR`) count too: the evaluation asks for these pairs.

        Args:
            paths: DocRED or another format of annotated data (docs/annotated_data.md), TACRED (JSON), or SemEval-2010
                task 8 (text), compressed or not.

        Raises:
            UserError: a file cannot be read, is in none of these formats, or has no fact.
        """
        pairs: set[_NamePair] = set()
        for path in map(Path, paths):
            found = {(plain_name(one), plain_name(other)) for one, other in _pairs_of_file(path)}
            if not found:
                raise UserError(f"{path} has no fact to exclude: name files of evaluation data with relations")
            pairs |= found
        return cls.of_pairs(pairs)

    @classmethod
    def of_pairs(cls, pairs: Collection[_NamePair]) -> ExcludedPairs:
        """Excluded pairs from pairs of names."""
        plain = [(plain_name(one), plain_name(other)) for one, other in pairs]
        numbers = {name: number for number, name in enumerate(sorted({name for pair in plain for name in pair}))}
        rows = np.array([(numbers[one], numbers[other]) for one, other in plain], dtype=np.int64).reshape(-1, 2)
        return cls(numbers, np.unique(pair_keys(*np.concatenate([rows, rows[:, ::-1]]).T)))

    def __len__(self) -> int:
        one, other = self._names_of_keys()
        return int((one <= other).sum())

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the pairs."""
        return sha256_of(json.dumps([list(self.numbers), self.keys.tolist()]).encode())

    def _names_of_keys(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.keys >> 32, self.keys & 0xFFFFFFFF

    def blocked_pairs(self, names: Sequence[str], entities: IntArray, records: IntArray) -> IntArray:
        """The pairs of entities of a record of which two mentions have the names of an excluded pair.

        Args:
            names: text of each mention, [M].
            entities: entity of each, [M].
            records: record of each, ascending, [M].

        Returns:
            Sorted rows of record, entity and another entity, in both orders, [B, 3].
        """
        numbers = np.fromiter((self.numbers.get(plain_name(name), -1) for name in names), np.int64, count=len(names))
        known = np.flatnonzero(numbers >= 0)
        numbers, entities, records = numbers[known], np.asarray(entities)[known], np.asarray(records)[known]
        _, record_starts, sizes = np.unique(records, return_index=True, return_counts=True)
        one = np.repeat(np.arange(len(known)), np.repeat(sizes, sizes))
        other = concat_ranges(np.repeat(record_starts, sizes), np.repeat(sizes, sizes))
        found = np.isin(pair_keys(numbers[one], numbers[other]), self.keys) & (entities[one] != entities[other])
        rows = np.stack([records[one], entities[one], entities[other]], axis=1)[found]
        return np.unique(rows.astype(np.int64), axis=0)


def plain_name(name: str) -> str:
    """A name as it is compared."""
    return "".join(name.lower().split())


def _pairs_of_file(path: Path) -> Iterator[_NamePair]:
    if _is_semeval(path):
        yield from _pairs_of_semeval(path)
        return
    first = next(read_items(path), None)
    if first is not None and first.value.keys() >= _TACRED_FIELDS:
        for item in read_items(path):
            yield _pair_of_tacred(item)
        return
    documents, _ = read_documents(path, keep_no_relation=True)
    for document in documents:
        names = _names_of_entities(document)
        for fact in document.facts:
            yield from product(names.get(fact.head, ()), names.get(fact.tail, ()))


def _is_semeval(path: Path) -> bool:
    with open_input(path) as stream:
        index = 0
        while (line := stream.look(index)) and not line.strip():
            index += 1
    return _SEMEVAL_LINE.match(line.decode(errors="replace")) is not None


def _pairs_of_semeval(path: Path) -> Iterator[_NamePair]:
    """Sentences with two marked names; the lines between them hold relation and comment."""
    for number, line in read_lines(path):
        if _SEMEVAL_LINE.match(line):
            marked = dict(_SEMEVAL_MARKED.findall(line))
            if marked.keys() != {"1", "2"}:
                raise UserError(f"{path}:{number}: expected <e1>…</e1> and <e2>…</e2>: correct the line")
            yield marked["1"], marked["2"]


def _pair_of_tacred(item: Item) -> _NamePair:
    words = item.value.get("token")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{item.where}: 'token' is not a list of words: correct it")
    names = []
    for argument in ("subj", "obj"):
        start, last = item.value.get(f"{argument}_start"), item.value.get(f"{argument}_end")
        if not (isinstance(start, int) and isinstance(last, int) and 0 <= start <= last < len(words)):
            raise UserError(
                f"{item.where}: {argument}_start {start} and {argument}_end {last} are not first and last of "
                f"{len(words)} words, counted from 0: correct them"
            )
        names.append(" ".join(words[start : last + 1]))
    return names[0], names[1]


def _names_of_entities(document: Document) -> dict[int, list[str]]:
    """What the mentions of each entity say, and what the file calls them besides."""
    names: dict[int, list[str]] = {}
    for mention in document.mentions:
        names.setdefault(mention.entity, []).extend(_names_of_mention(document, mention))
    return names


def _names_of_mention(document: Document, mention: Mention) -> Iterator[str]:
    if document.words is None:
        yield document.text[mention.start : mention.end]
    else:
        yield " ".join(document.words[mention.sentence][mention.start : mention.end])
    if mention.name:
        yield mention.name
