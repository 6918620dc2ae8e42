"""Tables of `spe data check`: a column for each file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import combinations
from typing import Any, TypeVar

import numpy as np

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.counted import counted
from spe_dist.extraction.data.data_statistics import DataStatistics, count_data, find_shared
from spe_dist.extraction.data.data_warnings import file_warnings, negatives_warnings, type_warnings
from spe_dist.extraction.model.constraints import Triple
from spe_dist.text_table import text_table

_NONE = "-"
_NAMED = 3  # places of sentences that are in two files
_SHORT = 20  # triples: a table of so many is shown unasked
_SUMMARIES: dict[str, Callable[[Sequence[int]], str]] = {
    "mean": lambda numbers: f"{np.mean(numbers):.1f}",
    "median": lambda numbers: f"{np.median(numbers):g}",
    "90 %": lambda numbers: f"{np.percentile(numbers, 90, method='nearest')}",
    "most": lambda numbers: f"{max(numbers):,}",
}

File = TypeVar("File")
Row = tuple[str, Callable[[File], str]]  # its name, and what stands in the column of a file


def check_text(
    data: Mapping[str, Sequence[AnnotatedSentence]],
    places: Mapping[str, Sequence[str]],
    pieces: Mapping[str, Sequence[int]] | None = None,
    max_pieces: int = 512,
    *,
    all_triples: bool = False,
) -> str:
    """The tables for people.

    Args:
        data: sentences by name of their file, the one to learn from first.
        places: file and line of every sentence by name of its file.
        pieces: pieces of every sentence by name of its file, special pieces included.
        max_pieces: what the encoder takes.
        all_triples: show the table of triples even if it is long.
    """
    counts = {name: count_data(sentences) for name, sentences in data.items()}
    parts = [
        _sentence_table(counts),
        _piece_table(pieces, max_pieces) if pieces else "",
        _entity_table(counts),
        _pair_table(counts),
        _relation_table(counts),
        _triple_table(counts, all_triples),
        _unseen_triples(counts, all_triples),
        _shared_lines(data, places),
        _missing_types(counts),
        _warnings(data, counts),
    ]
    return "\n\n".join(part for part in parts if part)


def check_json(data: Mapping[str, Sequence[AnnotatedSentence]]) -> dict[str, Any]:
    """The counts for programs, by name of their file; warnings as they are in the text."""
    counts = {name: count_data(sentences) for name, sentences in data.items()}
    files = {
        name: {field: value for field, value in vars(of).items() if isinstance(value, int)}
        | {
            "entity_types": dict(of.entity_types),
            "relation_types": {type: asdict(of_type) for type, of_type in of.relation_types.items()},
            "triples": [
                {"head": head, "relation": relation, "tail": tail, "count": count}
                for (head, relation, tail), count in of.triples.items()
            ],
        }
        for name, of in counts.items()
    }
    return {"files": files, "warnings": _warnings(data, counts).splitlines()}


def _sentence_table(counts: Mapping[str, DataStatistics]) -> str:
    rows: list[Row[DataStatistics]] = [
        ("sentences", lambda of: f"{of.sentences:,}"),
        ("  of documents", lambda of: f"{of.documents:,}" if of.documents else _NONE),
        ("  without entities", lambda of: f"{of.without_entities:,}"),
        ("  with two or more", lambda of: f"{of.of_several_entities:,}"),
        ("    without relations", lambda of: f"{of.unrelated:,}"),
        ("  whose words occurred before", lambda of: f"{of.repeated:,}"),
        ("words", lambda of: f"{of.words:,}"),
        *_summary_rows("  a sentence", lambda of: of.words_of_sentence),
        *_summary_rows("entities a sentence", lambda of: of.entities_of_sentence),
    ]
    return _table("sentences", rows, counts)


def _piece_table(pieces: Mapping[str, Sequence[int]], max_pieces: int) -> str:
    rows: list[Row[Sequence[int]]] = [
        *((f"a sentence, {summary}", partial(_summarise, summary)) for summary in _SUMMARIES),
        (f"sentences of more than {max_pieces:,}", lambda of: f"{sum(count > max_pieces for count in of):,}"),
    ]
    return _table("pieces, special ones included", rows, pieces)


def _entity_table(counts: Mapping[str, DataStatistics]) -> str:
    total = sum((of.entity_types for of in counts.values()), Counter())
    rows: list[Row[DataStatistics]] = [
        *((f"  {type!r}", partial(_entity_cell, type)) for type, _ in total.most_common()),
        ("all", lambda of: f"{of.entity_types.total():,}"),
        ("pairs that share words", lambda of: f"{of.overlapping:,}"),
        ("  one inside the other", lambda of: f"{of.nested:,}"),
        ("  on equal words", lambda of: f"{of.equal_words:,}"),
    ]
    return _table("entities", rows, counts)


def _entity_cell(type: str, of: DataStatistics) -> str:
    return f"{of.entity_types[type]:,}"


def _pair_table(counts: Mapping[str, DataStatistics]) -> str:
    rows: list[Row[DataStatistics]] = [
        ("pairs of entities", lambda of: f"{of.pairs:,}"),
        ("  a sentence", lambda of: f"{of.pairs / of.sentences:.1f}" if of.sentences else _NONE),
        ("related, with direction", lambda of: f"{of.related_pairs:,}"),
        ("  by several relations", lambda of: f"{of.pairs_of_several_relations:,}"),
        ("relations of entities that share words", lambda of: f"{of.relations_of_overlapping:,}"),
        *_summary_rows("words between related", lambda of: of.words_between),
    ]
    return _table("pairs", rows, counts)


def _relation_table(counts: Mapping[str, DataStatistics]) -> str:
    total: Counter[str] = Counter()
    for of in counts.values():
        total.update({type: relation.count for type, relation in of.relation_types.items()})
    rows: list[Row[DataStatistics]] = [
        *((f"  {type!r}", partial(_relation_cell, type)) for type, _ in total.most_common()),
        ("all", lambda of: f"{sum(relation.count for relation in of.relation_types.values()):,}"),
    ]
    table = _table("relations (left to right)", rows, counts)
    if not any(relation.looks_symmetric for of in counts.values() for relation in of.relation_types.values()):
        return table
    return (
        f"{table}\n* looks symmetric: annotated in both directions, or in text order between entities of one type. "
        "Directions are still learned and scored."
    )


def _relation_cell(type: str, of: DataStatistics) -> str:
    relation = of.relation_types.get(type)
    if relation is None:
        return "0"
    mark = "*" if relation.looks_symmetric else " "
    return f"{relation.count:,} ({relation.left_to_right / relation.count:4.0%}){mark}"


def _triple_table(counts: Mapping[str, DataStatistics], all_triples: bool) -> str:
    first, *_ = counts.values()
    total = sum((of.triples for of in counts.values()), Counter())
    if not total:
        return ""
    if len(total) > _SHORT and not all_triples:
        return f"{len(total):,} triples of head type, relation and tail type: --triples shows them"
    ordered = sorted(total, key=lambda triple: (-first.triples[triple], -total[triple], triple))
    rows: list[Row[DataStatistics]] = [(_triple(triple), partial(_triple_cell, triple)) for triple in ordered]
    return _table("triples (head type, relation, tail type)", rows, counts)


def _unseen_triples(counts: Mapping[str, DataStatistics], all_triples: bool) -> str:
    """Triples of later files that the first one, to learn from, has not."""
    (train, learned), *others = counts.items()
    lines = []
    for name, of in others:
        unseen = [(triple, count) for triple, count in of.triples.most_common() if triple not in learned.triples]
        if unseen:
            missed, total = sum(count for _, count in unseen), of.triples.total()
            lines.append(
                f"{missed:,} of {total:,} relations of {name} ({missed / total:.1%}) connect types that they "
                f"never connect in {train}: a model that learns from it cannot predict them, unless fine-tuned "
                "with --model.no-type-constraints"
            )
            shown = unseen if all_triples else unseen[:_SHORT]
            lines += [f"  {_triple(triple)}: {count:,}" for triple, count in shown]
            if len(shown) < len(unseen):
                lines.append(f"  and {counted(len(unseen) - len(shown), 'rarer one')}: --triples shows them")
    return "\n".join(lines)


def _triple(triple: Triple) -> str:
    return " ".join(map(repr, triple))


def _triple_cell(triple: Triple, of: DataStatistics) -> str:
    return f"{of.triples[triple]:,}"


def _shared_lines(data: Mapping[str, Sequence[AnnotatedSentence]], places: Mapping[str, Sequence[str]]) -> str:
    """What is in two files, the later one's sentences held against those of the earlier one."""
    if len(data) == 1:
        return ""
    lines = []
    for one, other in combinations(data, 2):
        shared = find_shared(data[other], data[one])
        if not shared:
            continue
        found = counted(len(shared), "sentence")
        verb = "is" if len(shared) == 1 else "are"
        differently = sum(sentence.differently for sentence in shared)
        named = [f"{places[other][two.number]} = {places[one][two.other]}" for two in shared[:_NAMED]]
        rest = ", …" if len(shared) > _NAMED else ""
        lines.append(
            f"{found} of {other} {verb} in {one} too, {differently:,} annotated differently: remove from one of the "
            f"two ({', '.join(named)}{rest})"
        )
    return "\n".join(lines) or "no sentence is in two of the files"


