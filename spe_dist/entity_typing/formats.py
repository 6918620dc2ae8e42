"""Files of typed mentions: FIGER as ERNIE has it, and UFET (Ultra-Fine Entity Typing; Open Entity is a part of it).

FIGER  JSON list of {sent, start, end (characters, half-open), labels: [type, …]}
UFET   JSON lines of {annot_id, left_context_token: [word, …], mention_span, right_context_token, y_str: [type, …]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from data_shards.annotated.json_objects import Item, read_items, texts_of
from data_shards.errors import UserError
from data_shards.text.offset_units import OffsetUnit, TextOffsets
from data_shards.text.word_rules import WordRules
from spe_dist.entity_typing.typed_mention import TypedMention

_HELP = "FIGER's sent, start, end, labels and UFET's ..._context_token, mention_span, y_str are read"


def read_mentions(
    path: Path, *, language: str, labelled: bool = True, offsets: OffsetUnit = "characters"
) -> Iterator[TypedMention]:
    """The mentions of a file, one at a time.

    Args:
        path: the file; `-` is standard input.
        language: whose rules cut raw text into words (a spaCy language code).
        labelled: whether every mention must have a list of types; it may be empty.
        offsets: what FIGER's start and end count.

    Raises:
        UserError: it cannot be read, or something in it cannot be right; names line or item.
    """
    rules = WordRules(language)
    for number, item in enumerate(read_items(path, _HELP)):
        if "sent" in item.value:
            name, (left, mention, right), field = str(number), _of_characters(item, rules, offsets), "labels"
        elif "mention_span" in item.value:
            left, right = (texts_of(item, f"{side}_context_token", _HELP) for side in ("left", "right"))
            text = item.value["mention_span"]
            if not isinstance(text, str) or not text.strip():
                raise UserError(f"{item.where}: mention_span is {json.dumps(text)[:40]}: expected the mention's text")
            name, field = str(item.value.get("annot_id", number)), "y_str"
            mention = _words(text, rules)
        else:
            raise UserError(f"{item.where}: neither 'sent' nor 'mention_span' is there: {_HELP}")
        types = texts_of(item, field, _HELP) if labelled or field in item.value else ()
        yield TypedMention(name, left, mention, right, tuple(dict.fromkeys(types)))


def parse_tagged(text: str, language: str) -> TypedMention:
    """A sentence with one <e1>…</e1>.

    Raises:
        UserError: it has none, or several.
    """
    parts = text.replace("</e1>", "<e1>").split("<e1>")
    if len(parts) != 3 or text.find("<e1>") > text.find("</e1>") or not parts[1].strip():
        raise UserError("--text needs one <e1>…</e1> with a word in it around the mention")
    left, mention, right = (_words(part, WordRules(language)) for part in parts)
    return TypedMention("1", left, mention, right)


def _of_characters(item: Item, rules: WordRules, offsets: OffsetUnit) -> tuple[tuple[str, ...], ...]:
    text, start, end = (item.value.get(name) for name in ("sent", "start", "end"))
    if not isinstance(text, str) or type(start) is not int or type(end) is not int:
        raise UserError(f"{item.where}: sent, start and end must be a text and two whole numbers: {_HELP}")
    try:
        start, end = TextOffsets(text, offsets).span(start, end)
        if not text[start:end].strip():
            raise ValueError("is a blank")
    except ValueError as error:
        raise UserError(f"{item.where}: the mention {error}: fix it, or name the unit (--offsets)") from error
    return tuple(_words(part, rules) for part in (text[:start], text[start:end], text[end:]))


def _words(text: str, rules: WordRules) -> tuple[str, ...]:
    return tuple(text[start:end] for start, end in rules.locate_words(text))
