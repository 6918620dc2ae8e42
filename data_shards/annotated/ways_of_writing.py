"""The ways in which programs write entities by characters; see `characters`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from data_shards.annotated.json_objects import Item
from data_shards.annotated.schema import (
    AnyEntity,
    EntityFields,
    EntityList,
    Fields,
    Id,
    Index,
    Label,
    RelationFields,
    Text,
    nearest_name,
)
from data_shards.counted import counted
from data_shards.errors import UserError

ACCEPTED = "accept"
_ANSWERS = (ACCEPTED, "reject", "ignore")
_LISTING = ("entities", "spans", "label")  # fields of which one lists the entities


class ListedEntity(NamedTuple):
    """An entity as it is listed, and what relations call it."""

    start: int
    end: int
    type: str
    name: str
    text: str | None = None
    accepted: bool = True


class ListedRelation(NamedTuple):
    """A relation as it is listed; head and tail are names of entities."""

    head: str
    tail: str
    type: str


class _Item(Fields):
    text: Text
    id: Id = ""


class Ours(_Item):
    """What `spe predict` and people write."""

    entities: list[AnyEntity]
    relations: Sequence[RelationFields] = ()

    def listed(self, where: str) -> tuple[list[ListedEntity], list[ListedRelation]]:
        """Entities and relations."""
        entities = []
        for number, entity in enumerate(self.entities):
            if isinstance(entity, EntityFields):
                entities.append(ListedEntity(entity.start, entity.end, entity.type, str(number), entity.text))
            else:
                entities.append(ListedEntity(*entity, str(number)))
        for relation in self.relations:
            if max(relation.head, relation.tail) >= len(entities):
                raise UserError(
                    f"{where}: relation {relation.type!r} from entity {relation.head} to {relation.tail}, but the text "
                    f"has {counted(len(entities), 'entity')}, counted from 0: correct the numbers"
                )
        return entities, [ListedRelation(str(one.head), str(one.tail), one.type) for one in self.relations]


class _DoccanoEntity(Fields):
    id: Id
    label: Label
    start_offset: Index
    end_offset: Index


class _DoccanoRelation(Fields):
    type: Label
    from_id: Id
    to_id: Id


class Doccano(_Item):
    """Doccano with relations."""

    entities: list[_DoccanoEntity]
    relations: Sequence[_DoccanoRelation] = ()

    def listed(self, where: str) -> tuple[list[ListedEntity], list[ListedRelation]]:
        """Entities and relations."""
        for id, count in Counter(one.id for one in self.entities).items():
            if count > 1:
                raise UserError(f"{where}: {count} entities with the id {id!r}: give each its own")
        entities = [ListedEntity(one.start_offset, one.end_offset, one.label, one.id) for one in self.entities]
        return entities, [ListedRelation(one.from_id, one.to_id, one.type) for one in self.relations]


class DoccanoLabels(_Item):
    """Doccano without relations."""

    label: list[EntityList]

    def listed(self, where: str) -> tuple[list[ListedEntity], list[ListedRelation]]:
        """Entities."""
        return [ListedEntity(*entity, str(number)) for number, entity in enumerate(self.label)], []


class LabelledSpan(Fields):
    """What Label Studio says of a region of a text, in both of its forms."""

    start: Index
    end: Index
    labels: Sequence[Label] = ()
    text: Text | None = None


class LabelStudioMin(_Item):
    """Label Studio's short form (JSON-MIN), which has no relations; the tag that marks entities is named `label`."""

    label: Sequence[LabelledSpan]

    def listed(self, where: str) -> tuple[list[ListedEntity], list[ListedRelation]]:
        """Entities; a region of several labels is one of each."""
        return [
            ListedEntity(one.start, one.end, label, str(number), one.text)
            for number, one in enumerate(self.label)
            for label in one.labels
        ], []


class _ProdigySpan(Fields):
    label: Label
    start: Index
    end: Index
    answer: Text = ACCEPTED


class _ProdigyArgument(Fields):
    start: Index
    end: Index
    label: Label | None = None
    """None where an arc ends on a word that is in no span."""


class _ProdigyRelation(Fields):
    label: Label
    head_span: _ProdigyArgument
    child_span: _ProdigyArgument


class Prodigy(_Item):
    """Prodigy; a text in which nothing was marked has no `spans`."""

    spans: Sequence[_ProdigySpan] = ()
    relations: Sequence[_ProdigyRelation] = ()
    answer: Text = ACCEPTED

    def listed(self, where: str) -> tuple[list[ListedEntity], list[ListedRelation]]:
        """Entities and relations."""
        entities = [
            ListedEntity(one.start, one.end, one.label, _name_of_span(one), accepted=one.answer == ACCEPTED)
            for one in self.spans
        ]
        relations = [
            ListedRelation(_name_of_span(one.head_span), _name_of_span(one.child_span), one.label)
            for one in self.relations
        ]
        return entities, relations


def _name_of_span(span: _ProdigySpan | _ProdigyArgument) -> str:
    return f"{span.label!r} [{span.start}, {span.end}]"


def way_of_writing(item: Item) -> type[Ours | Doccano | DoccanoLabels | LabelStudioMin | Prodigy]:
    """Program that wrote an item, by its fields; `entities`, which `spe predict` adds to an input, go first."""
    value = item.value
    given = [name for name in _LISTING if value.get(name) is not None]
    if "entities" in given:
        return Doccano if _has_doccano_names(value) else Ours
    if "spans" in given or (is_prodigy(value) and "label" not in given):
        return Prodigy
    if isinstance(value.get("label"), str) or _is_list_of(str, value.get("label")):
        raise UserError(
            f"{item.where}: 'label' describes the whole text, not parts of it (text classification): "
            "entities are read from 'spans' (Prodigy), or from a 'label' of lists [start, end, type] (Doccano)"
        )
    if "label" in given:
        return LabelStudioMin if _is_list_of(dict, value["label"]) else DoccanoLabels
    if not any(name in value or nearest_name(name, value) for name in _LISTING):
        raise UserError(
            f"{item.where}: no field 'entities' (Prodigy: 'spans'; Doccano: 'entities' or 'label'): give the text an "
            "empty list if it has none"
        )
    return next((way for name, way in (("spans", Prodigy), ("label", DoccanoLabels)) if name in value), Ours)


def is_prodigy(value: Mapping[str, Any]) -> bool:
    """Whether a text has fields that Prodigy gives to every text, with or without `spans`."""
    if "text" not in value:
        return False
    hashed = "_input_hash" in value or "_task_hash" in value
    return hashed or value.get("answer") in _ANSWERS or _is_list_of(dict, value.get("tokens"))


def _has_doccano_names(value: Mapping[str, Any]) -> bool:
    listed = [one for name in ("entities", "relations") if isinstance(value.get(name), list) for one in value[name]]
    return any(isinstance(one, dict) and ("start_offset" in one or "from_id" in one) for one in listed)


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, kind) for one in value)
