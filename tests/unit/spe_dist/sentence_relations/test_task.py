"""A tiny encoder learns a few marked sentences by heart, through the loop, and predicts them from its folder."""

import json
from collections import Counter
from pathlib import Path

import pytest

from data_shards.errors import UserError
from launcher.cli import dispatch
from launcher.finetune import RECIPES, read_arguments
from spe_dist.finetuning.data import about_data, read_data
from spe_dist.finetuning.loop import finetune
from spe_dist.finetuning.start import load_start
from spe_dist.finetuning.subsets import choose_of_each_label
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

WORDS = ["Acme", "Paris", "Marie", "Ann", "Warsaw", "the"]
LABELS = ["Other", "A-B(e1,e2)", "A-B(e2,e1)"]


def lines(labels=LABELS, repeat=1):
    """The relation is that of the word between the entities."""
    between = ["is", "in", "of"]
    found = []
    for number in range(len(WORDS) * len(labels) * repeat):
        a, b, label = WORDS[number % 6], WORDS[(number + 1) % 6], number // 6 % len(labels)
        found.append(f'{number}\t"<e1>{a}</e1> {between[label]} <e2>{b}</e2> ."\n{labels[label]}\nComment:\n\n')
    return "".join(found)


def config_in(folder: Path, *more: str):
    data = folder / "data.txt"
    if not data.exists():
        data.write_text(lines())
    tiny = [f"--start.tokenizer={DEBUG_VOCAB}", f"--run.folder={folder}", "--encoder.layers=1", "--name=tiny",
            "--encoder.hidden-size=32", "--encoder.heads=2", "--encoder.intermediate-size=48", "--train.precision=fp32",
            "--encoder.max-positions=64", "--encoder.dropout=0", "--optimizer.learning-rate=5e-3", "--train.epochs=60",
            "--train.batch-size=6", "--train.checkpoint-every=0", "--optimizer.heads=1"]  # fmt: skip
    recipe = "finetune_sentence_relations_cpu"
    arguments = ["sentence-relations", "--config", recipe, f"--train={data}", *tiny, *more]
    return read_arguments(arguments)[0]


def test_it_learns_is_scored_and_predicts(tmp_path, capsys):
    data = tmp_path / "data.txt"
    config = config_in(tmp_path, f"--dev={data}", f"--test={data}")
    result = run_ranks(finetune, 1, config)[0]
    assert result.test == {"micro_f1": 1.0, "semeval_macro_f1": 1.0, "semeval_micro_f1": 1.0}
    model = Path(config.run_folder) / "seed-42" / "model"
    described = json.loads((model / "sentence_relations.json").read_text())
    assert described["relations"] == LABELS[1:] and described["no_relation"] == "Other"
    card = (model / "README.md").read_text()
    assert "Trained for sentence_relations" in card and "| semeval_macro_f1 | 100.00 | 100.00 |" in card

    dispatch(["predict", str(model), str(data), "--out", str(tmp_path / "out.jsonl")])
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["relation"] for one in found] == [LABELS[n // 6 % 3] for n in range(18)]
    assert all(1 / 3 < one["score"] <= 1 for one in found)
    dispatch(["predict", str(model), str(tmp_path / "out.jsonl"), "--out", str(tmp_path / "again.jsonl")])
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "out.jsonl").read_text()  # its output is a format
    capsys.readouterr()
    for arguments, told in (
        (["--text", "<e1>Ann</e1> in Paris"], "--text: sentence 1 needs one <e2>"),
        ([str(data), "--min-entity-score=0.5"], "--min-entity-score is for extractors"),
        ([str(data), "--format=html"], "this task writes only JSON lines"),
        ([str(tmp_path / "none.txt")], "none.txt"),
    ):
        with pytest.raises(UserError, match=told):
            dispatch(["predict", str(model), *arguments])

    again = config_in(tmp_path, f"--dev={data}", f"--from={model}", "--name=again")  # a fine-tuned model as the start
    task = again.build_task()
    start = load_start(task, read_data(task).description)
    assert start.report.loaded == ("sentence encoder", "classifier of relations")
    assert start.model.sentence_encoder.word_embeddings.num_embeddings == start.word_pieces.vocab_size + 4


def test_a_part_of_train_is_dev_where_none_is_given(tmp_path):
    (tmp_path / "data.txt").write_text(lines(repeat=5))
    task = config_in(tmp_path).build_task()
    data = read_data(task)
    assert (len(data.train), len(data.dev)) == (73, 17)  # 19 % of 90
    assert not {one.id for one in data.train} & {one.id for one in data.dev}
    counts = Counter(one.relation for one in data.dev)
    assert sorted(counts.values()) in ([5, 6, 6], [5, 5, 7])
    assert any("17 sentences of" in line and "split_seed 1" in line for line in about_data(task, data))
    other = read_data(config_in(tmp_path, "--seed=43").build_task())
    assert [one.id for one in other.dev] == [one.id for one in data.dev]  # all seeds of a run have the same
    third = read_data(config_in(tmp_path, "--data.split-seed=2").build_task())
    assert [one.id for one in third.dev] != [one.id for one in data.dev]
    few = read_data(config_in(tmp_path, "--fraction=0.1").build_task())
    of_all = Counter(one.relation for one in data.train)
    assert Counter(one.relation for one in few.train) == {label: -(-n // 10) for label, n in of_all.items()}


def test_fractions_of_each_label():
    labels = ["a"] * 100 + ["b"] * 7 + ["c"]
    few, more = (choose_of_each_label(labels, share, 3) for share in (0.07, 0.3))
    assert Counter(labels[n] for n in few) == {"a": 7, "b": 1, "c": 1}
    assert Counter(labels[n] for n in more) == {"a": 30, "b": 3, "c": 1} and set(few) <= set(more)
    assert choose_of_each_label(labels, 1, 3) == list(range(108)) != choose_of_each_label(labels, 0.5, 4)


def test_mistakes_are_one_line(tmp_path):
    (tmp_path / "data.txt").write_text(lines(labels=LABELS[1:2]))
    with pytest.raises(UserError, match="has only one label, so there is nothing to learn"):
        read_data(config_in(tmp_path).build_task())
    with pytest.raises(UserError, match=r"no such task; these are offered: .*sentence-relations"):
        read_arguments(["sentence-relation"])
    with pytest.raises(UserError, match="is a recipe of the task extraction"):
        read_arguments(["sentence-relations", "--config", str(RECIPES / "finetune_cpu.yaml")])
    paper = read_arguments(["sentence-relations"])[0]
    assert (paper.optimizer.learning_rate, paper.train.batch_size, paper.data.dev) == (3e-5, 64, None)
    with pytest.raises(UserError, match=r"data\.dev is null: name the file"):
        read_arguments(["--dev=null"])[0].build_task().split([])
