"""brat's standoff folders: a text in NAME.txt, what is marked in it in NAME.ann.

    T1<tab>Person 0 3<tab>Ada            an entity; a discontinuous one has `0 3;8 11`
    R1<tab>lives_in Arg1:T1 Arg2:T2      a relation
    *<tab>Equiv T1 T3                    mentions of one entity

Offsets count characters of the file, line ends as they are. What else there is (events, attributes, notes) is counted.
brat ends a span at the end of a line: an entity over several lines is one of several parts, which is no gap.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain, count, pairwise
from pathlib import Path
from typing import NamedTuple

from data_shards.annotated.characters import ListedText, document_of
from data_shards.annotated.document import Document
from data_shards.annotated.json_objects import Item
from data_shards.annotated.offset_trial import OffsetTrial
from data_shards.annotated.read_report import (
    BRAT_LINES,
    DISCONTINUOUS,
    NOT_ANNOTATED,
    WITH_ITSELF,
    ReadReport,
)
from data_shards.annotated.schema import check_label
from data_shards.annotated.ways_of_writing import ListedEntity, ListedRelation
from data_shards.errors import UserError
from data_shards.text.offset_units import OffsetUnit

CONFIG = "annotation.conf"
_LETTERS = "TREAMN#*"
_ENTITY = re.compile(r"(\S+) (\d{1,9} \d{1,9}(?:;\d{1,9} \d{1,9})*)")
_RELATION = re.compile(r"(\S+) [^\s:]+:(\S+) [^\s:]+:(\S+)\s*")
_UNSAFE = re.compile(r'[%/\\:*?"<>|\x00-\x1f\x7f]|^\.|[. ]$')  # in names of files, on any system
_MOST_BYTES = 240  # of the name of a file


def is_brat_folder(path: Path) -> bool:
    """Whether a folder holds files of brat, itself or below."""
    return path.is_dir() and next(path.rglob("*.ann"), None) is not None


def items_of_folder(folder: Path) -> Iterator[Item]:
    """The texts of a folder and those below, in the order of their names (numbers by their size).

    Raises:
        UserError: a file cannot be read, or .ann files have no text beside them.
    """
    lonely = [path for path in sorted(folder.rglob("*.ann")) if not path.with_suffix(".txt").is_file()]
    if lonely:
        raise UserError(f"{lonely[0]}: there is no {lonely[0].stem}.txt beside it: add it, or remove the file")
    for path in sorted(folder.rglob("*.txt"), key=lambda one: _by_numbers(one.relative_to(folder).as_posix())):
        text, lines = _read(path), path.with_suffix(".ann")
        name = _name_of_file(path.relative_to(folder).with_suffix("").as_posix())
        value = {"name": name, "text": text, "lines": _read(lines).split("\n") if lines.is_file() else None}
        yield Item(str(lines if lines.is_file() else path), value, "brat")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: invalid UTF-8 at byte {error.start:,}: fix it") from error


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Sort key that puts `text 9` before `text 10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def read(item: Item, index: int, report: ReadReport, *, offsets: OffsetUnit, trial: OffsetTrial) -> Document | None:
    """A text; None if it has no .ann file. See `characters.read`."""
    text, lines = item.value["text"], item.value["lines"]
    if lines is None:
        report.findings[NOT_ANNOTATED] += 1
        return None
    entities: list[ListedEntity] = []
    lines_of_ids: dict[str, int] = {}
    relations: list[ListedRelation] = []
    same: dict[str, str] = {}  # id of a mention → that of the first mention of its entity
    for number, line in enumerate(lines, start=1):
        where = f"{item.where}:{number}"
        id, _, rest = line.rstrip("\r").partition("\t")
        if not line.strip():
            continue
        if id[:1] not in _LETTERS or not rest:
            raise UserError(f"{where}: {line[:40]!r} is no line of brat: T, R, E, A, M, N, # or *, a tab, and more")
        if id[0] == "T":
            if lines_of_ids.setdefault(id, number) != number:
                raise UserError(f"{where}: line {lines_of_ids[id]} has the id {id} too: give each entity its own")
            entities.append(_entity(id, rest, text, where, report))
        elif id[0] == "R":
            relations.append(_relation(rest, where))
        elif id == "*" and rest.startswith("Equiv "):
            ids = [same.get(one, one) for one in rest.split()[1:]]
            same |= {one: ids[0] for one in (*ids, *same) if same.get(one, one) in ids}
        else:
            report.findings[BRAT_LINES[id[0]]] += 1
    listed = [entity._replace(name=same.get(entity.name, entity.name)) for entity in entities]
    between = [one._replace(head=same.get(one.head, one.head), tail=same.get(one.tail, one.tail)) for one in relations]
    kept = [relation for relation in between if relation.head != relation.tail]
    if len(kept) < len(between):
        report.findings[WITH_ITSELF] += len(between) - len(kept)
    return document_of(ListedText(text, listed, kept, item.value["name"], item.where), report, offsets, trial)


def _entity(id: str, rest: str, text: str, where: str, report: ReadReport) -> ListedEntity:
    spans, _, said = rest.partition("\t")
    match = _ENTITY.fullmatch(spans.rstrip())
    if match is None:
        raise UserError(f"{where}: {spans[:60]!r}: expected a type, first and last character: Person 0 3")
    parts = [tuple(map(int, part.split())) for part in match[2].split(";")]
    gaps = [text[before:after] for (_, before), (after, _) in pairwise(parts)]
    whole = not any(gap.strip() for gap in gaps)
    if not whole:
        report.findings[DISCONTINUOUS] += 1
    check_label(match[1], where)
    return ListedEntity(parts[0][0], parts[-1][1], match[1], id, said if said and whole else None)


def _relation(rest: str, where: str) -> ListedRelation:
    match = _RELATION.fullmatch(rest)
    if match is None:
        raise UserError(f"{where}: {rest[:60]!r}: expected a type and two arguments: lives_in Arg1:T1 Arg2:T2")
    type, head, tail = match.groups()
    check_label(type, where)
    return ListedRelation(head, tail, type)


class BratText(NamedTuple):
    """A text to write.

    Args:
        document: with its mentions.
        relations: numbers of head and tail among these, and type.
        notes: by the id of what they are about: `T1` is the first mention, `R1` the first relation.
    """

    document: Document
    relations: Sequence[tuple[int, int, str]]
    notes: Mapping[str, str] = {}


def files_of(texts: Iterable[BratText], findings: Counter[str]) -> Iterator[tuple[str, str]]:
    """Names and contents of the files of a folder, and last of its `annotation.conf`.

    Args:
        texts: whose names become those of files.
        findings: what the format cannot hold is counted here.
    """
    types = _Types()
    used: set[str] = set()
    for index, text in enumerate(texts):
        name = _file_of_name(text.document.name)
        if not name or name.casefold() in used:
            findings["texts without a name of their own, named by their number"] += 1
            name = _free_name(f"text {index}", used)
        used.add(name.casefold())
        yield f"{name}.txt", text.document.text
        yield f"{name}.ann", "".join(f"{line}\n" for line in _lines(text, types, findings))
    yield CONFIG, types.config()
    if types.changed:
        named = ", ".join(sorted(types.changed)[:3]) + (", …" if len(types.changed) > 3 else "")
        findings[f"types written with _ in place of spaces and signs ({named})"] += len(types.changed)


def _lines(written: BratText, types: _Types, findings: Counter[str]) -> Iterator[str]:
    document, relations, notes = written
    text, of_entity = document.text, defaultdict(list)
    for number, (mention, (start, end)) in enumerate(zip(document.mentions, document.characters(), strict=True)):
        parts = [(start + m.start(), start + m.end()) for m in re.finditer(r"[^\r\n]+", text[start:end])]
        parts = parts or [(start, end)]
        if (parts[0][0], parts[-1][1]) != (start, end):
            findings["entities written without the line ends at their ends"] += 1
        spans = ";".join(f"{first} {last}" for first, last in parts)
        said = " ".join(text[first:last] for first, last in parts)
        yield f"T{number + 1}\t{types.entity(mention.type)} {spans}\t{said}"
        of_entity[mention.entity].append(f"T{number + 1}")
    for number, (head, tail, type) in enumerate(relations, start=1):
        ends = (document.mentions[head].type, document.mentions[tail].type)
        yield f"R{number}\t{types.relation(type, *ends)} Arg1:T{head + 1} Arg2:T{tail + 1}"
    for same in of_entity.values():
        if len(same) > 1:
            yield f"*\tEquiv {' '.join(same)}"
    for number, (id, note) in enumerate(notes.items(), start=1):
        yield f"#{number}\tAnnotatorNotes {id}\t{note}"


class _Types:
    """The types of a folder: without spaces, and no two of them alike."""

    def __init__(self) -> None:
        self.changed: set[str] = set()
        self._written: dict[str, str] = {}  # as it is written → as it is
        self._entities: dict[str, None] = {}
        self._relations: dict[str, tuple[dict[str, None], dict[str, None]]] = {}

    def entity(self, type: str) -> str:
        self._entities[written := self._write(type)] = None
        return written

    def relation(self, type: str, head: str, tail: str) -> str:
        written = self._write(type)
        heads, tails = self._relations.setdefault(written, ({}, {}))
        heads[self._write(head)] = tails[self._write(tail)] = None
        return written

    def _write(self, type: str) -> str:
        written = re.sub(r"[^\w-]", "_", type)
        if written != type:
            self.changed.add(type)
        if self._written.setdefault(written, type) != type:
            raise UserError(
                f"the types {type!r} and {self._written[written]!r} would both be {written!r} in brat, whose types "
                "have no spaces or special characters: rename one of them"
            )
        return written

    def config(self) -> str:
        """What brat asks of a folder before it shows it: its types."""
        relations = [f"{type}\tArg1:{'|'.join(a)}, Arg2:{'|'.join(b)}" for type, (a, b) in self._relations.items()]
        overlaps = "<OVERLAP>\tArg1:<ENTITY>, Arg2:<ENTITY>, <OVL-TYPE>:<ANY>"
        equivalent = "Equiv\tArg1:<ENTITY>, Arg2:<ENTITY>, <REL-TYPE>:symmetric-transitive"
        lines = ["[entities]", *self._entities, "[relations]", overlaps, equivalent, *relations, "[events]",
                 "[attributes]"]  # fmt: skip
        return "".join(f"{line}\n" for line in lines)


def _free_name(name: str, used: Set[str]) -> str:
    """The name or, as a text may really be called so, the name and a number; `used` in lower case."""
    names = chain([name], (f"{name} ({number})" for number in count(2)))
    return next(one for one in names if one.casefold() not in used)


def _file_of_name(name: str) -> str:
    """A name as one of a file, from which it can be read again; empty if it is too long."""
    name = name.encode(errors="replace").decode()  # half of a surrogate pair is in no name of a file
    written = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", name)
    return written if len(written.encode()) <= _MOST_BYTES else ""


def _name_of_file(written: str) -> str:
    return re.sub(r"%([0-7][0-9A-F])", lambda match: chr(int(match[1], 16)), written)
