"""What WikiExtractor writes: `<doc id=… title=…>`, the title again, text and `</doc>`; or a JSON object on each line.

In both forms the text is escaped for HTML (`AT&amp;T`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

from data_shards.input.json_lines import parse_object, text_of_object

_START, _END = "<doc ", "</doc>"
_FIELDS = {"id", "url", "title", "text"}
_MORE_FIELDS = {"revid", "language"}
_URL = "?curid="  # which other sets of Wikipedia's texts do not have in their addresses
_ATTRIBUTE = re.compile(r'\b(id|url|title)="([^"]*)"')


def is_document_line(line: bytes) -> bool:
    """Whether a document in the form of text begins with this line."""
    return line.startswith(_START.encode())


def is_document_object(fields: dict[str, Any]) -> bool:
    """Whether an object is a document in the form of JSON: its text is then escaped."""
    return _FIELDS <= fields.keys() <= _FIELDS | _MORE_FIELDS and _URL in str(fields["url"])


def cut_documents(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Put the lines of each document together; a line outside of all documents stays alone.

    A document without an end goes up to the next one's start, so cutting a run of whole documents again cuts it alike.
    """
    block: list[bytes] = []
    for line in lines:
        starts = is_document_line(line)
        if block and starts:
            yield b"".join(block)
            block = []
        if block or starts:
            block.append(line)
        if not block:
            yield line
        elif line.strip() == _END.encode():
            yield b"".join(block)
            block = []
    if block:
        yield b"".join(block)


def text_of_document(document: str, text_field: str) -> str:
    """The text of a document as a reader of Wikipedia sees it, without the title that may stand above it.

    Args:
        document: one of `cut_documents`.
        text_field: field of a JSON object that holds the text.
    """
    return str(fields_of_document(document, text_field)[text_field])


def fields_of_document(document: str, text_field: str) -> dict[str, Any]:
    """The text as `text_of_document` gives it, and what else is known: id, address and title."""
    if document.startswith("{"):
        fields = parse_object(document)
        text = _without_title(text_of_object(fields, text_field), str(fields.get("title")))
        return fields | {text_field: html.unescape(text)}
    header, _, body = document.rstrip().partition("\n")
    if not header.startswith(_START):
        raise ValueError(f"neither {_START}…>, text and {_END} nor a JSON object")
    if not header.rstrip().endswith(">"):
        raise ValueError(f"{_START}… without >")
    if not body.endswith(_END):
        raise ValueError(f"{_START}…> without {_END}")
    fields = dict(_ATTRIBUTE.findall(header))
    first_line = body.lstrip().partition("\n")[0].strip()
    title = first_line if f'title="{first_line}"' in header else ""  # a title may hold any character, quotes too
    named = {"title": title} if title else {}
    return fields | named | {text_field: html.unescape(_without_title(body.removesuffix(_END), title))}


def _without_title(text: str, title: str) -> str:
    first_line, _, rest = text.lstrip().partition("\n")
    return rest if first_line.strip() == title.strip() else text
