"""`spe compare` on runs whose differences are known."""

import json
import random
import re
from dataclasses import replace

import pytest
import yaml

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.errors import UserError
from launcher.cli import dispatch
from spe_dist.extraction.scores.joint_scoring import JointScoring
from spe_dist.finetuning.predictions import write_gold, write_predictions

pytestmark = pytest.mark.any_version

SCORING = JointScoring()
ANNA, ROME = Entity(0, 1, "person"), Entity(2, 3, "place")
GOLD = [
    AnnotatedSentence(("Anna", "in", "Rome", str(number)), (ANNA, ROME), (Relation(0, 1, "in"),))
    for number in range(60)
]


def write_run(folder, *, chance, seeds=(1, 2, 3), gold=GOLD):
    """Each seed finds the relation with a chance, and always both entities."""
    write_gold(SCORING, folder, gold)
    for seed in seeds:
        draw = random.Random(f"{folder.name} {seed}")
        predicted = [one if draw.random() < chance else AnnotatedSentence(one.words, one.entities) for one in gold]
        write_predictions(SCORING, folder, seed, predicted)
    return folder


def compare(*arguments):
    dispatch(["compare", *map(str, arguments), "--resamples", "2000"])


def f1_from_lines(folder, seed):
    gold, predicted = (
        [len(json.loads(line)["relations"]) for line in (folder / "predictions" / name).read_text().splitlines()]
        for name in ("gold.jsonl", f"seed-{seed}.jsonl")
    )
    return 2 * sum(predicted) / (sum(predicted) + sum(gold))


def test_a_difference_is_found(tmp_path, capsys):
    weak, strong = write_run(tmp_path / "weak", chance=0.4), write_run(tmp_path / "strong", chance=0.8)
    compare(weak, strong, "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert printed.startswith((tmp_path / "out" / "scores.txt").read_text())
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    for more in ([], ["--out", tmp_path / "out"]):
        compare(weak, strong, "--json", *more)
        assert json.loads(capsys.readouterr().out) == written
    for run, folder in zip(written["runs"], (weak, strong), strict=True):
        f1 = [f1_from_lines(folder, seed) for seed in (1, 2, 3)]
        assert [run["seeds"][str(seed)]["relation_f1"]["micro"]["f1"] for seed in (1, 2, 3)] == pytest.approx(f1)
        estimate = run["micro_f1"]["relation_f1"]
        assert estimate["mean"] == pytest.approx(sum(f1) / 3) and estimate["low"] < estimate["mean"] < estimate["high"]
        assert run["micro_f1"]["entity_f1"]["mean"] == 1
    test = written["second_minus_first"]["relation_strict_f1"]
    means = [run["micro_f1"]["relation_strict_f1"]["mean"] for run in written["runs"]]
    assert test["difference"]["mean"] == pytest.approx(means[1] - means[0])
    assert test["p_value"] < 0.01 and test["difference"]["low"] > 0 and test["paired_seeds"]
    assert written["second_minus_first"]["entity_f1"]["p_value"] == 1
    shown = re.search(r"relation_strict_f1 .*?(\d+\.\d) ± .*?(\d+\.\d) ± .*?\+(\d+\.\d) ±", printed)
    assert [float(number) for number in shown.groups()] == pytest.approx(
        [100 * value for value in (*means, means[1] - means[0])], abs=0.051
    )
    assert re.search(r"type: in +60 ", printed) and re.search(r"words between the arguments: 1-2 +60 ", printed)
    assert re.search(r"relations in the sentence: 1 +60 ", printed)
    of_seed = written["runs"][1]["seeds"]["1"]["relation_f1"]
    assert of_seed["by_relations"] == {"1": of_seed["micro"]}
    assert (tmp_path / "out" / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_no_difference_where_there_is_none_and_seeds_that_are_not_the_same(tmp_path, capsys):
    first = write_run(tmp_path / "x" / "run", chance=0.6)
    second = write_run(tmp_path / "y" / "run", chance=0.6, seeds=(4, 5))
    compare(first, second)
    printed = capsys.readouterr().out
    assert "seeds independent" in printed and str(first) in printed and str(second) in printed
    p = re.search(r"\nrelation_f1 .* (\d\.\d+)\n", printed)
    assert float(p[1]) > 0.05


def test_a_single_seed_is_said_to_be_one(tmp_path, capsys):
    compare(*(write_run(tmp_path / name, chance=0.6, seeds=(1,)) for name in "ab"))
    assert "With a single seed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda one: AnnotatedSentence(("x", *one.words[1:]), one.entities, one.relations),
            "sentence 8 has other words",
        ),
        (lambda one: AnnotatedSentence(one.words, (*one.entities, Entity(3, 4, "x")), one.relations), "other entities"),
        (lambda one: AnnotatedSentence(one.words, one.entities, (Relation(1, 0, "in"),)), "other relations"),
        (None, "60 and 7 sentences"),
    ],
)
def test_other_gold_data_are_refused(tmp_path, change, complaint):
    other = [*GOLD[:7], change(GOLD[7]), *GOLD[8:]] if change else GOLD[:7]
    runs = write_run(tmp_path / "a", chance=0.5), write_run(tmp_path / "b", chance=0.5, gold=other)
    with pytest.raises(UserError, match=f"different gold data: .*{complaint}"):
        compare(*runs)


