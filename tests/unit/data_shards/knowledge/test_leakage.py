import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from data_shards.knowledge.leakage import ExcludedPairs, plain_name

pytestmark = pytest.mark.any_version

DOCRED = [
    {
        "title": "Ada",
        "sents": [["Ada", "Lovelace", "lived", "in", "London", "."], ["She", "saw", "Kent", "."]],
        "vertexSet": [
            [{"name": "Augusta Ada", "sent_id": 0, "pos": [0, 2], "type": "PER"},
             {"name": "She", "sent_id": 1, "pos": [0, 1], "type": "PER"}],
            [{"name": "LONDON", "sent_id": 0, "pos": [4, 5], "type": "LOC"}],
            [{"name": "Kent", "sent_id": 1, "pos": [2, 3], "type": "LOC"}],
        ],
        "labels": [{"h": 0, "t": 1, "r": "P551", "evidence": [0]}],
    }
]  # fmt: skip
UNIFIED = {
    "tokens": ["Ada", "met", "Eve", "in", "Kent"],
    "entities": [[0, 1, "P"], [2, 3, "P"], [4, 5, "L"]],
    "relations": [{"type": "met", "head": 0, "tail": 1}],
}  # fmt: skip
TACRED = {
    "id": "1", "relation": "no_relation", "token": ["Ada", "King", "left", "Kent"],
    "subj_start": 0, "subj_end": 1, "obj_start": 3, "obj_end": 3, "subj_type": "PERSON",
}  # fmt: skip
SEMEVAL = (
    '1\t"The <e1>child</e1> was in the <e2>big cradle</e2>."\r\nOther\r\nComment: <e1> is a child\r\n\r\n'
    '2\t"The <e2>author</e2> uses a <e1>pen</e1>."\r\nInstrument-Agency(e1,e2)\r\nComment:\r\n\r\n'
)


def pairs_of(excluded: ExcludedPairs) -> set[frozenset[str]]:
    names = list(excluded.numbers)
    return {frozenset((names[key >> 32], names[key & 0xFFFFFFFF])) for key in excluded.keys.tolist()}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("dev.json", json.dumps(DOCRED), [("adalovelace", "london"), ("augustaada", "london"), ("she", "london")]),
        ("dev.jsonl", json.dumps(UNIFIED) + "\n", [("ada", "eve")]),
        ("dev.json", json.dumps([TACRED]), [("adaking", "kent")]),
        ("dev.jsonl", json.dumps(TACRED) + "\n", [("adaking", "kent")]),
        ("TEST.TXT", SEMEVAL, [("child", "bigcradle"), ("author", "pen")]),
    ],
)
def test_the_pairs_of_each_format(tmp_path: Path, name: str, content: str, expected: list[tuple[str, str]]) -> None:
    (tmp_path / name).write_text(content)
    excluded = ExcludedPairs.read([tmp_path / name])
    assert pairs_of(excluded) == set(map(frozenset, expected))
    assert len(excluded) == len(expected)


def test_pairs_of_several_files_are_put_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(UNIFIED) + "\n")
    (tmp_path / "b.json").write_text(json.dumps([TACRED]))
    both = ExcludedPairs.read([tmp_path / "a.jsonl", tmp_path / "b.json"])
    assert pairs_of(both) == {frozenset(("ada", "eve")), frozenset(("adaking", "kent"))}
    assert ExcludedPairs.read([tmp_path / "b.json", tmp_path / "a.jsonl"]).fingerprint == both.fingerprint
    assert ExcludedPairs.read([tmp_path / "a.jsonl"]).fingerprint != both.fingerprint
    assert len(ExcludedPairs.read([])) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(UNIFIED | {"relations": []}), "has no fact to exclude"),
        (
            json.dumps(TACRED | {"subj_end": 4}),
            r"x.jsonl:1: subj_start 0 and subj_end 4 are not first and last of 4 words",
        ),
        (json.dumps(TACRED | {"token": "Ada"}), r"x.jsonl:1: 'token' is not a list of words"),
        ('1\t"The <e1>child</e1> and the <e2>."\n7\t"<e1>a</e1>"\n', r"x.jsonl:1: expected <e1>…</e1> and <e2>…</e2>"),
        ("Some text.\n", "x.jsonl:1: invalid JSON"),
        ("", "nothing to read"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        ExcludedPairs.read([path])


NAME = st.sampled_from(["Ada", "ada", "New York", "new  york", "Kent", "x", ""])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(NAME, NAME), max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), NAME), max_size=25),
)
def test_blocked_pairs_are_those_of_a_loop(
    excluded: list[tuple[str, str]], mentions: list[tuple[int, int, str]]
) -> None:
    mentions.sort(key=lambda mention: mention[0])
    known = {(plain_name(a), plain_name(b)) for pair in excluded for a, b in (pair, pair[::-1])}
    expected = sorted({
        (record, one, other)
        for record, one, name in mentions
        for other_record, other, other_name in mentions
        if record == other_record and one != other and (plain_name(name), plain_name(other_name)) in known
    })  # fmt: skip
    rows = np.array([mention[:2] for mention in mentions], dtype=np.int64).reshape(-1, 2)
    found = ExcludedPairs.of_pairs(excluded).blocked_pairs([name for *_, name in mentions], rows[:, 1], rows[:, 0])
    assert list(map(tuple, found.tolist())) == expected
    assert found.shape == (len(expected), 3)


@pytest.mark.skipif("SPE_DIST_REAL_DATA" not in os.environ, reason="SPE_DIST_REAL_DATA names no folder of real data")
@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("re_docred/dev_revised.json", 14_770),
        ("semeval2010_task8/SemEval2010_task8_training/TRAIN_FILE.TXT", 7_643),
        ("semeval2010_task8/SemEval2010_task8_testing/TEST_FILE.txt", 2_671),
        ("conll04/test.CoNLL04.json", 384),
    ],
)
def test_real_files(name: str, pairs: int) -> None:
    found = len(ExcludedPairs.read([Path(os.environ["SPE_DIST_REAL_DATA"]) / name]))
    assert found == pairs
