"""Label Studio's JSON: one task an item, its text in `data`, its annotation in `annotations`.

`annotations` were `completions` of old.

    data {text}, annotations [{result [region or relation], was_cancelled, ground_truth}]
    region    id, type labels, value {start, end, labels, text}
    relation  type relation, from_id, to_id, labels, direction: right (the default), left or bi

Offsets count characters since version 1.5 (of 2022), UTF-16 units before. A region of several labels is an entity with
a mention of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from data_shards.annotated.characters import ListedText, document_of
from data_shards.annotated.document import Document
from data_shards.annotated.json_objects import Item
from data_shards.annotated.offset_trial import OffsetTrial
from data_shards.annotated.read_report import (
    NOT_ANNOTATED,
    OTHER_ANNOTATIONS,
    OTHER_REGIONS,
    SKIPPED,
    UNLABELLED_REGIONS,
    UNLABELLED_RELATIONS,
    ReadReport,
)
from data_shards.annotated.schema import Fields, Id, Label, Text, parse
from data_shards.annotated.ways_of_writing import LabelledSpan, ListedEntity, ListedRelation
from data_shards.errors import UserError
from data_shards.text.offset_units import OffsetUnit

FROM_NAME, TO_NAME, TEXT = "label", "text", "text"  # tags of a labelling interface, and field of its texts
_RELATION = "relation"
_NAMES = ("id", "title", "name")  # fields of `data` that may name the text


class _Result(Fields):
    """Fields that every result has, and that say nothing of the text."""

    type: Text = ""
    from_name: Text = ""
    to_name: Text = ""
    origin: Text = ""


class _Region(_Result):
    id: Id = ""
    value: LabelledSpan


class _Relation(_Result):
    from_id: Id
    to_id: Id
    labels: Sequence[Label] = ()
    direction: Text = "right"


class _Annotation(Fields):
    of_no_concern = frozenset({
        "bulk_created", "completed_by", "created_at", "draft_created_at", "id", "import_id", "last_action",
        "last_created_by", "lead_time", "parent_annotation", "parent_prediction", "prediction", "project",
        "result_count", "task", "unique_id", "updated_at", "updated_by",
    })  # fmt: skip
    result: list[dict[str, Any]]
    was_cancelled: bool = False
    ground_truth: bool = False


class _Task(Fields):
    of_no_concern = frozenset({
        "cancelled_annotations", "comment_authors", "comment_count", "created_at", "file_upload",
        "inner_id", "last_comment_updated_at", "meta", "project", "total_annotations", "total_predictions",
        "unresolved_comment_count", "updated_at", "updated_by",
    })  # fmt: skip
    id: Id = ""
    data: dict[str, Any]
    annotations: Sequence[_Annotation] = ()
    completions: Sequence[_Annotation] = ()


def text_of_task(data: dict[str, Any]) -> str:
    """The text of a task: its field `text` or, without one, its only string.

    Raises:
        ValueError: there is no such field.
    """
    if isinstance(data.get(TEXT), str):
        return data[TEXT]
    strings = [name for name, value in data.items() if isinstance(value, str) and name not in _NAMES]
    if len(strings) != 1:
        found = ", ".join(data) or "none"
        raise ValueError(f"no field 'data.{TEXT}' holds the text; the fields of 'data' are: {found}: rename the text's")
    return data[strings[0]]


def read(item: Item, index: int, report: ReadReport, *, offsets: OffsetUnit, trial: OffsetTrial) -> Document | None:
    """The text of a task; None if nobody has annotated it. See `characters.read`."""
    task = parse(item, _Task, report)
    try:
        text = text_of_task(task.data)
    except ValueError as error:
        raise UserError(f"{item.where}: {error}") from error
    annotation = _chosen([*task.annotations, *task.completions], report)
    if annotation is None:
        return None
    entities: list[ListedEntity] = []
    relations: list[ListedRelation] = []
    for number, result in enumerate(annotation.result):
        part = Item(f"{item.where}, result {number}", result)
        if result.get("type") == _RELATION:
            relations += _relations(parse(part, _Relation, report), report)
        elif isinstance(value := result.get("value"), dict) and "labels" in value:
            entities += _entities(parse(part, _Region, report), number, report)
        else:
            report.findings[OTHER_REGIONS] += 1
    name = next((str(task.data[field]) for field in _NAMES if task.data.get(field)), task.id) or f"text {index}"
    return document_of(ListedText(text, entities, relations, name, item.where), report, offsets, trial)


def _chosen(annotations: Sequence[_Annotation], report: ReadReport) -> _Annotation | None:
    """The ground truth or, without one, the first annotation that was not cancelled."""
    valid = [annotation for annotation in annotations if not annotation.was_cancelled]
    if not valid:
        report.findings[SKIPPED if annotations else NOT_ANNOTATED] += 1
        return None
    if len(valid) > 1:
        report.findings[OTHER_ANNOTATIONS] += len(valid) - 1
    return next((annotation for annotation in valid if annotation.ground_truth), valid[0])


def _entities(region: _Region, number: int, report: ReadReport) -> list[ListedEntity]:
    value = region.value
    if not value.labels:
        report.findings[UNLABELLED_REGIONS] += 1
    name = region.id or f"result {number}"
    return [ListedEntity(value.start, value.end, label, name, value.text) for label in value.labels]


def _relations(relation: _Relation, report: ReadReport) -> list[ListedRelation]:
    if not relation.labels:
        report.findings[UNLABELLED_RELATIONS] += 1
    ends = (relation.from_id, relation.to_id)
    ways = {"left": (ends[::-1],), "bi": (ends, ends[::-1])}.get(relation.direction, (ends,))
    return [ListedRelation(head, tail, label) for head, tail in ways for label in relation.labels]


def results(
    text: str,
    entities: Iterable[tuple[int, int, str, float | None]],
    relations: Iterable[tuple[int, int, str, float | None]],
) -> list[dict[str, Any]]:
    """Regions and relations, as an annotation or prediction of a task holds them.

    Args:
        text: text of the task.
        entities: first character, one past the last, type and score, None for none.
        relations: numbers of head and tail among these, type and score.
    """
    found: list[dict[str, Any]] = [
        {
            "id": f"e{number}",
            "from_name": FROM_NAME,
            "to_name": TO_NAME,
            "type": "labels",
            "value": {"start": start, "end": end, "text": text[start:end], "labels": [type]},
        }
        | _score(score)
        for number, (start, end, type, score) in enumerate(entities)
    ]
    return found + [
        {"from_id": f"e{head}", "to_id": f"e{tail}", "type": _RELATION, "direction": "right", "labels": [type]}
        | _score(score)
        for head, tail, type, score in relations
    ]


def _score(score: float | None) -> dict[str, float]:
    return {} if score is None else {"score": round(score, 4)}
