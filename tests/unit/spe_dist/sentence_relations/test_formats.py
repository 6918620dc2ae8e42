import json

import pytest

from data_shards.errors import UserError
from spe_dist.sentence_relations.formats import parse_tagged, read_sentences
from spe_dist.sentence_relations.marked_sentence import MarkedSentence

SEMEVAL = (
    '1\t"The <e1>audits</e1> were about <e2>waste bins</e2>."\r\nMessage-Topic(e1,e2)\r\nComment: x\r\n\r\n'
    '2\t"<e2>Tea</e2> is in an un<e1>wash</e1>ed cup."\r\nOther\r\nComment:\r\n'
)
TACRED = {"id": "t1", "token": ["Ann", "Lee", ",", "37", "."], "subj_start": 0, "subj_end": 1, "obj_start": 3,
          "obj_end": 3, "subj_type": "PERSON", "obj_type": "NUMBER", "relation": "per:age", "docid": "d"}  # fmt: skip
CP = {"token": ["Ann", "runs", "Acme"], "h": {"name": "ann", "pos": [0, 1]}, "t": {"pos": [2, 3]}, "relation": "NA"}


def read(folder, text, **labelled):
    (folder / "data.txt").write_text(text, newline="")
    return list(read_sentences(folder / "data.txt", language="en", **labelled))


def test_semeval(tmp_path):
    sentences = read(tmp_path, SEMEVAL)
    assert sentences[0] == MarkedSentence(
        "1", ("The", "audits", "were", "about", "waste", "bins", "."), (1, 2), (4, 6), "Message-Topic(e1,e2)"
    )
    assert sentences[1].words[4:7] == ("un", "wash", "ed") and sentences[1].head == (5, 6)
    assert sentences[1].tail == (0, 1) and sentences[1].relation == "Other"
    without = "\n".join(line for line in SEMEVAL.split("\r\n") if line[:1].isdigit())
    assert [one.relation for one in read(tmp_path, without, labelled=False)] == [None, None]


def test_tacred_and_cp(tmp_path):
    (one,) = read(tmp_path, json.dumps([TACRED]))
    assert one == MarkedSentence("t1", tuple(TACRED["token"]), (0, 2), (3, 4), "per:age")
    sentences = read(tmp_path, "\n".join(map(json.dumps, [CP, CP | {"relation": "owns", "id": 7}])))
    assert [(s.id, s.head, s.tail, s.relation) for s in sentences] == [
        ("0", (0, 1), (2, 3), "NA"),
        ("7", (0, 1), (2, 3), "owns"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"data.txt is empty"),
        ("hello\n", r"data.txt begins with 'hello': SemEval-2010 task 8, TACRED's JSON"),
        ('1\t"no <e1>tags</e1>."\nOther\n', r"data.txt:1: sentence 1 needs one <e2>…</e2> with a word in it"),
        ('1\t"<e1></e1> <e2>b</e2>"\nOther\n', r"data.txt:1: sentence 1 needs one <e1>…</e1>"),
        ('1\t"</e1>a<e1> <e2>b</e2>"\nOther\n', r"data.txt:1: sentence 1 needs one <e1>"),
        ('1\t"<e1>a</e1> <e2>b</e2>"\n', r"data.txt:1: sentence 1 has no relation below it: name the file with"),
        ('1\t"<e1>a</e1> <e2>b</e2>"\nX\nY\n', r"data.txt:3: 'Y' is no sentence of SemEval-2010 task 8"),
        (json.dumps({"text": "x"}), r"data.txt:1: no field 'token'"),
        (json.dumps({"token": "x"}), r"data.txt:1: token is not a list of words"),
        (json.dumps(TACRED | {"obj_end": 5}), r"data.txt:1: obj names words 3 to 5 of 5"),
        (json.dumps(TACRED | {"subj_end": "1"}), r"data.txt:1: subj_end is \"1\": expected the number of a word"),
        (json.dumps({k: v for k, v in TACRED.items() if k != "relation"}), r"data.txt:1: no field 'relation'"),
        (json.dumps(CP | {"t": {}}), r"data.txt:1: no field 't.pos'"),
        (json.dumps(CP | {"t": {"pos": [2, 2]}}), r"data.txt:1: t.pos names words 2 to 1 of 3"),
    ],
)
def test_mistakes_are_one_line(tmp_path, text, told):
    with pytest.raises(UserError, match=told) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_relations_are_held_against_the_numbers_beside(tmp_path):
    (tmp_path / "rel2id.json").write_text('{"NA": 0, "runs": 1}')
    with pytest.raises(UserError, match=r"relation 'owns' is not in rel2id.json"):
        read(tmp_path, json.dumps(CP | {"relation": "owns"}))
    (tmp_path / "rel2id.json").write_text("[]")
    with pytest.raises(UserError, match=r"rel2id.json: not an object"):
        read(tmp_path, json.dumps(CP))


def test_text_of_a_command():
    assert parse_tagged("<e1>A</e1> b <e2>c</e2>", "en")[1:4] == (("A", "b", "c"), (0, 1), (2, 3))
    with pytest.raises(UserError, match="--text: sentence 1 needs one <e1>"):
        parse_tagged("a b", "en")
