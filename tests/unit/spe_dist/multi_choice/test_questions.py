"""Files of questions, where candidates occur, the nearest mention, and questions made of documents; slow oracles."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from launcher.cli import dispatch
from spe_dist.multi_choice.occurrences import find_phrases, locate_candidates, nearest_mention
from spe_dist.multi_choice.question import MASK, Question, read_questions

ASKED = {"id": "WH_1", "query": "country paris", "answer": "france", "candidates": ["france", "poland", "france"],
         "supports": ["Paris is in  France.", "(___MASK7___)-born"]}  # fmt: skip


def written(path: Path, *questions: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(question) + "\n" for question in questions))
    return path


def test_wikihops_format(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps([ASKED, ASKED | {"id": None}]))
    one, _ = read_questions(tmp_path / "d.json")
    supports = ("Paris is in France.", "( ___MASK7___ )-born")
    assert one == Question("WH_1", "country paris", ("france", "poland"), supports, "france")
    assert (one.relation, one.subject) == ("country", "paris")
    del ASKED["answer"]
    assert next(read_questions(written(tmp_path / "e.json", ASKED), labelled=False)).answer is None
    ASKED["answer"] = "france"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"query": None}, "no field 'query': WikiHop's query"),
        ({"answer": None}, "no field 'answer'"),
        ({"answer": "spain"}, 'the answer "spain" is not among the candidates'),
        ({"candidates": []}, "candidates is empty"),
        ({"candidates": "france"}, "candidates is not a list of texts"),
        ({"supports": None}, "no field 'supports'"),
        ({"supports": ["___MASK_100___"]}, "masks are ___MASK_0___ to ___MASK_99___"),
        ({"query": 7}, "query is 7: expected a text"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        list(read_questions(written(tmp_path / "d.json", ASKED | change)))
    assert f"d.json:1: {told}" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("candidate", "text", "found"),
    [
        ("new york", "In New\nYork, NEW YORK's", ["NEW YORK"]),  # not across two supports
        ("beyonce", "Beyoncé, beyonce\u0301 and Beyonces", ["Beyoncé", "beyonce\u0301"]),
        ("u.s.", "U.S.-based (u.s. ) u s", ["U.S.", "u.s."]),
        ("___MASK_7___", "the ___MASK_7___ of ___MASK_77___", ["___MASK_7___"]),
        ("北京", "北京市 在北京", ["北京", "北京"]),
        ("a a", "a a a a a", ["a a", "a a"]),
        ("", "a", []),
    ],
)
def test_candidates_occur_as_whole_words(candidate: str, text: str, found: list[str]) -> None:
    question = Question("", "", ("x", candidate), tuple(text.split("\n")))
    spans = [(start, end) for number, start, end in locate_candidates(question) if number == 1]
    assert [question.text[start:end].rstrip("\u0301") for start, end in spans] == [
        one.rstrip("\u0301") for one in found
    ]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_phrases_and_the_nearest_mention_equal_slow_ones(data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from("abcd"), max_size=14))
    phrases = data.draw(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3), min_size=2, max_size=5))
    subject, *others = [" ".join(phrase) for phrase in phrases]
    every: dict[str, list[tuple[int, int]]] = {}
    for phrase in (subject, *others):
        places, free = [], 0
        for start in range(len(words)):
            end = start + len(phrase.split())
            if start >= free and " ".join(words[start:end]) == phrase:
                places.append((start, end))
                free = end
        every[phrase] = places
    found = find_phrases(words, phrases)
    for number, phrase in enumerate(phrases):
        assert [(one.start, one.end) for one in found if one.phrase == number] == every[" ".join(phrase)]
    candidates = tuple(dict.fromkeys(others))
    ranked = []
    for number, candidate in enumerate(candidates):
        for start, end in every[candidate]:
            between = [start if (a, b) == (0, 0) else sum(min(end, b) <= place < max(start, a) for place in range(20))
                       for a, b in every[subject] or [(0, 0)]]  # fmt: skip
            shares_words = any(a < end and start < b for a, b in every[subject])
            if not shares_words:
                ranked.append((min(between), start, number))
    expected = candidates[min(ranked)[2]] if ranked else candidates[0]
    assert nearest_mention(Question("", f"r {subject}", candidates, (" ".join(words),))) == expected


def entity(type: str, *mentions: tuple[int, int, int]) -> list[dict[str, Any]]:
    return [{"name": "?", "sent_id": sentence, "pos": [start, end], "type": type} for sentence, start, end in mentions]


DOCUMENT = {
    "title": "T",
    "sents": [["Ann", "Lee", "and", "Bob", "met", "Ann", "Poe", "."], ["Bob", "of", "Rome", "saw", "Eve", "."]],
    "vertexSet": [
        entity("PER", (0, 0, 2)),
        entity("PER", (0, 3, 4), (1, 0, 1)),
        entity("PER", (0, 5, 7)),
        entity("LOC", (1, 2, 3)),
        entity("PER", (1, 4, 5), (1, 0, 3)),  # longer than Bob and Rome within it
    ],
    "labels": [
        {"h": 0, "t": 1, "r": "P1", "evidence": []},
        {"h": 0, "t": 1, "r": "P2", "evidence": []},
        {"h": 0, "t": 2, "r": "P2", "evidence": []},  # two tails
        {"h": 0, "t": 3, "r": "P1", "evidence": []},  # P1 has two tails of two types
        {"h": 1, "t": 3, "r": "P1", "evidence": []},  # no other candidate
        {"h": 3, "t": 2, "r": "P1", "evidence": []},
        {"h": 2, "t": 0, "r": "P3", "evidence": []},
    ],
}


def test_questions_of_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rel_info.json").write_text(json.dumps({"P1": "knows of", "P3": "child"}))
    source = tmp_path / "docred.json"
    source.write_text(json.dumps([DOCUMENT, DOCUMENT | {"labels": []}]))

    def made(*options: str) -> list[dict[str, Any]]:
        dispatch(["data", "wikihop-from-docred", str(source), "--out", str(tmp_path / "out.json"), *options])
        return json.loads((tmp_path / "out.json").read_text())

    plain = made()
    told = capsys.readouterr().out
    assert "2 heads and relations with several tails, 1 without another candidate, 0 with more" in told
    assert "2 questions; 29.2% are right by chance, " in told
    assert [(one["query"], one["answer"], one["candidates"]) for one in plain] == [
        ("knows_of Rome", "Ann Poe", ["Ann Lee", "Ann Poe", "Bob", "Eve"]),
        ("child Ann Poe", "Ann Lee", ["Ann Lee", "Bob", "Eve"]),  # without the head
    ]
    assert all(one["supports"] == ["Ann Lee and Bob met Ann Poe .", "Bob of Rome saw Eve ."] for one in plain)
    assert {one["document"] for one in plain} == {"0: T"}

    masked = made("--masked", "--seed", "3")
    assert masked == made("--masked", "--seed", "3") != made("--masked", "--seed", "4")
    assert [one["id"] for one in masked] == [one["id"] for one in plain]
    for one, names in zip(masked, (["Ann Lee", "Bob", "Ann Poe", "Eve"], ["Ann Lee", "Bob", "Eve"]), strict=True):
        said = MASK.sub("*", "\n".join(one["supports"]))
        assert said == f"* and * met {'*' if len(names) == 4 else 'Ann Poe'} .\n* saw * ."
        masks = [mask.group() for mask in MASK.finditer("\n".join(one["supports"]))]
        called = dict(zip([*names, "Eve"], masks, strict=True))
        assert len(set(masks)) == len(names) and masks[-1] == masks[-2]
        assert one["candidates"] == sorted(called.values())
        assert one["answer"] == called["Ann Poe" if one is masked[0] else "Ann Lee"]
    assert [one["query"] for one in masked] == [one["query"] for one in plain]

    with pytest.raises(UserError, match="is the input file"):
        dispatch(["data", "wikihop-from-docred", str(source), "--out", str(source)])
