"""What `spe predict` makes of texts: each with what else is known of it, and as a line of JSON."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from launcher.predict_input import Item

if TYPE_CHECKING:
    from spe_dist.extraction.predict.extracted_text import ExtractedText
    from spe_dist.extraction.predict.extractor import Extractor

_OTHER_ANNOTATION = frozenset({
    "vertexSet", "ner", "entityMentions", "tokens", "triples", "annotations", "completions", "triple_list",
    "relation_list", "entity_list",
})  # fmt: skip
"""Fields by which formats other than `characters` are recognised (`ANNOTATED_FIELDS`), and entities beside triples."""

Result = tuple[dict[str, Any], "ExtractedText"]


def streamed(
    extractor: Extractor, items: Iterator[Item], told: Callable[[int], object] | None = None
) -> Iterator[Result]:
    """The fields of each item and what is found in its text, in order and in flat memory; `told`: of sentences."""
    waiting: deque[dict[str, Any]] = deque()

    def texts() -> Iterator[str | list[str]]:
        for item in items:
            waiting.append(item.fields)
            yield item.text

    for extracted in extractor.stream(texts(), told=told):
        yield waiting.popleft(), extracted


def json_line(fields: dict[str, Any], extracted: ExtractedText) -> str:
    """A line of JSON: the fields of the item, of which entities and relations are replaced by those found.

    Beside a raw text, fields with other annotation are left out: they would be read in place of what is found.
    """
    found = extracted.as_json()
    if not fields:
        return as_json(found) + "\n"
    if extracted.tokens is None:
        text = extracted.text
        fields = {name: value for name, value in fields.items() if name not in _OTHER_ANNOTATION or value == text}
    return as_json(fields | {"entities": found["entities"], "relations": found["relations"]}) + "\n"


def as_json(value: dict[str, Any]) -> str:
    """JSON of any texts, that UTF-8 can hold."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can write it, UTF-8 cannot
        return json.dumps(value)
    return text
