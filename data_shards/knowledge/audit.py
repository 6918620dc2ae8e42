"""Facts of documents for a person to judge, and what the judgements say: how many facts of a relation are right.

A fact is right if the text means the entities that it was linked to, and the relation holds between these; the text
need not state it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_shards.annotated.json_objects import read_items
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, written_output
from data_shards.knowledge.knowledge_base import KnowledgeBase
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import BLOCKED, ENTITIES, UNLINKED, Records
from data_shards.shards.record_words import RecordWords

_RECORDS = 4096  # read at a time
_JUDGED = {"yes": True, "y": True, "1": True, "true": True, "no": False, "n": False, "0": False, "false": False}
_Z = 1.959964  # of a standard normal: 95 % lie within


@dataclass(frozen=True)
class SampledFact:
    """A fact as a person sees it; all are texts."""

    right: str
    """To be filled in: yes or no."""
    relation: str
    """What the relation is called."""
    head: str
    tail: str
    text: str
    """The sentences of the two mentions that are nearest to each other, with all mentions of both entities marked."""
    code: str
    """Id of the relation."""
    head_id: str
    tail_id: str
    record: str
    fact: str
    """Number of the fact among the facts of the record."""


_COLUMNS = [field.name for field in fields(SampledFact)]


@dataclass(frozen=True)
class Precision:
    """How many of the judged facts of a relation are right, with the 95 % interval of Wilson (1927)."""

    right: int
    judged: int

    @property
    def share(self) -> float:
        """Share of the judged facts that are right."""
        return self.right / self.judged

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the share."""
        square = _Z**2 / self.judged
        middle = self.share + square / 2
        half = _Z * sqrt(self.share * (1 - self.share) / self.judged + square / (4 * self.judged))
        return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def sample_facts(
    reader: ShardReader, per_relation: int, *, seed: int = 0, kb: KnowledgeBase | None = None
) -> Iterator[SampledFact]:
    """Facts of each relation of a dataset of documents, drawn uniformly, in the order of the relations' numbers.

    Args:
        reader: reader of the dataset.
        per_relation: facts of a relation, or all if it has fewer.
        seed: seed of the draw.
        kb: that the documents were linked to, for ids of entities.

    Raises:
        UserError: the dataset holds no documents, or was linked to another knowledge base.
    """
    reader.manifest.require_documents(reader.location)
    if kb is not None:
        _check_is_its_own(reader, kb)
    facts = _facts_of(reader)
    order = np.random.default_rng(seed).permutation(len(facts))
    order = order[np.argsort(facts[order, 2], kind="stable")]
    relations = facts[order, 2]
    first = np.searchsorted(relations, relations)
    chosen = order[np.arange(len(order)) - first < per_relation]
    words = RecordWords(Tokenizer.from_file(str(reader.tokenizer_folder() / "tokenizer.json")))
    types = list(reader.manifest.relation_types.items())
    for record, fact, relation in facts[chosen].tolist():
        code, type = types[relation]
        document = _Document.of(reader.take([record]), words)
        head, tail = document.relations[fact][:2].tolist()
        yield SampledFact(
            "", type.name, document.name(head), document.name(tail), document.marked(head, tail), code,
            document.id(head, kb), document.id(tail, kb), str(record), str(fact),
        )  # fmt: skip


def _check_is_its_own(reader: ShardReader, kb: KnowledgeBase) -> None:
    documents: Mapping[str, Any] = reader.manifest.build.get("documents", {})
    linked = documents.get("from")
    if isinstance(linked, Mapping) and linked.get("knowledge_base") != kb.fingerprint:
        raise UserError(f"{reader.location} was linked to another knowledge base: name the one that it was built with")


def _facts_of(reader: ShardReader) -> NDArray[np.int64]:
    """Record, number in the record, and relation of every fact that is not blocked, [F, 3]."""
    parts = [np.zeros((0, 3), dtype=np.int64)]
    for start in range(0, len(reader), _RECORDS):
        layer = reader.take(range(start, min(start + _RECORDS, len(reader)))).layers["relations"]
        record = layer.row_index()
        fact = np.arange(len(record)) - layer.offsets[record]
        rows = np.stack([start + record, fact, layer.values[:, 2]], axis=1).astype(np.int64)
        parts.append(rows[rows[:, 2] != BLOCKED])
    return np.concatenate(parts)