def test_settings_that_differ_are_named(tmp_path, capsys):
    runs = [write_run(tmp_path / name, chance=0.6) for name in "ab"]
    compare(*runs)
    assert "settings: not compared, as a run has no seed-*/config.yaml" in capsys.readouterr().out
    for run, rate in zip(runs, (1e-4, 2e-4), strict=True):
        (run / "seed-1").mkdir()
        settings = {"run": {"name": run.name, "seed": 1}, "optimizer": {"learning_rate": rate, "clip": 1.0}}
        (run / "seed-1" / "config.yaml").write_text(yaml.safe_dump(settings))
    compare(*runs)
    assert "\nsettings that differ: optimizer.learning_rate 0.0001 → 0.0002\n" in capsys.readouterr().out
    compare(write_run(runs[0] / "dev", chance=0.5), write_run(runs[1] / "dev", chance=0.5))
    assert "\nsettings that differ: optimizer.learning_rate 0.0001 → 0.0002\n" in capsys.readouterr().out


def test_the_same_gold_data_in_another_order_of_entities_are_the_same(tmp_path, capsys):
    turned = [AnnotatedSentence(one.words, (ROME, ANNA), (Relation(1, 0, "in"),)) for one in GOLD]
    compare(write_run(tmp_path / "a", chance=1), write_run(tmp_path / "b", chance=1, gold=turned))
    assert re.search(r"relation_strict_f1 +100.0", capsys.readouterr().out)


def test_direction_of_symmetric_types(tmp_path, capsys):
    runs = [write_run(tmp_path / name, chance=1) for name in "ab"]
    turned = [AnnotatedSentence(one.words, one.entities, (Relation(1, 0, "in"),)) for one in GOLD]
    write_predictions(SCORING, runs[1], 1, turned)
    compare(*runs, "--symmetric", "in")
    assert re.search(r"\nrelation_f1 .*\+0.0 ± 0.0", capsys.readouterr().out)
    compare(*runs)
    assert re.search(r"\nrelation_f1 .*\+?-33.3 ± 57.7", capsys.readouterr().out)
    with pytest.raises(UserError, match="--symmetric near: the gold data have no such relations, only in"):
        compare(*runs, "--symmetric", "near")


