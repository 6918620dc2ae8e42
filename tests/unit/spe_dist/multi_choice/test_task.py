"""A tiny encoder learns which candidate a relation asks for, from texts in several windows; scores and messages."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from data_shards.errors import UserError
from launcher.cli import dispatch
from launcher.finetune import read_arguments
from spe_dist.finetuning.data import about_data, read_data
from spe_dist.finetuning.loop import describe, finetune
from spe_dist.multi_choice.question import Question
from spe_dist.multi_choice.scoring import MultiChoiceScoring
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

ANSWERS = {"of": "___MASK_3___", "in": "Paris"}


def asked(relation: str, other: str, first: bool) -> dict[str, Any]:
    """The relation alone says which candidate is right; this one comes first or last."""
    wrong = next(answer for of, answer in ANSWERS.items() if of != relation)
    texts = [f"the {ANSWERS[relation]} is", f"Ann of {other} the", f"and {wrong}"]
    return {
        "id": f"{relation}-{other}-{first}",
        "query": f"{relation} Ann",
        "answer": ANSWERS[relation],
        "candidates": [*ANSWERS.values(), other, "nowhere"],
        "supports": texts if first else texts[::-1],
        "document": other,
    }


def config_in(folder: Path, *more: str) -> Any:
    data = folder / "data.json"
    if not data.exists():
        every = [asked(*one) for one in product(ANSWERS, ("Marie", "Acme", "___MASK_8___"), (True, False))]
        data.write_text(json.dumps(every))
        (folder / "test.json").write_text(json.dumps([asked("of", "Warsaw", True), asked("in", "Warsaw", False)]))
    tiny = [f"--start.tokenizer={DEBUG_VOCAB}", f"--run.folder={folder}", "--encoder.layers=1", "--name=tiny",
            "--encoder.hidden-size=32", "--encoder.heads=2", "--encoder.intermediate-size=48", "--train.precision=fp32",
            "--encoder.max-positions=14", "--encoder.dropout=0", "--train.epochs=25", "--optimizer.heads=1",
            "--optimizer.learning-rate=5e-3", "--train.batch-size=4", "--train.patience=4"]  # fmt: skip
    files = [f"--train={data}", f"--dev={data}", f"--test={folder / 'test.json'}"]
    return read_arguments(["multi-choice", "--config", "finetune_multi_choice_cpu", *files, *tiny, *more])[0]


def test_it_learns_is_scored_and_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_in(tmp_path)
    result = run_ranks(finetune, 1, config)[0]
    assert result.dev == result.test == {"accuracy": 1.0} and result.best_epoch > 1
    model = Path(config.run_folder) / "seed-42" / "model"
    assert json.loads((model / "multi_choice.json").read_text())["masks"] == 100
    assert "Trained for multi_choice" in (model / "README.md").read_text()
    dispatch(["predict", str(model), str(tmp_path / "test.json"), "--out", str(tmp_path / "out.jsonl")])
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["answer"] for one in found] == list(ANSWERS.values())
    for one in found:
        assert one["scores"][3] is None and sum(score or 0 for score in one["scores"]) == pytest.approx(1, abs=1e-3)
        assert max(one["scores"][:3]) == one["scores"][one["candidates"].index(one["answer"])]
    with pytest.raises(UserError, match="--text: a question has candidates"):
        dispatch(["predict", str(model), "--text", "Ann"])
    folder = tmp_path / "tiny" / "predictions"
    assert all(
        "supports" not in line and '"nearest": ' in line for line in (folder / "gold.jsonl").read_text().splitlines()
    )
    dispatch(["compare", str(config.run_folder), str(config.run_folder), "--out", str(tmp_path / "compared")])
    assert "nearest mention" in capsys.readouterr().out


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.offsets is utf16, but files of multi_choice have no offsets"):
        describe(config_in(tmp_path, "--offsets=utf16"))
    config = config_in(tmp_path, "--model.max-windows=1")
    (tmp_path / "data.json").write_text(
        json.dumps(
            [asked("of", "Marie", True), asked("in", "Acme", False), asked("in", "Acme", True) | {"answer": "nowhere"}]
        )
    )
    told = describe(config).split("\n")
    assert "test: 25.0% are right by chance, 0.0% by the nearest mention" in told
    assert any("warning: 3 of 3 dev questions are learned from too" in line for line in told)
    assert "1.00 windows a question, 1 at most" in told
    assert any("3 of 3 training questions have more text than 1 windows of 14 pieces hold" in line for line in told)
    assert any(line.startswith("of 12 candidates 3 are in none of their texts and 6 only in what") for line in told)
    assert "2 of 3 training questions are left out: their answer is one of these" in told
    (tmp_path / "data.json").write_text(json.dumps([asked("in", "Acme", True) | {"candidates": ["Paris", "Acme"]}]))
    task = config.build_task()
    assert any(
        "warning: test has masked candidates, and the training" in line for line in about_data(task, read_data(task))
    )


def test_scores_and_what_stands_beside_them() -> None:
    scoring = MultiChoiceScoring()
    gold = [
        Question("1", "r a", ("x", "y"), answer="x", nearest="x", document="d"),
        Question("2", "r a", ("x", "y", "z", "w"), answer="y", nearest="x", document="d"),
        Question("3", "r b", ("x", "y"), answer="y", nearest="x"),
        Question("4", "r b", ("x", "y"), answer="y", nearest="x"),
    ]
    seeds = {1: [("x", (0.9, 0.1)), ("y", (0.1, 0.7, 0.2, None)), ("x", (1.0, None)), (None, (None, None))],
             2: [("x", (0.9, 0.1)), ("z", (0.1, 0.2, 0.7, None)), ("y", (0.0, 1.0)), ("y", (None, 1.0))]}  # fmt: skip
    by_seed = {
        seed: [one._replace(answer=answer, scores=scores) for one, (answer, scores) in zip(gold, of, strict=True)]
        for seed, of in seeds.items()
    }
    assert [scoring.from_json(json.loads(json.dumps(scoring.to_json(one))), 0) for one in gold] == gold
    assert [scoring.from_json(json.loads(json.dumps(scoring.to_json(one))), 0) for one in by_seed[1]] == by_seed[1]
    assert scoring.contributions(gold, by_seed[1])["accuracy"].tolist() == [[2, 2], [0, 1], [0, 1]]
    assert scoring.scores(gold, by_seed[2]) == {"accuracy": 0.75}
    run = type("Run", (), {"gold": gold, "by_seed": by_seed})
    assert scoring.details(run, {}, 0) == pytest.approx((1 / 4, (3 / 2 + 1 / 4) / 4, 2 / 8, 3 / 6))
    with pytest.raises(UserError, match="not the gold ones"):
        scoring.contributions(gold, by_seed[1][::-1])
