"""Which format a file is in, told by the fields of its first item."""

from __future__ import annotations

from typing import get_args

from data_shards.annotated.json_objects import Item
from data_shards.annotated.other_programs import refuse_other_program
from data_shards.annotated.schema import nearest_name
from data_shards.annotated.ways_of_writing import is_prodigy
from data_shards.errors import NotAnnotatedError, UserError
from data_shards.input.format import ANNOTATED_FIELDS, AnnotatedFormat, annotated_format, name_fields

FormatName = AnnotatedFormat


def find_format(item: Item) -> FormatName | None:
    """The format of an item, None if its fields are those of no format. SpERT's is found as `unified`.

    Raises:
        UserError: it is another program's, or a field is misspelt.
    """
    found = annotated_format(item.value)
    if found is not None:
        return found
    refuse_other_program(item)
    if is_prodigy(item.value):  # a text in which nothing was marked
        return "characters"
    _refuse_misspelt(item)
    return None


def detect(item: Item) -> FormatName:
    """The format of an item; a NotAnnotatedError if its fields are those of none."""
    found = find_format(item)
    if found is not None:
        return found
    known = "; ".join(f"{name} has {' and '.join(sorted(fields))}" for name, fields in ANNOTATED_FIELDS)
    raise NotAnnotatedError(
        f"{item.where}: no known format, its fields are: {name_fields(item.value)}; {known}. Convert the file; spe "
        f"data convert --format names the format it is in ({', '.join(get_args(FormatName))})"
    )


def _refuse_misspelt(item: Item) -> None:
    """Raise a UserError if the item would be of a format but for the spelling of a field."""
    for _, fields in ANNOTATED_FIELDS:
        meant = {field: nearest_name(field, item.value) for field in fields - item.value.keys()}
        if all(meant.values()):
            pairs = "; ".join(f"unknown field {meant[field]!r}, did you mean {field!r}?" for field in sorted(meant))
            raise UserError(f"{item.where}: {pairs}")