def test_sentences_on_which_two_runs_differ_are_shown(tmp_path, capsys):
    """Of 60 sentences, both runs find the relation, but for three; the third is as good in one as in the other."""
    plain, people = (write_run(tmp_path / name, chance=1, seeds=(1, 2)) for name in ("plain", "people"))
    nothing, wrong = ((Relation(*ends, kind),) for *ends, kind in ((1, 0, "in"), (0, 1, "near")))

    def predict(run, seed, **relations):
        changed = {int(line[1:]) - 1: relation for line, relation in relations.items()}
        found = [replace(one, relations=changed.get(number, one.relations)) for number, one in enumerate(GOLD)]
        write_predictions(SCORING, run, seed, found)

    predict(plain, 1, _4=(), _9=nothing, _30=nothing)
    predict(plain, 2, _9=nothing, _30=nothing)
    predict(people, 1, _30=wrong, _50=())
    predict(people, 2, _30=wrong)
    compare(plain, people, "--cases", 1, "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    expected = """
Predictions differ in 4 of 60 sentences: people is better in 2, plain in 1.
(better: a higher number of right minus wrong facts, mean over 2 pairs of equal seeds;
 right: annotated; wrong: not annotated; last columns: number of seeds that found the fact;
 line: counted from 1 in predictions/gold.jsonl)

people better than plain (1 of 2 shown)

1. line 9, people - plain: relations +2.0, entities +0.0; of 2 pairs of seeds people is better in 2, plain in 0
    Anna in Rome 8
    relations                                     plain  people
    ---------  ---------------------------------  -----  ------
    right      Anna (person) → in → Rome (place)    0/2     2/2
    wrong      Rome (place) → in → Anna (person)    2/2     0/2
    entities                 plain  people
    --------  -------------  -----  ------
    right     Anna (person)    2/2     2/2
    right     Rome (place)     2/2     2/2

plain better than people (1 of 1 shown)

1. line 50, people - plain: relations -0.5, entities +0.0; of 2 pairs of seeds people is better in 0, plain in 1
    Anna in Rome 49
"""
    assert expected in printed and printed.startswith((tmp_path / "out" / "scores.txt").read_text())
    compare(plain, people, "--cases", 1, "--json")
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (shown["cases"]["differ"], shown["cases"]["seed_pairs"]) == (4, 2)
    assert shown["cases"]["second_better"]["items"] == 2
    (case,) = shown["cases"]["first_better"]["cases"]
    assert case["line"] == 50 and case["difference"] == {"relations": -0.5, "entities": 0.0}
    assert case["facts"][0] == {
        "kind": "relations", "text": "Anna (person) → in → Rome (place)", "right": True, "first": 2, "second": 1,
    }  # fmt: skip
    compare(plain, people, "--json")
    assert "cases" not in json.loads(capsys.readouterr().out)
    compare(plain, plain, "--cases", 3)
    printed = capsys.readouterr().out
    assert f"differ in 0 of 60 sentences: {plain} is better in 0, {plain} in 0." in printed and "line " not in printed
    with pytest.raises(UserError, match="--cases is 0: it must be at least 1"):
        compare(plain, people, "--cases", 0)


def test_cases_of_runs_with_other_seeds_are_of_all_pairs(tmp_path, capsys):
    runs = [
        write_run(tmp_path / name, chance=chance, seeds=seeds)
        for name, chance, seeds in (("a", 0, (1, 2)), ("b", 1, (2, 3, 4)))
    ]
    compare(*runs, "--cases", 1)
    printed = capsys.readouterr().out
    assert "mean over 6 pairs of seeds, each of one run with each of the other;" in printed
    assert "1. line 1, b - a: relations +1.0, entities +0.0; of 6 pairs of seeds b is better in 6, a in 0" in printed
    assert re.search(r"right +Anna \(person\) → in → Rome \(place\) +0/2 +3/3\n", printed)


def test_predictions_of_other_sentences_are_refused(tmp_path):
    runs = [write_run(tmp_path / name, chance=1) for name in "ab"]
    write_predictions(SCORING, runs[1], 2, GOLD[1:])
    with pytest.raises(UserError, match="seed 2 of b: 59 sentences predicted, but 60 in the gold data"):
        compare(*runs)
    write_gold(SCORING, runs[0], [])
    write_gold(SCORING, runs[1], [])
    with pytest.raises(UserError, match="no sentences in its gold data"):
        compare(*runs)
