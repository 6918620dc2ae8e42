"""What each variant of a comparison trains, how a budget becomes steps, and the table of scores."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from data_shards.errors import UserError
from launcher.recipe_arguments import find_recipe
from spe_dist.comparison.comparison import Column, Comparison, MeasuredStep, with_steps
from spe_dist.comparison.config import read_comparison
from spe_dist.comparison.cost import read_cost
from spe_dist.comparison.report import comparison_json, comparison_table, draw_comparison
from spe_dist.comparison.scores import corrected_p_values, number_of_differences, score_comparison
from spe_dist.finetuning.bootstrap import holm
from spe_dist.finetuning.folder import Result, seed_folder, write_result
from spe_dist.finetuning.predictions import write_gold, write_predictions
from spe_dist.recipe import config_values
from spe_dist.settings import flatten
from tests.unit.spe_dist.extraction.tiny import SENTENCES, sentence

pytestmark = pytest.mark.any_version

PLACES = {"run.name", "run.folder"}
EXTRACTION = Column("extraction", 0.2)


def recipe(shards, tmp_path, name="ablations_spe_cpu", **changes) -> Comparison:
    """A recipe on the test's shards, some of its values changed."""
    values = yaml.safe_load(find_recipe(name).read_text())
    values["run"]["folder"] = str(tmp_path)
    values["pretrain"] = {"data.shards": str(shards / "shards")}
    if "variants" in changes or "tasks" in changes:
        values.pop("papers")  # they name those of the recipe
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values | changes, sort_keys=False))
    return Comparison(read_comparison(tmp_path / "recipe.yaml"), find_recipe)


def write_cell(config, predicted, gold, *, seeds=2, dev=None):
    """A fine-tuning that is done: what it has found in the test data, and its scores on dev (those on test)."""
    scoring, run = config.scoring(), Path(config.run_folder)
    write_gold(scoring, run, gold)
    scores = scoring.scores(gold, predicted)
    for seed in config.of_each_seed()[:seeds]:
        write_predictions(scoring, run, seed.run.seed, predicted)
        seed_folder(seed).mkdir(parents=True)
        write_result(seed, Result(seed.run.seed, 1, 1, dev or scores, scores))


def differences(one, other) -> dict:
    before, after = flatten(config_values(one)), flatten(config_values(other))
    return {key: after.get(key) for key in before | after if before.get(key) != after.get(key) and key not in PLACES}


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
def test_a_variant_differs_from_the_full_method_in_one_thing(shards, tmp_path, name, pretrain, finetune):
    comparison = recipe(shards, tmp_path)
    full, other = comparison.pretrainings["full"], comparison.pretrainings[name]
    assert differences(full, other) == pretrain
    assert (other.run_folder == full.run_folder) == (not pretrain)  # what is equal is trained once
    (of_full,), (of_other,) = (comparison.finetunings(EXTRACTION, variant) for variant in ("full", name))
    changed = differences(of_full, of_other)
    start = changed.pop("start.pretrained", full.run_folder)
    expected = {"momentum": f"{full.run_folder}/momentum"}.get(name, other.run_folder)
    assert (start, changed) == (expected, finetune)
    assert of_other.run_folder == f"{tmp_path}/ablations_spe_cpu/finetune/extraction-0.2/{name}"


def test_without_pre_training_the_encoder_is_the_same_and_new(shards, tmp_path):
    comparison = recipe(shards, tmp_path)
    assert comparison.pretrainings["none"] is None
    (none,), (full,) = (comparison.finetunings(EXTRACTION, variant) for variant in ("none", "full"))
    assert differences(full, none) == {
        "start.pretrained": "bert",
        "start.tokenizer": f"{shards / 'shards'}/tokenizer",
    }
    assert none.encoder.hidden_size == comparison.pretrainings["full"].encoder.hidden_size == 128
    assert none.encoder.dropout == 0.1 != comparison.pretrainings["full"].encoder.dropout
    assert config_values(none.model.span_encoder) == config_values(comparison.pretrainings["full"].span_encoder)


