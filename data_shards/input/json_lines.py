"""JSON lines: an object, the text in one of its fields, and what is wrong with a line that is none."""

from __future__ import annotations

import json
from typing import Any


def parse_object(line: str) -> dict[str, Any]:
    """The object of a line; a ValueError if it is none."""
    document = json.loads(line.rstrip())  # without the newline, or an error at the end would be one of the next line
    if not isinstance(document, dict):
        raise ValueError(f"not a JSON object but {type(document).__name__}")
    return document


def text_of_object(document: dict[str, Any], field: str) -> str:
    """The text of an object; a ValueError if it has none in that field."""
    if field not in document:
        raise ValueError(f"no field {field!r}")
    text = document[field]
    if not isinstance(text, str):
        raise ValueError(f"field {field!r} is {type(text).__name__}, not a string")
    text.encode()  # half a surrogate pair can be written in JSON, but is not text
    return text


def reason_of(error: Exception) -> str:
    """Why a line is no document, for people."""
    if isinstance(error, UnicodeDecodeError):
        return f"invalid UTF-8 at byte {error.start + 1}"
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair"
    if isinstance(error, json.JSONDecodeError):
        return f"invalid JSON: {error.msg} at column {error.colno}"
    if isinstance(error, RecursionError):
        return "invalid JSON: nested too deeply"
    return str(error)
