"""Relations of embedded documents are learned, kept, resumed, compared and predicted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from networkx import read_graphml

from data_shards.errors import UserError
from launcher.cli import dispatch
from launcher.finetune import read_arguments
from spe_dist.document_relations.folder import load_description
from spe_dist.extraction.graphs.graph import normalised
from spe_dist.finetuning.data import read_data
from spe_dist.finetuning.loop import describe, finetune
from spe_dist.train.run_log import read_metrics
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.document_relations.tiny import config_in
from tests.unit.spe_dist.extraction.tiny_finetuning import finetune_until


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    config = config_in(tmp_path_factory.mktemp("documents"))
    return config, run_ranks(finetune, 1, config)[0]


def test_relations_are_learned_and_scored(learned):
    config, result = learned
    assert result.dev["relation_f1"] > 0.9
    assert result.test == result.dev
    assert result.test["relation_ign_f1"] < result.test["relation_f1"]  # dev is what was learned from
    assert result.diagnostics["test"]["facts_in_train"] == 1
    lines = read_metrics(Path(config.run_folder) / "seed-1")
    assert lines[-1]["relation_loss"] < 0.3 * lines[0]["relation_loss"]
    assert max(line["dev_relation_f1"] for line in lines) == pytest.approx(result.dev["relation_f1"], abs=0.02)
    log = (Path(config.run_folder) / "seed-1" / "finetune.log").read_text()
    assert "4 of 4 documents are longer than the encoder's 128 positions: each is read in windows of whole" in log
    assert "warning: 4 of 4 dev documents are learned from too" in log


def test_the_model_says_what_it_is(learned):
    folder = Path(learned[0].run_folder) / "seed-1" / "model"
    description, card = load_description(folder), (folder / "README.md").read_text()
    assert 0 < description.threshold < 1
    assert f"score of {description.threshold:.4f} or more" in card and "| relation_ign_f1 |" in card
    assert "| documents | entities | relations |" in card


def test_documents_become_graphs(learned, tmp_path, capsys):
    config, _ = learned
    folder = Path(config.run_folder)
    out = tmp_path / "found.jsonl"
    dispatch(["predict", str(folder / "seed-1" / "model"), config.data.test, "--out", str(out)])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    kept = [json.loads(line) for line in (folder / "predictions" / "seed-1.jsonl").read_text().splitlines()]
    assert [line["nodes"] for line in lines] == [line["nodes"] for line in kept]
    facts = [[{(e["head"], e["tail"], e["type"]) for e in line["edges"]} for line in one] for one in (lines, kept)]
    assert facts[0] == facts[1] and sum(map(len, facts[0])) > 20
    assert all(0 < edge["score"] <= 1 for line in lines for edge in line["edges"])
    assert "documents are longer than the encoder's 128 positions" in capsys.readouterr().err
    graph = tmp_path / "found.graphml"
    dispatch(["predict", str(folder / "seed-1" / "model"), config.data.test, "--out", str(graph),
              "--graph-nodes", "text"])  # fmt: skip
    merged = {  # nodes of one name in a document are one
        (number, *(normalised(line["nodes"][edge[end]]["name"]) for end in ("head", "tail")), edge["type"])
        for number, line in enumerate(lines)
        for edge in line["edges"]
    }
    assert len(read_graphml(graph, force_multigraph=True).edges) == len(merged)
    dispatch(["predict", str(folder / "seed-1" / "model"), config.data.test, "--out", str(out),
              "--min-relation-score", "0.9"])  # fmt: skip
    fewer = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(edge["score"] >= 0.9 for line in fewer for edge in line["edges"])


def test_mistakes_of_prediction_are_one_line(learned, tmp_path):
    model = str(Path(learned[0].run_folder) / "seed-1" / "model")
    plain = tmp_path / "plain.jsonl"
    plain.write_text(json.dumps({"tokens": ["Marie", "Curie"], "entities": [], "relations": []}) + "\n")
    for arguments, complaint in (
        (["--text", "Marie Curie"], "--text is for raw text.* reads documents that give their mentions"),
        (["--format", "html", str(plain)], "--format html is not for"),
        (["--max-bad-lines", "1", str(plain)], "--max-bad-lines is for raw text"),
        ([str(plain)], "no document of .*plain.jsonl gives mentions of entities"),
        ([str(plain), "--out", str(tmp_path / "x.html")], "writes JSON lines or a graph: end its name in .jsonl"),
        ([str(plain), "--min-relation-score", "2"], "--min-relation-score is 2: scores are from 0 to 1"),
        ([str(tmp_path / "none.json")], "none.json"),
    ):
        with pytest.raises(UserError, match=complaint):
            dispatch(["predict", model, *arguments])
    with pytest.raises(UserError, match=r"is not an extractor, did you mean|is not an extractor: no"):
        dispatch(["predict", str(tmp_path), "--text", "x"])


def test_a_killed_run_goes_on_as_if_nothing_had_happened_and_is_compared(tmp_path, capsys):
    settings = {"train": {"epochs": 4, "batch_size": 2, "precision": "fp32", "patience": 9, "checkpoint_every": 1}}
    whole, killed = (config_in(tmp_path, **settings, run={"folder": str(tmp_path), "name": n}) for n in ("a", "b"))
    expected = run_ranks(finetune, 1, whole)[0]
    run_ranks(finetune_until, 1, killed, 2)
    assert not (Path(killed.run_folder) / "seed-1" / "result.json").exists()
    assert run_ranks(finetune, 1, killed)[0] == expected
    for name in ("model.safetensors", "document_relations.safetensors", "document_relations.json"):
        first, second = (Path(config.run_folder) / "seed-1" / "model" / name for config in (whole, killed))
        assert first.read_bytes() == second.read_bytes()
    dispatch(["compare", whole.run_folder, killed.run_folder, "--resamples", "200"])
    told = capsys.readouterr().out
    assert "paired bootstrap over documents and seeds" in told and "relation_ign_f1" in told


def test_known_facts_are_those_of_the_whole_training_file(tmp_path):
    config = config_in(tmp_path)
    config = replace(config, data=replace(config.data, fraction=0.25))
    data = read_data(config.build_task())
    assert len(data.train) == 1
    assert all(edge.in_train for item in data.dev for edge in item.edges)


def test_mistakes_in_data_are_one_line(tmp_path):
    config = config_in(tmp_path)
    told = json.loads(Path(config.data.train).read_text())
    (tmp_path / "none.json").write_text(json.dumps([{**one, "labels": []} for one in told]))
    with pytest.raises(UserError, match=r"none\.json holds no relations: there is nothing to learn from it"):
        describe(replace(config, data=replace(config.data, train=str(tmp_path / "none.json"))))
    nr = [{**one, "labels": [label | {"r": "NR"} for label in one["labels"]]} for one in told]
    (tmp_path / "nr.json").write_text(json.dumps(nr))
    with pytest.raises(UserError, match=r"nr\.json holds no relations"):
        describe(replace(config, data=replace(config.data, train=str(tmp_path / "nr.json"))))
    renamed = [{**one, "labels": [label | {"r": "P0"} for label in one["labels"]]} for one in told]
    (tmp_path / "renamed.json").write_text(json.dumps(renamed))
    told = describe(replace(config, data=replace(config.data, dev=str(tmp_path / "renamed.json"))))
    assert "warning: dev has relations that the training data do not have, which count as not found: 'P0' (" in told


def test_the_command_takes_the_name_of_the_task(tmp_path):
    config, _ = read_arguments(["document-relations", "--train", "t", "--from", "runs/x"])
    assert (config.task, config.optimizer.learning_rate, config.optimizer.clip) == ("document_relations", 4e-5, 0.1)
    assert (config.model.entity_size, config.model.distance_size, config.pairs.unrelated) == (128, 20, 3.0)
    assert read_arguments(["document-relations", "--config", "finetune_document_relations_cpu"])[0].train.epochs == 30
    assert read_arguments(["extraction", "--config", "finetune_cpu"])[0].task == "extraction"
    with pytest.raises(UserError, match="there is no such task; these are offered: extraction, document-relations"):
        read_arguments(["document-relation"])
    with pytest.raises(UserError, match="is a recipe of the task extraction, not of document_relations"):
        read_arguments(["document-relations", "--config", "finetune_cpu"])
