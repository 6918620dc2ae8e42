"""Types of fields that formats share, and the one place where an object is held against what a format asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

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

OBJECT, LIST = "object", "list"  # two ways to write an entity or relation; see `form`


class Fields(BaseModel):
    """An object of a format. Fields that it does not name are kept, to be counted."""

    model_config = ConfigDict(extra="allow", frozen=True)


AnyFields = TypeVar("AnyFields", bound=Fields)


def form(value: Any) -> str:
    """Whether an entity or relation is written as a list or as an object."""
    return LIST if isinstance(value, list | tuple) else OBJECT


def parse(item: Item, fields: type[AnyFields], report: ReadReport) -> AnyFields:
    """The fields of an item; those that the format does not know are counted in the report.

    Raises:
        UserError: a field is missing or holds something else.
    """
    try:
        parsed = fields.model_validate(item.value)
    except ValidationError as error:
        raise UserError(f"{item.where}: {_explain(error)} (format {report.format}; --format names another)") from error
    report.unread_fields.update(_unread(parsed))
    return parsed


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    parts = [part for part in first["loc"] if part not in (OBJECT, LIST)]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
    if first["type"] == "missing":
        return f"no field {place!r}"
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}, not {str(first['input'])[:40]!r}"


def _unread(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, Fields):
        yield from (prefix + name for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from _unread(getattr(value, name), f"{prefix}{name}.")
    elif isinstance(value, list):
        for element in value:
            yield from _unread(element, prefix)