@pytest.mark.parametrize(
    "name", ["ablations_enpar_cpu", "ablations_erica_cpu", "few_labels_spe_cpu", "pretraining_comparison_cpu"]
)
def test_all_variants_of_a_recipe_are_fine_tuned_alike(shards, tmp_path, name):
    comparison = recipe(shards, tmp_path, name)
    for column in comparison.columns:
        each = [comparison.finetunings(column, variant) for variant in comparison.config.variants]
        keys = {key for (config,) in each for key in differences(each[0][0], config)}
        assert all(key.startswith("start.") for key in keys)


def test_distant_labels_are_a_pre_training_whose_classifiers_are_dropped(shards, tmp_path):
    ds = {"title": "SPE-DS", "recipe": "finetune_cpu", "settings": {"data.train": "distant.json"}}
    variants = {"full": {"title": "SPE", "recipe": "debug"}, "spe_ds": ds}
    comparison = recipe(shards, tmp_path, variants=variants, budget={"of": "hours", "amount": 1})
    run = comparison.pretraining("spe_ds")
    assert (run.data.train, run.seeds, run.encoder.hidden_size) == ("distant.json", 1, 128)
    assert run.start.tokenizer == f"{shards / 'shards'}/tokenizer" and run.start.pretrained == "bert"
    assert comparison.measuring("spe_ds") is None
    assert "Every pre-training: 1 h (SPE-DS: the epochs of its recipe)." in comparison_table(comparison, {}, {})
    (config,) = comparison.finetunings(EXTRACTION, "spe_ds")
    assert config.start.pretrained == f"{run.run_folder}/seed-1/model" and not config.start.keep_heads


def test_a_grid_is_the_same_for_every_variant(shards, tmp_path):
    tasks = yaml.safe_load(find_recipe("ablations_spe_cpu").read_text())["tasks"]
    tasks["extraction"]["grid"] = {"optimizer.learning_rate": [1e-4, 2e-4], "train.epochs": [2, 3]}
    comparison = recipe(shards, tmp_path, tasks=tasks)
    of_full, of_none = (comparison.finetunings(EXTRACTION, variant) for variant in ("full", "none"))
    rates = [[(one.optimizer.learning_rate, one.train.epochs) for one in each] for each in (of_full, of_none)]
    assert rates[0] == rates[1] and sorted(rates[0]) == [(1e-4, 2), (1e-4, 3), (2e-4, 2), (2e-4, 3)]
    assert len({one.run_folder for one in of_full}) == 4


@pytest.mark.parametrize("best", [0, 1, 2])
def test_of_a_grid_the_best_on_dev_is_tested(shards, tmp_path, best):
    tasks = yaml.safe_load(find_recipe("ablations_spe_cpu").read_text())["tasks"]
    tasks["extraction"]["grid"] = {"train.epochs": [2, 3, 4]}
    comparison = recipe(shards, tmp_path, tasks=tasks, seeds=1)
    configs, empty = comparison.finetunings(EXTRACTION, "full"), [sentence(" ".join(one.words)) for one in SENTENCES]
    for number, config in enumerate(configs):
        dev = dict.fromkeys(config.scoring().measures, 0.9 if number == best else 0.1)
        write_cell(config, SENTENCES if number == best else empty, SENTENCES, dev=dev)
    (cell,) = score_comparison(comparison, resamples=100).values()
    assert cell.run.values["relation_strict_f1"] == [1.0]
    assert cell.point == {"train.epochs": configs[best].train.epochs}


def test_a_large_difference_is_significant_in_a_table_of_many(shards, tmp_path):
    """However many differences a table has: 10,000 resamples know no p-value below 2 / 10,001."""
    names = [f"v{number}" for number in range(20)]
    comparison = recipe(shards, tmp_path, variants={name: {"title": name} for name in names}, baselines=["v0"], seeds=1)
    gold = SENTENCES * 10
    for name in names:
        empty = [sentence(" ".join(one.words)) for one in gold]
        write_cell(*comparison.finetunings(EXTRACTION, name), gold if name == "v0" else empty, gold)
    scored = score_comparison(comparison, resamples=100)
    assert number_of_differences(comparison) == len(corrected_p_values(comparison, scored)) == 19
    assert max(corrected_p_values(comparison, scored).values()) < 0.05


