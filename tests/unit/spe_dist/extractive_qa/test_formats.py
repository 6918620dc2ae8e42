"""Readers of SQuAD, MRQA and flat files, and what they refuse."""

import gzip
import json

import pytest

from data_shards.errors import UserError
from spe_dist.extractive_qa.formats import read_questions
from spe_dist.extractive_qa.question import Question

CONTEXT = "[TLE] Ann lives in Paris. Bob, too, lives in Paris."
ANSWERS = [{"text": "Paris", "answer_start": 45}, {"text": "in Paris", "answer_start": 16}]
SQUAD = {"version": "1.1", "data": [{"title": "t", "paragraphs": [
    {"context": CONTEXT, "qas": [{"id": "q1", "question": "Where?", "answers": ANSWERS}]}]}]}  # fmt: skip
DETECTED = [{"text": "Paris", "char_spans": [[45, 49], [19, 23]], "token_spans": [[9, 9]]}]
MRQA = {
    "context": CONTEXT,
    "qas": [
        {
            "qid": "m1",
            "id": 7,
            "question": "Where?",
            "answers": ["Paris", "Paris, France"],
            "detected_answers": DETECTED,
        }
    ],
}
FLAT = {"question": "Where?", "context": CONTEXT, "answers": {"text": ["Paris"], "answer_start": [19]}}


def test_all_formats(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(SQUAD, indent=1))
    expected = Question("q1", "Where?", CONTEXT, ("Paris", "in Paris"), ((45, 50), (16, 24)))
    assert list(read_questions(tmp_path / "s.json")) == [expected]
    (tmp_path / "m.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(line) + "\n" for line in ({"header": {"dataset": "x"}}, MRQA)).encode())
    )
    (found,) = read_questions(tmp_path / "m.jsonl.gz")
    assert found == Question("m1", "Where?", CONTEXT, ("Paris", "Paris, France"), ((45, 50),))
    assert CONTEXT[45:50] == "Paris"
    (tmp_path / "f.jsonl").write_text(json.dumps(FLAT) + "\n" + json.dumps(FLAT | {"id": 5}) + "\n")
    assert [(one.id, one.answers, one.spans) for one in read_questions(tmp_path / "f.jsonl")] == [
        ("0", ("Paris",), ((19, 24),)), ("5", ("Paris",), ((19, 24),))
    ]  # fmt: skip


@pytest.mark.parametrize(("unit", "widths"), [("utf16", (2, 1)), ("bytes", (4, 2))])
def test_offsets_count_what_is_said(tmp_path, unit, widths):
    context = "🎉 é Paris 🎉"
    start, length = widths[0] + 1 + widths[1] + 1, 6 + widths[0]
    answers = [{"text": "Paris 🎉", "answer_start": start}]
    one = {"text": "Paris 🎉", "char_spans": [[start, start + length - 1]]}
    asked = [{"qid": "m", "question": "?", "detected_answers": [one]}, {"id": "s", "question": "?", "answers": answers}]
    (tmp_path / "f.jsonl").write_text(json.dumps({"context": context, "qas": asked}) + "\n")
    found = list(read_questions(tmp_path / "f.jsonl", offsets=unit))
    assert [[context[slice(*span)] for span in question.spans] for question in found] == [["Paris 🎉"]] * 2
    with pytest.raises(UserError, match="--offsets"):
        list(read_questions(tmp_path / "f.jsonl"))


def test_answers_are_not_looked_at_where_they_are_not_needed(tmp_path):
    (tmp_path / "f.jsonl").write_text(json.dumps({"question": "q", "context": "c", "answers": 3}) + "\n")
    assert list(read_questions(tmp_path / "f.jsonl", answered=False)) == [Question("0", "q", "c")]


def of_answer(**fields):
    return {"data": [{"paragraphs": [{"context": CONTEXT, "qas": [{"id": "q1", "question": "?"} | fields]}]}]}


def detected(*pairs):
    one = {"text": "Paris", "char_spans": list(pairs)}
    return {"context": CONTEXT, "qas": [{"qid": "m1", "question": "?", "answers": ["x"], "detected_answers": [one]}]}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"text": "x"}, "f.jsonl:1: neither 'data' nor 'qas' nor 'question' is there: SQuAD 1.1"),
        ({"data": 1}, "f.jsonl:1: data is 1, expected a list of objects"),
        ({"data": [{"title": "t"}]}, "f.jsonl:1, article 1: no field 'paragraphs'"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "article 1, paragraph 1: no field 'context', expected a text"),
        ({"question": " ", "context": "c"}, "question '0': question is \" \", expected a text"),
        (of_answer(), "paragraph 1, question 'q1': no field 'answers'"),
        (of_answer(answers=[]), "question 'q1' has no answer in its context: questions without one (SQuAD 2.0)"),
        (of_answer(answers=[{"text": "Paris", "answer_start": "19"}]), "expected text and answer_start: fix it"),
        (of_answer(answers=[{"text": "Paris", "answer_start": 18}]),
         "the answer \"Paris\" does not begin at 18 of its context, where \" Pari\" is: fix answer_start"),
        (of_answer(answers=[{"text": "Paris", "answer_start": 99}]),
         "an answer is on characters 99 up to, not including, 104, but the text has 51: fix"),
        (FLAT | {"answers": {"text": ["Paris"], "answer_start": []}}, "expected a list of objects"),
        (detected([19, 51]), "'m1': an answer is on characters 19 up to, not including, 52, but the text has"),
        (detected([19]), "question 'm1': char_spans has [19], expected first and last character"),
        (detected(), "question 'm1' has no answer in its context"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(tmp_path, fields, told):
    (tmp_path / "f.jsonl").write_text(json.dumps(fields) + "\n")
    with pytest.raises(UserError) as error:
        list(read_questions(tmp_path / "f.jsonl"))
    assert told in str(error.value) and "\n" not in str(error.value)
