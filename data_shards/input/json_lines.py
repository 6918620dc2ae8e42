"""JSON lines: an object, and the text in one of its fields."""

from __future__ import annotations

import json
from typing import Any


def parse_object(line: str) -> dict[str, Any]:
    """The object of a line.

    Raises:
        ValueError: it is none.
    """
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ValueError(f"not a JSON object but {type(document).__name__}")
    return document


def text_of_object(document: dict[str, Any], field: str) -> str:
    """The text of an object.

    Raises:
        ValueError: it has none in that field.
    """
    if field not in document:
        raise ValueError(f"no field {field!r}")
    text = document[field]
    if not isinstance(text, str):
        raise ValueError(f"field {field!r} is {type(text).__name__}, not a string")
    text.encode()  # half a surrogate pair can be written in JSON, but is not text
    return text