def test_seeds_of_an_earlier_comparison_of_more_are_left_out(shards, tmp_path):
    more = recipe(shards, tmp_path, seeds=3)
    for name, done in (("full", 3), ("no_tbo", 2)):
        write_cell(*more.finetunings(EXTRACTION, name), SENTENCES, SENTENCES, seeds=done)
    scored = score_comparison(recipe(shards, tmp_path, seeds=2), resamples=100)
    assert [cell.run.seeds for cell in scored.values()] == [(1, 2), (1, 2)]
    assert scored[EXTRACTION, "no_tbo"].minus["full"]["relation_strict_f1"].paired_seeds


@pytest.mark.parametrize("times", [1, 20])
def test_few_test_data_are_said_to_be_few(shards, tmp_path, times):
    comparison, gold = recipe(shards, tmp_path, seeds=1), SENTENCES * times
    for name in ("full", "no_tbo"):
        write_cell(*comparison.finetunings(EXTRACTION, name), gold, gold)
    table = comparison_table(comparison, {}, score_comparison(comparison, resamples=100))
    note = f" Only {len(SENTENCES)} sentences: intervals and p-values are unreliable below 50.\n"
    assert (note in table) == (times == 1) == ("unreliable" in table)


def test_a_share_of_the_data_has_settings_of_its_own(shards, tmp_path):
    tasks = yaml.safe_load(find_recipe("ablations_spe_cpu").read_text())["tasks"]
    tasks["extraction"]["fractions"] = {0.5: {"train.epochs": 9}, 1.0: {}}
    comparison = recipe(shards, tmp_path, tasks=tasks)
    few, all_of_them = (comparison.finetunings(column, "full")[0] for column in comparison.columns)
    assert differences(all_of_them, few) == {"train.epochs": 9, "data.fraction": 0.5}


def test_a_budget_of_pieces_is_the_steps_that_read_as_many(shards, tmp_path):
    statistics = json.loads((shards / "shards/manifest.json").read_text())["statistics"]
    of_step = 64 * statistics["pieces"] / statistics["records"]
    comparison = recipe(shards, tmp_path, budget={"of": "pieces", "amount": 100 * of_step})
    run = comparison.pretraining("full")
    assert (run.train.steps, run.optimizer.warmup_steps) == (100, 12)  # of 400 and 50
    assert comparison.measuring("full") is None


@pytest.mark.parametrize(("budget", "steps"), [("petaflops", 30), ("hours", 240)])
def test_other_budgets_ask_for_a_measured_step(shards, tmp_path, budget, steps):
    comparison = recipe(shards, tmp_path, budget={"of": budget, "amount": 6})
    measuring = comparison.measuring("no_cnn")
    assert measuring.run_folder.endswith("measured/full") and measuring.train.steps < 20  # shared as the run is
    run = comparison.pretraining("full", MeasuredStep(seconds=90.0, petaflops=0.2))
    assert run.train.steps == steps


def test_warm_up_is_never_longer_than_the_run(shards, tmp_path):
    run = recipe(shards, tmp_path).pretrainings["full"]
    assert with_steps(replace(run, train=replace(run.train, steps=50)), 3).optimizer.warmup_steps == 3