@dataclass(frozen=True)
class _Document:
    words: list[str]
    sentence_starts: NDArray[np.integer]
    mentions: NDArray[np.integer]
    entities: NDArray[np.integer]
    """Entity of each mention."""
    knowledge_ids: NDArray[np.integer]
    relations: NDArray[np.integer]

    @classmethod
    def of(cls, record: Records, words: RecordWords) -> _Document:
        """The document of a single record."""
        names = ("sentence_starts", ENTITIES, "mention_entities", "knowledge_ids", "relations")
        return cls(words.words(record)[0], *(record.layers[name].row(0) for name in names))

    def name(self, entity: int) -> str:
        """What its first mention says."""
        start, end = self.mentions[np.flatnonzero(self.entities == entity)[0], :2].tolist()
        return " ".join(self.words[start:end])

    def id(self, entity: int, kb: KnowledgeBase | None) -> str:
        number = int(self.knowledge_ids[entity])
        if kb is None or number == UNLINKED:
            return ""
        if number >= len(kb.entity_ids):
            raise UserError(
                f"the knowledge base has {len(kb.entity_ids):,} entities, but the documents name number {number:,}: "
                "name the one that they were linked to"
            )
        return kb.entity_ids[number]

    def marked(self, head: int, tail: int) -> str:
        """The sentences of their nearest mentions, and … for words between."""
        marks = {"head": self.entities == head, "tail": self.entities == tail}
        sentences = np.searchsorted(self.sentence_starts, self.mentions[:, 0], side="right") - 1
        near = min(
            (abs(int(self.mentions[one, 0]) - int(self.mentions[other, 0])), int(sentences[one]), int(sentences[other]))
            for one in np.flatnonzero(marks["head"])
            for other in np.flatnonzero(marks["tail"])
        )[1:]
        words = list(self.words)
        for name, own in marks.items():
            for start, end in self.mentions[own, :2].tolist():
                words[start] = f"<{name}>{words[start]}"
                words[end - 1] += f"</{name}>"
        bounds = [*self.sentence_starts.tolist(), len(words)]
        first, last = min(near), max(near)
        texts = [" ".join(words[bounds[one] : bounds[one + 1]]) for one in sorted({first, last})]
        return (" " if last - first <= 1 else " … ").join(texts)


def write_sample(facts: Iterable[SampledFact], path: Path) -> int:
    """Write facts as a table with tabs (.tsv), or JSON lines (.jsonl); returns how many.

    Raises:
        UserError: the name says neither, or the file cannot be written.
    """
    write, _ = _form(path)
    rows = [vars(fact) for fact in facts]
    with explain_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_output(path) as file:
            file.write(write(rows).encode())
    return len(rows)


def read_judgements(path: Path) -> dict[str, Precision]:
    """Precision of each relation that has a judged fact, by the relation's code.

    Raises:
        UserError: the file is not a sample, none of its facts is judged, or a judgement is neither yes nor no.
    """
    _, read = _form(path)
    judged: dict[str, list[bool]] = {}
    for where, row in read(path):
        if not {"right", "code"} <= row.keys():
            raise UserError(f"{where}: no columns 'right' and 'code': is this a file of spe shards audit --out?")
        judgement = str(row["right"] or "").strip().lower()
        if judgement and judgement not in _JUDGED:
            raise UserError(f"{where}: right is {row['right']!r}: write yes or no, or leave it empty")
        if judgement:
            judged.setdefault(str(row["code"]), []).append(_JUDGED[judgement])
    if not judged:
        raise UserError(f"{path}: no fact is judged: write yes or no in its column 'right'")
    return {code: Precision(sum(of_code), len(of_code)) for code, of_code in judged.items()}


def _form(path: Path) -> tuple[Callable[[Sequence[dict[str, str]]], str], Callable[[Path], Iterator[tuple[str, dict]]]]:
    """How a sample is written and read."""
    if path.suffix == ".tsv":
        return _as_table, _read_table
    if path.suffix == ".jsonl":
        return _as_json_lines, _read_json_lines
    raise UserError(f"{path}: name a file that ends in .tsv (a table) or .jsonl (JSON lines)")


def _as_table(rows: Sequence[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _read_table(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets may put a byte order mark before it
            reader = csv.DictReader(file, delimiter="\t")
            for row in reader:
                yield f"{path}:{reader.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table with tabs ({error})") from error


def _as_json_lines(rows: Sequence[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((item.where, item.value) for item in read_items(path))
