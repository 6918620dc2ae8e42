"""Types of fields that formats share, and the one place where an object is held against what a format asks for."""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from data_shards.annotated.json_objects import Item
from data_shards.annotated.read_report import ReadReport
from data_shards.errors import UserError


def _check_characters(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # can be written in JSON
        raise PydanticCustomError(_OWN, "has half of a surrogate pair, which is no text") from error
    return text


Text = Annotated[str, Field(strict=True), AfterValidator(_check_characters)]


@lru_cache(maxsize=4096)
def _check_label(label: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in label):
        problem = "has half of a surrogate pair in its type, which is no text"
    elif not label.strip():
        problem = f"has the type {label!r}: give it a name"
    elif any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in label):
        problem = f"has the type {label!r}, with a control character: remove that"
    else:
        return label
    raise PydanticCustomError(_OWN, "{problem}", {"problem": problem})


def check_label(label: str, where: str) -> None:
    """Refuse a type that is blank or has a control character, of a format that is not JSON."""
    try:
        _check_label(label)
    except PydanticCustomError as error:
        raise UserError(f"{where}: an entity or relation {error.message()}") from error


def _as_text(name: Any) -> Any:
    if isinstance(name, float) and name.is_integer():  # as tables write whole numbers beside what is not there
        return str(int(name))
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


Label = Annotated[str, Field(strict=True), AfterValidator(_check_label)]
Index = Annotated[int, Field(strict=True, ge=0, lt=1 << 31)]
Id = Annotated[Text, BeforeValidator(_as_text)]
"""What something is called: a text, or a number, which is the same as its digits."""

_MISSPELT, _OWN = "misspelt", "own"  # kinds of errors of our own
_EXPECTED = {  # pydantic's kinds of errors
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "greater_than_equal": "0 or more",
    "less_than": "a smaller number",
    "list_type": "a list",
    "is_instance_of": "a list",
    "tuple_type": "a list",
    "model_type": "an object",
    "too_long": "a shorter list",
}
_CLOSE = 0.75  # "haed" is as close to "head"
_TELLING = 4  # letters of a name; "uid" is as close to "id" too

OBJECT, LIST, NUMBERS = "object", "list", "numbers"  # ways to write an entity or relation; see `form`


class Fields(BaseModel):
    """An object of a format. Fields that it does not name are kept, to be counted, unless they look misspelt.

    A field that is null is as if it were not there, as files from tables write what is not there.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    of_no_concern: ClassVar[frozenset[str]] = frozenset()
    """Fields that the program writes in every file and that say nothing of the annotation: they are not counted."""

    @model_validator(mode="before")
    @classmethod
    def _drop_null_and_refuse_misspelt(cls, value: Any) -> Any:
        """A field almost of the name of one that is not there: what it holds would silently be no part of the data."""
        if not isinstance(value, dict):
            return value
        required = {name for name, field in cls.model_fields.items() if field.is_required()}
        value = {name: one for name, one in value.items() if one is not None or name in required}
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
    return _nearest(name, tuple(sorted(known)))


@lru_cache(maxsize=4096)  # the same fields come with every item
def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=_CLOSE)), None)


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


def _first_three(value: Any) -> Any:
    return value[:3] if isinstance(value, list) else value


EntityList = Annotated[tuple[Index, Index, Label], BeforeValidator(_first_three)]
"""Start, end and type; what follows is not read."""
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
    kind, parts = first["type"], [part for part in first["loc"] if part not in (OBJECT, LIST, NUMBERS)]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
    if kind == "missing":
        return f"no field {place!r}"
    if kind == _OWN:
        return f"{place} {first['msg']}"
    if kind == _MISSPELT or kind not in _EXPECTED:
        return f"{place}: {first['msg']}" if place else first["msg"]
    return f"{place} is {json.dumps(first['input'], ensure_ascii=False)[:40]}: expected {_EXPECTED[kind]}"


def _unread(value: Fields | list[Any], prefix: str = "") -> Iterator[str]:
    if isinstance(value, Fields):
        extra = (value.model_extra or {}).items()
        yield from (prefix + name for name, held in extra if name not in value.of_no_concern and held not in ([], {}))
        for name, inner in value.__dict__.items():
            if isinstance(inner, Fields | list):
                yield from _unread(inner, f"{prefix}{name}.")
    elif value and not isinstance(value[0], str):  # not a list of words
        for element in value:
            if isinstance(element, Fields | list):
                yield from _unread(element, prefix)