def test_the_cost_of_a_run_is_what_its_metrics_add_up_to(shards, tmp_path):
    run = recipe(shards, tmp_path).pretrainings["full"]
    assert read_cost(run) is None
    Path(run.run_folder).mkdir(parents=True)
    lines = [
        {"step": 10, "model_tflops_per_second": 2.0, "seconds_per_step": 3.0, "elapsed_seconds": 30.0,
         "records_seen": 640, "pieces_seen": 9000},
        {"step": 15, "model_tflops_per_second": 4.0, "seconds_per_step": 1.0, "elapsed_seconds": 36.0,
         "records_seen": 960, "pieces_seen": 13000},
    ]  # fmt: skip
    (Path(run.run_folder) / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cost = read_cost(run)
    assert (cost.steps, cost.records, cost.pieces, cost.hours) == (15, 960, 13000, 0.01)
    assert cost.petaflops == pytest.approx((10 * 6 + 5 * 4) / 1000)


def test_a_variant_may_start_from_an_earlier_step_of_a_run(shards, tmp_path):
    settings = {"train.keep_every": 100}
    variants = {
        "full": {"title": "a", "recipe": "debug", "settings": settings},
        "early": {"title": "b", "recipe": "debug", "settings": settings, "step": 100},
    }
    comparison = recipe(shards, tmp_path, variants=variants)
    full, early = (comparison.pretrainings[name] for name in ("full", "early"))
    assert early == full and comparison.start("early") == f"{full.run_folder}/query-step-100"
    Path(full.run_folder).mkdir(parents=True)
    line = {"model_tflops_per_second": 2.0, "seconds_per_step": 3.0, "elapsed_seconds": 30.0, "records_seen": 640}
    lines = [json.dumps(line | {"step": step, "pieces_seen": step}) + "\n" for step in (50, 100, 150)]
    (Path(full.run_folder) / "metrics.jsonl").write_text("".join(lines))
    assert read_cost(full, step=100).pieces == 100
    variants["early"]["step"] = 150
    with pytest.raises(UserError, match=r"early\.step is 150: .* step 400 and every 100 steps"):
        _ = recipe(shards, tmp_path, variants=variants).pretrainings
    variants["early"] = {"title": "b", "step": 100}
    with pytest.raises(UserError, match=r"early\.step: only a pre-training has steps"):
        _ = recipe(shards, tmp_path, variants=variants).pretrainings


PAPER = {"source": "SPE paper, Table 5", "task": "extraction", "beside": [0.2]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baselines": ["fulll"]}, r"yaml: baselines: fulll: name some of the variants full"),
        ({"variants": {"full": {"title": "a", "baselines": ["fu"]}}}, r"variants\.full\.baselines: fu: name some of"),
        ({"papers": [PAPER | {"task": "ner", "figures": {}}]}, r"papers\[0\]: task is 'ner': it must be one of"),
        ({"papers": [PAPER | {"beside": [0.5], "figures": {}}]}, r"beside: .* extraction has no share 0\.5 of its"),
        ({"papers": [PAPER | {"figures": {"f2": {}}}]}, r"'f2' is none of the measures relation_strict_f1"),
        (
            {"papers": [PAPER | {"figures": {"entity_f1": {"ernie": [1.0]}}}]},
            r"'ernie' is neither a variant nor one of",
        ),
        (
            {"papers": [PAPER | {"figures": {"entity_f1": {"full": [1.0, 2.0]}}}]},
            r"entity_f1 of full has 2 figures: it",
        ),
        ({"variants": {"full": {"title": "a", "start": {"pretrained": "x"}}}}, r"variants\.full\.start: 'pretrained'"),
        ({"variants": {"full": {"title": "a"}, "a/b": {"title": "b"}}}, r"'a/b' becomes the name of a folder"),
        ({"seedz": 3}, r"unknown key 'seedz', did you mean 'seeds'"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line(shards, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        recipe(shards, tmp_path, **changes)


def test_a_wrong_setting_names_the_variant_or_the_task(shards, tmp_path):
    variants = {"full": {"title": "a", "recipe": "debug", "settings": {"tbo.wait": 0}}}
    with pytest.raises(UserError, match=r"variants\.full: unknown key 'tbo\.wait'"):
        _ = recipe(shards, tmp_path, variants=variants).pretrainings
    tasks = {"extraction": {"recipe": "finetune_cpu", "settings": {"data.test": "t"}, "measures": ["f2"]}}
    with pytest.raises(UserError, match=r"tasks\.extraction\.measures: f2 is none of entity_f1"):
        recipe(shards, tmp_path, tasks=tasks).finetunings(Column("extraction", 1.0), "full")


def test_arms_with_different_encoders_are_refused(shards, tmp_path):
    wider = {"title": "b", "recipe": "debug", "settings": {"encoder.hidden_size": 256}}
    comparison = recipe(shards, tmp_path, variants={"full": {"title": "a", "recipe": "debug"}, "wide": wider})
    with pytest.raises(
        UserError, match=r"full and wide begin with different encoders \(hidden_size was 128 and is 256"
    ):
        _ = comparison.pretrainings


def test_the_table_holds_scores_differences_and_the_papers_figures(shards, tmp_path):
    of_spe = yaml.safe_load(find_recipe("ablations_spe_cpu").read_text())["papers"]
    of_ernie = PAPER | {"figures": {"entity_f1": {"ernie": [12.5], "no_tbo": [None]}}}
    changes = {"cited": {"ernie": "ERNIE"}, "papers": [*of_spe, of_ernie]}
    comparison = recipe(shards, tmp_path, seeds=2, budget={"of": "hours", "amount": 2}, **changes)
    gold = SENTENCES * 20
    empty = [sentence(" ".join(one.words)) for one in gold]
    half = gold[:50] + empty[50:]
    for name, predicted in (("full", gold), ("no_tbo", empty), ("no_spo", half), ("none", gold)):
        write_cell(*comparison.finetunings(EXTRACTION, name), predicted, gold, seeds=1 if name == "none" else 2)
    scored = score_comparison(comparison, resamples=200)
    assert [variant for _, variant in scored] == ["full", "no_tbo", "no_spo"]  # of none a seed is missing
    no_tbo = scored[EXTRACTION, "no_tbo"].minus["full"]["relation_strict_f1"]
    assert no_tbo.difference.mean == -1 and not scored[EXTRACTION, "full"].minus
    corrected = corrected_p_values(comparison, scored)
    assert len(corrected) == 2  # variants, in the first measure
    raw = [scored[EXTRACTION, variant].minus["full"]["relation_strict_f1"].p_value for _, variant, _ in corrected]
    assert list(corrected.values()) == holm(raw)
    table = comparison_table(comparison, dict.fromkeys(comparison.config.variants), scored)
    assert "Every pre-training: 2 h. Encoder: new, 2 layers of 128." in table and str(tmp_path) not in table
    assert "## extraction, 20 %" in table and "Test: 100 sentences. A difference of" in table
    assert "corrected for all 2 differences" in table and "With two seeds" in table
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    rows = {cells[0]: cells for cells in lines}
    assert "100.0 ±  0.0" in rows["SPE"] and rows["SPE"][-3:] == ["63.2 [1]", "66.7 [1]", ""]
    assert "-100.0 [-100.0, -100.0]" in rows["- TBO"] and rows["- TBO"][-3:] == ["61.2 [1]", "63.7 [1]", ""]
    assert rows["variant"][-3:] == [
        f"{measure}, papers" for measure in ("relation_strict_f1", "relation_f1", "entity_f1")
    ]
    assert set(rows["ERNIE (cited)"][1:-1]) == {""} and rows["ERNIE (cited)"][-1] == "12.5 [2]"
    assert "Papers' figures are not ours" in table and "[2] SPE paper, Table 5." in table
    no_ernie = replace(comparison, config=replace(comparison.config, cited={}, papers=comparison.config.papers[:1]))
    assert "cited" not in comparison_table(no_ernie, {}, scored) and "[2]" not in comparison_table(no_ernie, {}, scored)
    written = json.loads(json.dumps(comparison_json(comparison, {"full": None}, scored)))
    cell = next(cell for cell in written["cells"] if cell["variant"] == "no_spo")
    assert cell["scores"]["entity_f1"]["seeds"].keys() == {"1", "2"}
    judged, shown = (cell["minus"]["full"][measure] for measure in ("relation_strict_f1", "entity_f1"))
    assert judged["p_value_holm"] >= judged["p_value"] and "p_value_holm" not in shown
    assert written["machine"]["cores"]
    papers = written["papers"]
    assert len(papers) == 17 and sum(paper["cited"] for paper in papers) == 1
    assert papers[-1] | {"score": 0.125, "row": "ernie", "title": "ERNIE", "measure": "entity_f1"} == papers[-1]
    draw_comparison(comparison, scored, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_a_variant_may_be_compared_with_others_than_the_rest(shards, tmp_path):
    variants = {name: {"title": name} for name in ("plain", "mlm", "mlm_sentences", "spe", "erica")}
    variants["mlm_sentences"]["baselines"] = ["plain"]
    variants["spe"]["baselines"] = ["plain", "mlm_sentences"]
    comparison = recipe(shards, tmp_path, variants=variants, baselines=["plain", "mlm"], seeds=1)
    for name in variants:
        write_cell(*comparison.finetunings(EXTRACTION, name), SENTENCES, SENTENCES)
    scored = score_comparison(comparison, resamples=100)
    told = {(variant, baseline) for _, variant, baseline in corrected_p_values(comparison, scored)}
    expected = ["mlm plain", "mlm_sentences plain", "spe plain", "spe mlm_sentences", "erica plain", "erica mlm"]
    assert told == {tuple(pair.split()) for pair in expected}
    assert number_of_differences(comparison) == len(expected)
    (header,) = [line for line in comparison_table(comparison, {}, scored).splitlines() if " - plain " in line]
    columns = [cell.strip() for cell in header.split("|") if " - " in cell]
    assert columns[:3] == ["- plain", "- mlm", "- mlm_sentences"]


def test_arms_on_sentences_are_compared_with_masked_language_modelling_of_sentences(shards, tmp_path):
    comparison = recipe(shards, tmp_path, "pretraining_comparison_cpu")
    documents, sentences = {"mlm", "spanbert", "erica"}, {"cp", "mtb", "spe", "spe_words", "spe_ds", "enpar", "met"}
    for name in documents | sentences:
        control = "mlm_sentences" if name in sentences else "mlm"
        assert comparison.baselines[name] == ["plain", control][: 1 if name == "mlm" else 2]
    assert number_of_differences(comparison) == 20 * len(comparison.columns)


def test_figures_of_papers_stand_where_their_arms_do():
    """Some of each recipe, by hand."""
    expected = {
        "ablations_spe_cpu": {("extraction", 0.2, "relation_f1", "no_spo"): 64.4},  # Table 4
        "ablations_enpar_cpu": {
            ("extraction", 0.2, "relation_strict_f1", name): f1 for name, f1 in (("no_pp", 61.6), ("none", 62.2))
        },
        "ablations_erica_cpu": {
            ("re_docred", 1.0, "relation_ign_f1", "no_rd"): 55.8,  # Table 6
            ("re_docred", 1.0, "relation_ign_f1", "marker"): 57.6,  # Table 8
            ("wikihop", 0.1, "accuracy", "no_rd"): 59.8,  # Table 10
        },
        "few_labels_spe_cpu": {("conll04", 0.2, "relation_strict_f1", "spe"): 41.9},  # Table 5
        "pretraining_comparison_cpu": {
            ("re_docred", 0.1, "relation_f1", "ernie"): 46.7,
            ("semeval", 0.01, "micro_f1", "erica"): 47.9,
            ("qa", 0.01, "f1", "erica"): 51.3,
            ("ufet", 1.0, "macro_f1", "ernie"): 76.51,
            ("scierc", 1.0, "relation_strict_f1", "spe_ds"): 30.8,
            ("conll04", 0.1, "relation_strict_f1", "spe"): 34.1,
        },
    }
    for name, figures in expected.items():
        config = read_comparison(find_recipe(name))
        stated = {
            (paper.task, share, measure, row): figure
            for paper in config.papers
            for measure, rows in paper.figures.items()
            for row, of_row in rows.items()
            for share, figure in zip(paper.beside, of_row, strict=True)
        }
        assert figures.items() <= stated.items(), name
