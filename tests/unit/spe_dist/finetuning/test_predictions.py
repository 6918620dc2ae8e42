import json

import pytest
from hypothesis import given, settings

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.errors import UserError
from spe_dist.extraction.scores.joint_scoring import JointScoring, write_rules
from spe_dist.extraction.scores.type_rules import TypeRules
from spe_dist.finetuning.predictions import read_items, read_run, write_gold, write_predictions
from tests.unit.spe_dist.extraction.random_sentences import any_entities, corpora

pytestmark = pytest.mark.any_version

SCORING = JointScoring()
SENTENCE = AnnotatedSentence(("Zoë", "in", "\u2028"), (Entity(0, 1, "a"), Entity(2, 3, "b")), (Relation(0, 1, "r"),))


@settings(max_examples=50, deadline=None)
@given(corpora(any_entities))
def test_what_is_written_is_read(tmp_path_factory, corpus):
    run = tmp_path_factory.mktemp("run")
    gold, predicted = corpus
    write_gold(SCORING, run, gold)
    write_predictions(SCORING, run, 10, predicted)
    write_predictions(SCORING, run, 9, gold)
    read = read_run(SCORING, run)
    for mine, theirs in ((read.gold, gold), (read.by_seed[9], gold), (read.by_seed[10], predicted)):
        assert [(one.words, one.entities, one.relations) for one in mine] == [
            (one.words, one.entities, one.relations) for one in theirs
        ]
    assert list(read.by_seed) == [9, 10] and read.name == run.name


def test_the_format_is_the_unified_one(tmp_path):
    write_gold(SCORING, tmp_path, [SENTENCE])
    assert json.loads((tmp_path / "predictions" / "gold.jsonl").read_text()) == {
        "tokens": ["Zoë", "in", "\u2028"],
        "entities": [{"type": "a", "start": 0, "end": 1}, {"type": "b", "start": 2, "end": 3}],
        "relations": [{"type": "r", "head": 0, "tail": 1}],
    }
    assert read_items(SCORING, tmp_path / "predictions" / "gold.jsonl") == [SENTENCE]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "line 2: Expecting"),
        (b"[]", "line 2: not a JSON object but list"),
        (b"\xff", "line 2: 'utf-8' codec"),
        (b'{"tokens": ["a"], "entities": []}', "line 2: no field 'relations'"),
        (b'{"tokens": [1], "entities": [], "relations": []}', "line 2: 1 is not a string"),
        (b'{"tokens": ["a"], "entities": [{"type": "x", "start": 0, "end": 2}], "relations": []}', "from 0 to 2 in 1"),
        (b'{"tokens": ["a"], "entities": [{"type": "x", "start": 0, "end": 0}], "relations": []}', "from 0 to 0 in 1"),
        (b'{"tokens": ["a"], "entities": [{"type": "x", "start": true, "end": 1}], "relations": []}', "not a whole"),
        (b'{"tokens": ["a"], "entities": [], "relations": [{"type": "r", "head": 0, "tail": 0}]}', "there are 0"),
        (b'{"tokens": ["a"], "entities": [5], "relations": []}', "line 2: "),
    ],
)
def test_damaged_lines_are_named(tmp_path, line, complaint):
    path = tmp_path / "seed-1.jsonl"
    path.write_bytes(b'{"tokens": ["a"], "entities": [], "relations": []}\n' + line + b"\n")
    with pytest.raises(UserError, match=complaint) as caught:
        read_items(SCORING, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_without_predictions_is_refused(tmp_path):
    with pytest.raises(UserError, match="no predictions in"):
        read_run(SCORING, tmp_path)
    write_gold(SCORING, tmp_path, [SENTENCE])
    with pytest.raises(UserError, match="no predictions in"):
        read_run(SCORING, tmp_path)


def test_rules_of_a_seed_are_kept_beside_its_predictions(tmp_path):
    write_gold(SCORING, tmp_path, [SENTENCE])
    for seed in (1, 2):
        write_predictions(SCORING, tmp_path, seed, [SENTENCE])
    rules = TypeRules((("a", "r", "b"),), (("a", "r", "b"), ("b", "ü", "a")))
    write_rules(tmp_path, 2, rules)
    assert read_run(SCORING, tmp_path).training_facts == {2: rules} and list(read_run(SCORING, tmp_path).by_seed) == [
        1,
        2,
    ]
    for damaged in ("[]", '{"majority": []}', '{"majority": [["a", "r"]], "best": []}', "{"):
        (tmp_path / "predictions" / "rules-2.json").write_text(damaged)
        with pytest.raises(UserError, match=r"rules-2\.json: .*remove it, or fine-tune again"):
            read_run(SCORING, tmp_path)
