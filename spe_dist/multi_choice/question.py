"""A question whose answer is one of given candidates, and the files that hold such questions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_shards.annotated.json_objects import Item, read_items, texts_of
from data_shards.errors import UserError

MASKS = 100
MASK = re.compile(r"___MASK_?(\d+)___")
"""What stands for a candidate in masked data; its number is below `MASKS`."""
_HELP = "WikiHop's query, candidates, supports and answer are read"


class Question(NamedTuple):
    """A question, gold or predicted.

    Args:
        id: its name.
        query: a relation, whose words are joined by "_", and behind a space the subject: `record_label get ready`.
        candidates: possible answers, each once.
        supports: the texts to read, of one line each; with a space on both sides of what stands for a candidate.
        answer: one of the candidates; None where nobody has said, and where no candidate was read.
        scores: probability of each candidate, None for those that were not read.
        nearest: the candidate that is mentioned nearest to the subject (see `nearest_mention`), in gold data.
        document: where the question is from, if several are from one: they are resampled together.
    """

    id: str
    query: str
    candidates: tuple[str, ...]
    supports: tuple[str, ...] = ()
    answer: str | None = None
    scores: tuple[float | None, ...] | None = None
    nearest: str | None = None
    document: str | None = None

    @property
    def text(self) -> str:
        """The supports, each in a line."""
        return "\n".join(self.supports)

    @property
    def relation(self) -> str:
        """What is asked for."""
        return self.query.partition(" ")[0]

    @property
    def subject(self) -> str:
        """The entity that the query asks about; a query of one word is its own subject."""
        return self.query.partition(" ")[2] or self.query


def read_questions(path: Path, *, labelled: bool = True) -> Iterator[Question]:
    """The questions of a file, one at a time: a JSON list, or JSON lines, of {id, query, candidates, supports, answer}.

    Args:
        path: the file; `-` is standard input.
        labelled: whether every question must have an answer.

    Raises:
        UserError: it cannot be read, or something in it cannot be right; names line or item.
    """
    for number, item in enumerate(read_items(path, _HELP)):
        query, answer = (_text(item, name) for name in ("query", "answer"))
        candidates, supports = (texts_of(item, name, _HELP) for name in ("candidates", "supports"))
        if query is None or (labelled and answer is None):
            raise UserError(f"{item.where}: no field {'query' if query is None else 'answer'!r}: {_HELP}")
        if not candidates:
            raise UserError(f"{item.where}: candidates is empty: a question needs one at least")
        if answer is not None and answer not in candidates:
            raise UserError(f"{item.where}: the answer {json.dumps(answer)[:60]} is not among the candidates: fix it")
        for text in (*candidates, *supports):
            if any(int(mask[1]) >= MASKS for mask in MASK.finditer(text)):
                raise UserError(f"{item.where}: masks are ___MASK_0___ to ___MASK_{MASKS - 1}___: number them again")
        yield Question(
            str(item.value.get("id", number)),
            query,
            tuple(dict.fromkeys(candidates)),
            tuple(" ".join(MASK.sub(r" \g<0> ", support).split()) for support in supports),
            answer,
            document=_text(item, "document"),
        )


def write_questions(questions: Sequence[Question]) -> bytes:
    """The same as a JSON list, a question a line."""
    lines = [
        json.dumps({name: value for name, value in question._asdict().items() if value is not None}, ensure_ascii=False)
        for question in questions
    ]
    return ("[" + ",\n".join(lines) + "]\n").encode()


def _text(item: Item, name: str) -> str | None:
    value: Any = item.value.get(name)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise UserError(f"{item.where}: {name} is {json.dumps(value)[:40]}: expected a text")
    return value
