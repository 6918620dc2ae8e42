"""Types of fields that formats share, and the one place where an object is held against what a format asks for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from data_shards.errors import UserError
from spe_dist.extraction.formats.items import Item
from spe_dist.extraction.formats.read_report import ReadReport


def _check_characters(text: str) -> str:
    text.encode()  # half a surrogate pair can be written in JSON, but is not text
    return text


Text = Annotated[str, Field(strict=True), AfterValidator(_check_characters)]
Label = Annotated[str, Field(strict=True, min_length=1), AfterValidator(_check_characters)]
Index = Annotated[int, Field(strict=True, ge=0)]
Id = Annotated[str | int, Field(union_mode="left_to_right")]

_MISSPELT = "misspelt"  # a kind of error of our own
_CLOSE = 0.75  # "haed" is as close to "head"
_TELLING = 4  # letters of a name; "uid" is as close to "id" too

OBJECT, LIST = "object", "list"  # two ways to write an entity or relation; see `form`


class Fields(BaseModel):
    """An object of a format. Fields that it does not name are kept, to be counted, unless they look misspelt."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_misspelt(cls, value: Any) -> Any:
        """A field almost of the name of one that is not there: what it holds would silently be no part of the data."""
        if not isinstance(value, dict):
            return value
        lacking = {name for name in cls.model_fields.keys() - value.keys() if len(name) >= _TELLING}
        for name in value.keys() - cls.model_fields.keys():
            nearest = nearest_name(name, lacking)
            if nearest:
                message = "unknown field '{name}', did you mean '{nearest}'?"
                raise PydanticCustomError(_MISSPELT, message, {"name": name, "nearest": nearest})
        return value


AnyFields = TypeVar("AnyFields", bound=Fields)


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The name that this one is probably meant to be, if there is one."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=_CLOSE)), None)


def form(value: Any) -> str:
    """Whether an entity or relation is written as a list or as an object."""
    return LIST if isinstance(value, list | tuple) else OBJECT


class EntityFields(Fields):
    """An entity as an object: of words or of characters."""

    type: Label
    start: Index
    end: Index
    text: Text | None = None


class RelationFields(Fields):
    """A relation as an object, which names entities by their numbers."""

    type: Label
    head: Index
    tail: Index


EntityList = tuple[Index, Index, Label]
AnyEntity = Annotated[Annotated[EntityFields, Tag(OBJECT)] | Annotated[EntityList, Tag(LIST)], Discriminator(form)]


def parse(item: Item, fields: type[AnyFields], report: ReadReport) -> AnyFields:
    """The fields of an item; those that the format does not know are counted in the report.

    Raises:
        UserError: a field is missing or holds something else.
    """
    try:
        parsed = fields.model_validate(item.value)
    except ValidationError as error:
        doubt = "; --format names another" if report.format_is_given else ""
        raise UserError(f"{item.where}: {_explain(error)} (format {report.format}{doubt})") from error
    for name in _unread(parsed):
        report.count_unread(name, item.where)
    return parsed


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    parts = [part for part in first["loc"] if part not in (OBJECT, LIST)]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
    if first["type"] == "missing":
        return f"no field {place!r}"
    if first["type"] == _MISSPELT:
        return f"{place}: {first['msg']}" if place else first["msg"]
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}, not {str(first['input'])[:40]!r}"


def _unread(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, Fields):
        yield from (prefix + name for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from _unread(getattr(value, name), f"{prefix}{name}.")
    elif isinstance(value, list):
        for element in value:
            yield from _unread(element, prefix)
