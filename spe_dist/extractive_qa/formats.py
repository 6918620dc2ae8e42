"""Files of questions with contexts, compressed or not.

SQuAD 1.1  {data: [{title, paragraphs: [{context, qas: [{id, question, answers: [{text, answer_start}]}]}]}]}
MRQA       JSON lines; the first may be {header: …}, the others {context, qas: [{qid, question, answers: [text, …],
           detected_answers: [{text, char_spans: [[start, end (inclusive)], …]}]}]}; the first place of each is learned
flat       JSON lines or list of {id, question, context, answers}; answers as SQuAD's, or {text: […], answer_start: […]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_shards.annotated.json_objects import read_items
from data_shards.errors import UserError
from data_shards.text.offset_units import OffsetUnit, TextOffsets, widths
from spe_dist.extractive_qa.question import Question

_HELP = "SQuAD 1.1 ('data'), MRQA ('context' and 'qas') and objects with 'question' and 'context' are read"
_Fields = dict[str, Any]
_Span = tuple[int, int]


def read_questions(path: Path, *, answered: bool = True, offsets: OffsetUnit = "characters") -> Iterator[Question]:
    """The questions of a file, one at a time; SQuAD's is one object, which is in memory.

    Args:
        path: the file; `-` is standard input.
        answered: whether every question must have an answer; if not, answers are not looked at.
        offsets: what the places of answers count.

    Raises:
        UserError: it cannot be read, or something in it cannot be right; names the question.
    """
    for fields, context, where in _questions(path):
        yield _question(fields, context, f"{where}, question {_id_of(fields)!r}", offsets if answered else None)


def _questions(path: Path) -> Iterator[tuple[_Fields, str, str]]:
    """Fields of each question, its context, and where it stands."""
    number = 0
    for item in read_items(path, _HELP):
        value, where = item.value, item.where
        if "data" in value:
            paragraphs: Iterator[tuple[_Fields, str]] = _paragraphs(value, where)
        elif "qas" in value or "question" in value:
            paragraphs = iter([(value, where)])
        elif "header" in value:
            continue
        else:
            raise UserError(f"{where}: neither 'data' nor 'qas' nor 'question' is there: {_HELP}")
        for paragraph, place in paragraphs:
            context = paragraph.get("context")
            if not isinstance(context, str):
                raise UserError(f"{place}: {_problem(paragraph, 'context')}, expected a text: {_HELP}")
            for fields in _objects(paragraph, "qas", place) if "qas" in paragraph else [paragraph]:
                yield {"id": str(number)} | fields, context, place
                number += 1


def _paragraphs(value: _Fields, where: str) -> Iterator[tuple[_Fields, str]]:
    for a, article in enumerate(_objects(value, "data", where), start=1):
        place = f"{where}, article {a}"
        for p, paragraph in enumerate(_objects(article, "paragraphs", place), start=1):
            yield paragraph, f"{place}, paragraph {p}"


def _question(fields: _Fields, context: str, where: str, offsets: OffsetUnit | None) -> Question:
    text = fields.get("question")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: {_problem(fields, 'question')}, expected a text: {_HELP}")
    answers, spans = ((), ()) if offsets is None else _answers(fields, context, where, offsets)
    return Question(_id_of(fields), text, context, answers, spans)


def _answers(fields: _Fields, context: str, where: str, unit: OffsetUnit) -> tuple[tuple[str, ...], tuple[_Span, ...]]:
    """Texts of the answers, and where they are."""
    offsets = TextOffsets(context, unit)
    if "detected_answers" in fields:
        detected = _objects(fields, "detected_answers", where)
        spans = tuple(_inclusive(pair, context, offsets, where) for one in detected for pair in _places(one)[:1])
        given = fields.get("answers") or [one.get("text") for one in detected]
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise UserError(f"{where}: {_problem(fields, 'answers')}, expected a list of texts: {_HELP}")
    else:
        given, spans = [], ()
        if "answers" in fields:
            fields = fields | {"answers": _as_objects(fields["answers"])}
        for one in _objects(fields, "answers", where):
            answer, start = one.get("text"), one.get("answer_start")
            if not isinstance(answer, str) or type(start) is not int:
                raise UserError(f"{where}: an answer is {_short(one)}, expected text and answer_start: fix it")
            span = _located(start, start + int(widths(answer, unit).sum()), context, offsets, where)
            if (there := context[slice(*span)]) != answer:
                raise UserError(
                    f"{where}: the answer {_short(answer)} does not begin at {start} of its context, where "
                    f"{_short(there)} is: fix answer_start"
                )
            given.append(answer)
            spans += (span,)
    if not given or not spans:
        raise UserError(f"{where} has no answer in its context: questions without one (SQuAD 2.0) must be removed")
    return tuple(given), spans


def _as_objects(answers: Any) -> Any:
    """Answers as a list of objects, where they may be an object of two lists."""
    if not isinstance(answers, dict):
        return answers
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        return answers
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]


def _places(detected: _Fields) -> list[Any]:
    value = detected.get("char_spans")
    return value if isinstance(value, list) else []


def _inclusive(pair: Any, context: str, offsets: TextOffsets, where: str) -> _Span:
    if not isinstance(pair, list) or [type(end) for end in pair] != [int, int]:
        raise UserError(f"{where}: char_spans has {_short(pair)}, expected first and last character: fix it")
    return _located(pair[0], pair[1] + 1, context, offsets, where)


def _located(start: int, end: int, context: str, offsets: TextOffsets, where: str) -> _Span:
    try:
        span = offsets.span(start, end)
        if not context[slice(*span)].strip():
            raise ValueError("is a blank")
    except ValueError as error:
        raise UserError(f"{where}: an answer {error}: fix or remove it, or name the unit (--offsets)") from error
    return span


def _objects(fields: _Fields, name: str, where: str) -> list[_Fields]:
    value = fields.get(name)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise UserError(f"{where}: {_problem(fields, name)}, expected a list of objects: {_HELP}")
    return value


def _id_of(fields: _Fields) -> str:
    return str(fields.get("qid", fields["id"]))


def _problem(fields: _Fields, name: str) -> str:
    return f"{name} is {_short(fields[name])}" if name in fields else f"no field {name!r}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
