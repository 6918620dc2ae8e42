"""Which format a file is in, told by the fields of its first item."""

from __future__ import annotations

from typing import Literal, get_args

from data_shards.errors import UserError
from spe_dist.extraction.formats.items import Item
from spe_dist.extraction.formats.other_programs import refuse_other_program
from spe_dist.extraction.formats.schema import nearest_name
from spe_dist.extraction.formats.ways_of_writing import is_prodigy

FormatName = Literal["unified", "spert", "dygie", "spe", "docred", "characters"]

# In this order: files of the SPE program may hold `tokens` too, and files with `tokens` the `text` that they were.
_MARKS: tuple[tuple[FormatName, frozenset[str]], ...] = (
    ("docred", frozenset({"sents", "vertexSet"})),
    ("dygie", frozenset({"sentences", "ner"})),
    ("spe", frozenset({"entityMentions"})),
    ("unified", frozenset({"tokens", "entities"})),
    ("characters", frozenset({"text", "entities"})),
    ("characters", frozenset({"text", "spans"})),
    ("characters", frozenset({"text", "label"})),
)


def detect(item: Item) -> FormatName:
    """The format of an item. SpERT's is found as `unified`, which it is a part of.

    Raises:
        UserError: its fields are those of no format.
    """
    for name, fields in _MARKS:
        if fields <= item.value.keys():
            return name
    refuse_other_program(item)
    if is_prodigy(item.value):  # a text in which nothing was marked
        return "characters"
    _refuse_misspelt(item)
    known = "; ".join(f"{name} has {' and '.join(sorted(fields))}" for name, fields in _MARKS)
    found = ", ".join(list(item.value)[:8]) or "none"
    raise UserError(
        f"{item.where}: no known format, its fields are: {found}; {known}. Convert the file, or name its format with "
        f"--format ({', '.join(get_args(FormatName))})"
    )


def _refuse_misspelt(item: Item) -> None:
    """Raise a UserError if the item would be of a format but for the spelling of a field."""
    for _, fields in _MARKS:
        meant = {field: nearest_name(field, item.value) for field in fields - item.value.keys()}
        if all(meant.values()):
            pairs = "; ".join(f"unknown field {meant[field]!r}, did you mean {field!r}?" for field in sorted(meant))
            raise UserError(f"{item.where}: {pairs}")
