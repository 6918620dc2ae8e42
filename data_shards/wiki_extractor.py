"""What WikiExtractor writes: `<doc id=… title=…>`, the title again, text and `</doc>`; or a JSON object on each line.

In both forms the text is escaped for HTML (`AT&amp;T`).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from data_shards.json_lines import parse_object, text_of_object

_START, _END = "<doc ", "</doc>"


def cut_documents(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Put the lines of each document together; a line outside of all documents stays alone.

    A document without an end goes up to the next one's start, so cutting a run of whole documents again cuts it alike.
    """
    block: list[bytes] = []
    for line in lines:
        starts = line.startswith(_START.encode())
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

    Raises:
        ValueError: it is no whole document.
    """
    if document.startswith("{"):
        fields = parse_object(document)
        return html.unescape(_without_title(text_of_object(fields, text_field), str(fields.get("title"))))
    header, _, body = document.rstrip().partition("\n")
    if not header.startswith(_START):
        raise ValueError(f"neither {_START}…>, text and {_END} nor a JSON object")
    if not header.rstrip().endswith(">"):
        raise ValueError(f"{_START}… without >")
    if not body.endswith(_END):
        raise ValueError(f"{_START}…> without {_END}")
    first_line = body.lstrip().partition("\n")[0].strip()
    title = first_line if f'title="{first_line}"' in header else ""  # a title may hold any character, quotes too
    return html.unescape(_without_title(body.removesuffix(_END), title))


def _without_title(text: str, title: str) -> str:
    first_line, _, rest = text.lstrip().partition("\n")
    return rest if first_line.strip() == title.strip() else text
