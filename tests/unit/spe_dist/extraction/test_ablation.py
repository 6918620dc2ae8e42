"""What each variant of the ablations trains, and the table of their scores."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_shards.errors import UserError
from launcher.ablate import DEFAULT, _check_same_pretraining, read_arguments
from spe_dist.extraction.ablation import (
    SCORING,
    VARIANTS,
    ablation_json,
    ablation_table,
    check_variants,
    describe_sizes,
    finetuning,
    pretraining,
    read_ablation,
    score_ablations,
)
from spe_dist.finetuning.predictions import write_gold, write_predictions
from spe_dist.recipe import config_values, config_yaml
from spe_dist.settings import flatten
from tests.unit.spe_dist.extraction.tiny import SENTENCES, sentence

PLACES = {"run.name", "run.folder"}


def differences(one, other) -> dict:
    before, after = flatten(config_values(one)), flatten(config_values(other))
    return {key: after[key] for key in before if before[key] != after[key] and key not in PLACES}


@pytest.mark.parametrize(
    ("name", "pretrain", "finetune"),
    [
        ("no_tbo", {"tbo.weight": 0.0}, {}),
        ("no_spo", {"spo.weight": 0.0}, {}),
        ("no_cspo", {"cspo.weight": 0.0}, {}),
        ("no_head", {"cspo.head": False}, {}),
        ("no_cnn", {}, {"start.no_cnn": True}),
        ("momentum", {}, {}),
    ],
)
def test_a_variant_differs_from_the_full_method_in_one_thing(name, pretrain, finetune):
    config = read_ablation(DEFAULT)
    full = pretraining(config, "full")
    assert differences(full, pretraining(config, name)) == pretrain
    assert (pretraining(config, name).run_folder == full.run_folder) == (not pretrain)
    changed = differences(finetuning(config, "full"), finetuning(config, name))
    start = changed.pop("start.pretrained", full.run_folder)
    expected = {"momentum": f"{full.run_folder}/momentum"}.get(name, pretraining(config, name).run_folder)
    assert (start, changed) == (expected, finetune)
    assert finetuning(config, name).run_folder == f"runs/ablations_cpu/finetune/{name}"


def test_without_pre_training_the_encoder_is_the_same_and_new():
    config = read_ablation(DEFAULT)
    assert pretraining(config, "none") is None
    none, full = finetuning(config, "none"), finetuning(config, "full")
    assert differences(full, none) == {"start.pretrained": "bert", "start.tokenizer": "data/debug/tokenizer"}
    assert none.encoder.hidden_size == config.pretrain.encoder.hidden_size == 128
    assert none.encoder.dropout == config.finetune.encoder.dropout != config.pretrain.encoder.dropout
    assert config_values(none.model.span_encoder) == config_values(config.pretrain.span_encoder)
    assert config_values(none.model.attention) == config_values(config.pretrain.pair_encoder)


def test_short_names_are_settings(tmp_path):
    config = read_arguments(
        [f"--shards={tmp_path}", "--steps=7", "--train", "t", "--dev=d", "--test=u", "--seeds", "4", "--fraction=0.5",
         "--name=n", "--run.folder", str(tmp_path), "--variants", "full", "no_tbo"]
    )  # fmt: skip
    assert (config.pretrain.data.shards, config.pretrain.train.steps) == (str(tmp_path), 7)
    data = config.finetune.data
    assert (data.train, data.dev, data.test, data.fraction, config.finetune.seeds) == ("t", "d", "u", 0.5, 4)
    assert (config.folder, config.variants) == (tmp_path / "n", ("full", "no_tbo"))


def test_what_cannot_be_done_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match="name each once"):
        check_variants(["full", "full"])
    with pytest.raises(UserError, match=r"finetune\.data\.test is null"):
        read_arguments(["--finetune.data.test", "null"])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(DEFAULT.read_text().replace("geometric_p", "geometric_q"))
    with pytest.raises(UserError, match=r"did you mean 'pretrain\.spans\.geometric_p'"):
        read_ablation(recipe)


def test_a_pre_training_of_other_settings_is_refused(tmp_path):
    base = read_ablation(DEFAULT)
    run = pretraining(replace(base, run=replace(base.run, folder=str(tmp_path))), "full")
    Path(run.run_folder).mkdir(parents=True)
    (Path(run.run_folder) / "config.yaml").write_text(config_yaml(run))
    _check_same_pretraining(replace(run, cluster=replace(run.cluster, workers=1)))
    with pytest.raises(UserError, match=r"train\.steps was 400 and is 200.*their own run\.name"):
        _check_same_pretraining(replace(run, train=replace(run.train, steps=200)))


def test_the_table_holds_scores_differences_and_the_papers_figures(tmp_path):
    base = read_ablation(DEFAULT)
    data = replace(base.pretrain.data, shards="/some/where/debug")
    config = replace(base, run=replace(base.run, folder=str(tmp_path)), pretrain=replace(base.pretrain, data=data))
    gold = SENTENCES * 20
    empty = [sentence(" ".join(one.words)) for one in gold]
    for name, predicted in (("full", gold), ("no_tbo", empty)):
        run = Path(finetuning(config, name).run_folder)
        write_gold(SCORING, run, gold)
        for seed in (1, 2):
            write_predictions(SCORING, run, seed, predicted)
    rows = score_ablations(config, ["full", "no_tbo"], resamples=200)
    assert [row.seeds for row in rows] == [(1, 2)] * 2
    assert rows[0].micro_f1["relation_strict_f1"].mean == 1
    assert rows[1].minus_full["relation_strict_f1"].difference.mean == -1
    about = describe_sizes(config, train_sentences=200, test_sentences=len(gold), seeds=2)
    table = ablation_table(rows, about)
    assert "400 steps of 64 records (25,600; paper: 40,000 of 256)" in table
    assert "new, 2 layers of 128" in table and "200 sentences of sample.train.jsonl" in table
    assert "of debug;" in table and "/some/where" not in table
    full, no_tbo, *notes = table.splitlines()[4:]
    assert notes[1] == "Holm: p corrected for 1 comparisons with SPE." and "With two seeds" in notes[3]
    assert full.startswith("| SPE ") and "100.0 ± 0.0" in full and "66.7 / 63.2" in full
    assert no_tbo.startswith("| - TBO") and "-100.0 [-100.0, -100.0]" in no_tbo and "-3.0 / -2.0 |" in no_tbo
    assert len({len(line) for line in table.splitlines()[2:6]}) == 1  # columns stand under each other
    written = json.loads(json.dumps(ablation_json(rows, about)))
    assert written["rows"][1]["minus_full"]["entity_f1"]["difference"]["mean"] == -1
    assert written["rows"][1]["p_strict_holm"] == written["rows"][1]["minus_full"]["relation_strict_f1"]["p_value"]
    assert written["machine"]["cores"] and written["packages"]["torch"]


def test_the_papers_figures():
    """Tables 4 and 6 of the SPE paper: relation F1 and strict relation F1 on ACE05."""
    assert {name: variant.paper for name, variant in VARIANTS.items()} == {
        "full": (66.7, 63.2), "no_tbo": (63.7, 61.2), "no_spo": (64.4, 61.1), "no_cspo": (64.5, 61.4),
        "no_cnn": (64.6, 61.2), "no_head": (65.1, 61.9), "momentum": (65.4, 61.7), "none": (65.4, 61.7),
    }  # fmt: skip
