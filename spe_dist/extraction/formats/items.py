"""Files of JSON or JSON lines, compressed or not → objects that know where they stand."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_shards.errors import UserError

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Item:
    """An object of a file.

    Args:
        where: file and line, or file and number of the item (counted from 1).
        value: its fields.
    """

    where: str
    value: dict[str, Any]


def read_items(path: Path) -> list[Item]:
    """The objects of a file: one per line, or the elements of one list, or one object.

    Raises:
        UserError: there is no such file, or it holds something else; names the line or item.
    """
    text = _read_text(path)
    if not text.strip():
        raise UserError(f"{path} is empty: there is nothing to read")
    if text.lstrip().startswith("["):
        values = _parse(text, str(path))
        return [_item(value, f"{path}: item {number}") for number, value in enumerate(values, start=1)]
    # Not splitlines(): it also cuts at characters that may stand inside a JSON string, such as U+2028.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not _is_json(lines[0][1]) and _is_json(text):
        return [_item(_parse(text, str(path)), f"{path}: item 1")]
    return [_item(_parse(line, f"{path}:{number}"), f"{path}:{number}") for number, line in lines]


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if data.startswith(_GZIP_MAGIC):
        data = _decompress(data, path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise UserError(f"{path}:{line}: not UTF-8 text: convert the file to UTF-8") from error


def _decompress(data: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}): copy or download it again") from error


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{where}: line {error.lineno}, column {error.colno}" if error.lineno > 1 else where
        raise UserError(f"{place}: not JSON ({error.msg.lower()} at character {error.colno}): mend it") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: JSON that cannot be read: {error}") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _item(value: Any, where: str) -> Item:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object with fields, found {json.dumps(value)[:40]}")
    return Item(where, value)