def _missing_types(counts: Mapping[str, DataStatistics]) -> str:
    kinds: dict[str, dict[str, set[str]]] = {
        "entity": {name: set(of.entity_types) for name, of in counts.items()},
        "relation": {name: set(of.relation_types) for name, of in counts.items()},
    }
    lines = []
    for kind, types in kinds.items():
        for type in sorted(set().union(*types.values())):
            absent = [name for name in types if type not in types[name]]
            present = [name for name in types if type in types[name]]
            if absent:
                lines.append(f"{kind} type {type!r} is in {', '.join(present)} but not in {', '.join(absent)}")
    return "\n".join(lines)


def _warnings(data: Mapping[str, Sequence[AnnotatedSentence]], counts: Mapping[str, DataStatistics]) -> str:
    first, *_ = data
    lines = negatives_warnings(first, data[first])
    lines += [line for name, sentences in data.items() for line in file_warnings(name, sentences)]
    entity_types = [type for of in counts.values() for type in of.entity_types]
    relation_types = [type for of in counts.values() for type in of.relation_types]
    return "\n".join(lines + type_warnings(entity_types, relation_types))


def _summary_rows(name: str, numbers: Callable[[DataStatistics], Sequence[int]]) -> list[Row[DataStatistics]]:
    return [(f"{name}, {summary}", partial(_summary_cell, summary, numbers)) for summary in _SUMMARIES]


def _summary_cell(summary: str, numbers: Callable[[DataStatistics], Sequence[int]], of: DataStatistics) -> str:
    return _summarise(summary, numbers(of))


def _summarise(summary: str, numbers: Sequence[int]) -> str:
    return _SUMMARIES[summary](numbers) if numbers else _NONE


def _table(title: str, rows: Sequence[Row[File]], files: Mapping[str, File]) -> str:
    """Names to the left, numbers to the right."""
    return text_table([title, *files], [[name, *(cell(of) for of in files.values())] for name, cell in rows])
