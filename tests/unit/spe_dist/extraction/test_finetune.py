"""Whole fine-tunings of a tiny new encoder, each in a process of its own kind (DeepSpeed, one rank)."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModel, AutoTokenizer

from data_shards.annotated.unified import write_unified
from data_shards.errors import UserError
from spe_dist.checkpoint.random_states import seed_random_generators
from spe_dist.extraction.model.encoded_sentences import encode_sentences
from spe_dist.extraction.predict.extractor_folder import load_extractor
from spe_dist.extraction.predict.prediction import predict
from spe_dist.extraction.scores.scoring import score
from spe_dist.extraction.scores.type_rules import TypeRules, relate
from spe_dist.finetuning import loop as module
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.data import read_data
from spe_dist.finetuning.folder import Result, check_same_run, selection_score
from spe_dist.finetuning.loop import describe, epoch_order, finetune
from spe_dist.finetuning.predictions import read_run, write_predictions
from spe_dist.finetuning.run_scores import report_run
from spe_dist.finetuning.start import load_start
from spe_dist.recipe import checked_config, read_values
from spe_dist.train.run_log import read_metrics
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.extraction.tiny import ANY_TYPES, LABELS, SENTENCES, sentence
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB, ROOT

CPU = torch.device("cpu")
TINY_MODEL = {
    "span_encoder": {"kernel_sizes": [2, 3, 4], "channels": 8, "size": 24},
    "context_encoder": {"kernel_sizes": [2, 3, 4], "channels": 8, "size": 24},
    "pair_encoder": "attention",
    "attention": {"attention_size": 16, "position_size": 4},
    "relation_sizes": [24, 16],
    "dropout": 0.0,
}


def config_in(folder: Path, **sections: dict) -> FinetuneConfig:
    """A tiny encoder that learns `SENTENCES` by heart."""
    values = read_values(ROOT / "launcher" / "recipes" / "finetune_cpu.yaml")
    data = folder / "data.jsonl"
    if not data.exists():
        write_unified(SENTENCES, data)
    small = {
        "run": {"folder": str(folder), "name": "tiny"},
        "data": {"train": str(data), "dev": str(data), "test": str(data)},
        "start": {"tokenizer": str(DEBUG_VOCAB)},
        "encoder": {
            "name_or_path": None, "layers": 2, "hidden_size": 32, "heads": 2, "intermediate_size": 48,
            "max_positions": 64, "dropout": 0.0,
        },
        "model": TINY_MODEL,
        "optimizer": {"learning_rate": 5e-3, "heads": 1.0},
        "sampling": {"gold_epochs": 3},
        "train": {"epochs": 40, "batch_size": 2, "precision": "fp32", "patience": 30},
    }  # fmt: skip
    for changes in (small, sections):
        values |= {key: values.get(key, {}) | change for key, change in changes.items()}
    return checked_config(FinetuneConfig, values, source="test")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[FinetuneConfig, Result]:
    config = config_in(tmp_path_factory.mktemp("learned"))
    return config, run_ranks(finetune, 1, config)[0]


def test_a_few_sentences_are_learned_by_heart(learned):
    config, result = learned
    perfect = {"entity_f1": 1.0, "relation_f1": 1.0, "relation_strict_f1": 1.0}
    assert (result.dev, result.test) == (perfect, perfect)
    metrics = read_metrics(Path(config.run_folder) / "seed-1")
    assert [line["epoch"] for line in metrics] == list(range(1, 41))
    assert metrics[-1]["loss"] < metrics[0]["loss"] / 10
    assert metrics[0]["gold_probability"] == 1 > metrics[5]["gold_probability"]


def test_the_best_epoch_is_the_first_of_the_highest_score(learned):
    config, result = learned
    metrics = read_metrics(Path(config.run_folder) / "seed-1")
    scores = [line["dev_entity_f1"] + line["dev_relation_strict_f1"] for line in metrics]
    assert result.best_epoch == 1 + scores.index(max(scores))
    assert len(set(scores)) > 2


def test_predictions_are_files_that_can_be_scored_again(learned):
    config, _ = learned
    for folder in (Path(config.run_folder), Path(config.run_folder) / "dev"):
        run = read_run(folder)
        assert [s.words for s in run.gold] == [s.words for s in SENTENCES]
        for gold, predicted in zip(run.gold, run.by_seed[1], strict=True):
            assert set(predicted.entities) == set(gold.entities)
            assert triples(predicted) == triples(gold)


def test_rules_on_types_are_judged_with_what_was_found(learned):
    config, result = learned
    rules = TypeRules.of(SENTENCES)
    for folder in (Path(config.run_folder), Path(config.run_folder) / "dev"):
        assert read_run(folder).rules == {1: rules}
    for rule in ("majority", "best"):
        f1 = score(SENTENCES, relate(SENTENCES, getattr(rules, rule)))["relation_strict_f1"].micro.f1
        assert result.diagnostics["dev"][f"{rule}_relation_strict_f1"] == pytest.approx(f1)
    assert "one-line rule: types related more often than not" in report_run(Path(config.run_folder))


def test_the_model_has_a_card(learned):
    config, result = learned
    model = Path(config.run_folder) / "seed-1" / "model"
    card = (model / "README.md").read_text()
    assert "| entity_f1 | 100.00 | 100.00 |" in card
    error = result.diagnostics["test"]["relations_calibration_error"]
    assert f"| relation scores: calibration error (ECE) | {error:.3f} | {error:.3f} |" in card  # dev is test here
    assert "| relation scores: AUC of right against wrong | - | - |" in card  # all are right
    assert "| share of unrelated pairs of gold entities that get a relation | 0.000 | 0.000 |" in card
    assert "| train | `data.jsonl` | 5 | 9 | 5 |" in card
    assert "| entities | `LOC`, `ORG`, `PER` |" in card
    assert "All weights started as new ones." in card
    assert f"after epoch {result.best_epoch}, the best on dev" in card
    assert str(config.run.folder) not in card  # it may be published
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "token-classification"
    assert {path.stat().st_mode & 0o777 for path in model.iterdir()} == {0o644}


def test_what_the_card_says_to_do_works(learned):
    config, _ = learned
    model = Path(config.run_folder) / "seed-1" / "model"
    program = re.search(r"```python\n(.*?)```", (model / "README.md").read_text(), re.DOTALL)[1]
    found: dict = {}
    exec(program.replace("FOLDER", str(model)), found)
    assert [entity.text for entity in found["found"].entities] == ["Marie Curie", "Warsaw"]
    assert AutoModel.from_pretrained(model).config.hidden_size == 32
    assert AutoTokenizer.from_pretrained(model)("Warsaw").input_ids


def triples(one):
    return {(one.entities[r.head], one.entities[r.tail], r.type) for r in one.relations}


def test_a_run_that_is_over_has_only_its_results(learned):
    config, result = learned
    folder = Path(config.run_folder) / "seed-1"
    assert not (folder / "checkpoints").exists()
    assert json.loads((folder / "result.json").read_text())["best_epoch"] == result.best_epoch
    before = (folder / "metrics.jsonl").read_bytes()
    assert run_ranks(finetune, 1, config)[0] == result  # not trained again
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_another_configuration_is_refused(learned):
    config, _ = learned
    other = replace(config, optimizer=replace(config.optimizer, clip=2.0))
    with pytest.raises(UserError, match=r"optimizer\.clip was 1\.0 and is 2\.0.*give this one its own run\.name"):
        module.prepare_folder(other)


def test_a_wrong_path_can_be_mended(tmp_path):
    config = config_in(tmp_path)
    with pytest.raises(UserError, match=r"wrong\.jsonl"):
        finetune(replace(config, data=replace(config.data, train=str(tmp_path / "wrong.jsonl"))))
    module.prepare_folder(config)


def test_predictions_do_not_depend_on_batch_size_or_windows_that_hold_all(learned):
    config, _ = learned
    model, word_pieces = load_extractor(Path(config.run_folder) / "seed-1" / "model")
    sentences = [*SENTENCES, sentence(""), *SENTENCES[::-1]] * 2
    encoded = encode_sentences(sentences, LABELS, word_pieces, max_pieces=64)
    predictions = [predict(model, encoded, batch_size=size, device=CPU) for size in (1, 3, 100)]
    assert predictions[0] == predictions[1] == predictions[2]
    assert Counter(len(one.entities) for one in predictions[0])[3] == 8
    assert predict(model, encode_sentences([], LABELS, word_pieces, max_pieces=64), batch_size=4, device=CPU) == []


def test_long_sentences_are_predicted_in_windows(learned):
    config, _ = learned
    model, word_pieces = load_extractor(Path(config.run_folder) / "seed-1" / "model")
    long = sentence(" ".join(word for one in SENTENCES for word in one.words))
    (found,) = predict(model, encode_sentences([long], LABELS, word_pieces, max_pieces=24), batch_size=4, device=CPU)
    assert found.words == long.words
    assert len(found.entities) > 4
    for relation in found.relations:
        assert relation.head < len(found.entities) > relation.tail


def test_the_other_seeds_of_a_run_must_have_its_configuration(learned):
    config, _ = learned
    third = replace(config, run=replace(config.run, seed=3))
    module.prepare_folder(replace(third, seeds=5, cluster=replace(config.cluster, parallel=2)))
    with pytest.raises(UserError, match=r"seed-1 holds a fine-tuning of another configuration \(optimizer\.clip"):
        module.prepare_folder(replace(third, optimizer=replace(config.optimizer, clip=2.0)))


def test_curves_end_with_the_scores_of_the_best_epoch(learned):
    config, result = learned
    board = EventAccumulator(str(Path(config.run_folder) / "seed-1" / "tensorboard")).Reload()
    assert len(board.Scalars("dev/entity_f1")) == 40  # not purged by what is written later
    for name, scores in (("dev", result.dev), ("test", result.test)):
        for measure, value in scores.items():
            assert [point.value for point in board.Scalars(f"best/{name}_{measure}")] == pytest.approx([value])


def test_scores_of_all_seeds_lie_in_the_run_and_are_printed(learned):
    config, _ = learned
    run = Path(config.run_folder)
    text = report_run(run)
    assert (run / "scores" / "scores.txt").read_text() in text
    assert "tiny, test" in text and "tiny, dev: entity_f1 100.0" in text
    scores = json.loads((run / "dev" / "scores" / "scores.json").read_text())
    assert scores["runs"][0]["micro_f1"]["relation_strict_f1"]["mean"] == 1
    assert (run / "scores" / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_the_subset_that_was_learned_from_is_kept(tmp_path):
    config = config_in(tmp_path, data={"fraction": 0.4}, train={"epochs": 1})
    run_ranks(finetune, 1, config)
    kept = json.loads((Path(config.run_folder) / "seed-1" / "subset.json").read_text())
    assert (kept["fraction"], kept["sentences"], kept["of"]) == (0.4, 2, 5)
    data = read_data(config)
    assert [SENTENCES[number].words for number in kept["numbers"]] == [one.words for one in data.train]


def test_a_run_of_before_there_was_a_setting_for_offsets_goes_on(learned):
    config, _ = learned
    third = replace(config, run=replace(config.run, seed=3))
    path = Path(config.run_folder) / "seed-1" / "config.yaml"
    text = path.read_text()
    try:
        path.write_text(text.replace("  offsets: characters\n", ""))
        check_same_run(third)
        with pytest.raises(UserError, match=r"data\.offsets was characters and is bytes"):
            check_same_run(replace(third, data=replace(third.data, offsets="bytes")))
    finally:
        path.write_text(text)


def test_raw_text_is_cut_by_the_rules_of_the_language_that_the_model_will_predict_by(tmp_path):
    text = {"text": "L'ami d'Ada vit là.", "entities": [{"type": "Peop", "start": 8, "end": 11}]}
    (tmp_path / "text.jsonl").write_text(json.dumps(text) + "\n")
    words = {}
    for language in ("en", "fr"):
        places = {"train": str(tmp_path / "text.jsonl"), "dev": str(tmp_path / "text.jsonl"), "test": None}
        start = {"language": language, "tokenizer": str(DEBUG_VOCAB)}
        data = read_data(config_in(tmp_path, data=places, start=start))
        (words[language],) = (sentence.words for sentence in data.train)
    assert words["fr"] == ("L'", "ami", "d'", "Ada", "vit", "là", ".") != words["en"]


def test_offsets_count_what_the_configuration_says(tmp_path):
    text = {"text": "🎉🎉 Ada came.", "entities": [{"type": "Peop", "start": 5, "end": 8}]}
    (tmp_path / "text.jsonl").write_text(json.dumps(text) + "\n")
    places = {"train": str(tmp_path / "text.jsonl"), "dev": str(tmp_path / "text.jsonl"), "test": None}
    start = {"tokenizer": str(DEBUG_VOCAB)}
    for offsets, word in (("characters", "came"), ("utf16", "Ada")):
        data = read_data(config_in(tmp_path, data=places | {"offsets": offsets}, start=start))
        (found,) = ((one.words, one.entities) for one in data.train)
        assert found[0][found[1][0].word_end - 1] == word


def finetune_until(config: FinetuneConfig, epochs: int) -> None:
    """Die in the epoch after these, before it is saved."""
    save = module._Training._save

    def save_or_die(training) -> None:
        if training.progress.epochs > epochs:
            raise KeyboardInterrupt
        save(training)

    module._Training._save = save_or_die
    try:
        finetune(config)
    except KeyboardInterrupt:
        pass
    finally:
        module._Training._save = save


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, precision):
    settings = {
        "train": {"epochs": 6, "batch_size": 2, "precision": precision, "patience": 9},
        "encoder": {"name_or_path": None, "layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 24,
                    "max_positions": 64, "dropout": 0.2},
        "sampling": {"gold_epochs": 1},
    }  # fmt: skip
    whole, killed = (config_in(tmp_path, **settings, run={"folder": str(tmp_path), "name": n}) for n in ("a", "b"))
    expected = run_ranks(finetune, 1, whole)[0]
    run_ranks(finetune_until, 1, killed, 3)
    assert not (Path(killed.run_folder) / "seed-1" / "result.json").exists()
    assert run_ranks(finetune, 1, killed)[0] == expected
    one, other = (read_metrics(Path(config.run_folder) / "seed-1") for config in (whole, killed))
    for line in (*one, *other):
        del line["elapsed_seconds"]
    assert one == other
    assert max(line["dev_entity_f1"] + line["dev_relation_strict_f1"] for line in one) == selection_score(expected.dev)
    for name in ("model.safetensors", "extractor.safetensors"):
        first, second = (Path(config.run_folder) / "seed-1" / "model" / name for config in (whole, killed))
        assert first.read_bytes() == second.read_bytes()


def test_parts_learn_at_their_own_rates(tmp_path):
    """Twice as fast a layer moves twice as far in Adam's first step, and at a rate of 0 nothing moves."""
    config = config_in(
        tmp_path,
        train={"epochs": 1, "batch_size": 5},
        optimizer={"heads": 0.0, "layer_decay": 0.5, "weight_decay": 0.0, "warmup_share": 0.0, "learning_rate": 1e-3},
    )
    before, after = run_ranks(weights_before_and_after, 1, config)[0]
    layer = "sentence_encoder.model.encoder.layer.{}.output.dense.weight"
    moved = {name: np.abs(after[name] - before[name]).max() for name in before}
    assert moved[layer.format(1)] == pytest.approx(1e-3, rel=1e-2)
    assert moved[layer.format(0)] == pytest.approx(5e-4, rel=1e-2)
    assert moved["sentence_encoder.model.embeddings.word_embeddings.weight"] == pytest.approx(5e-4, rel=1e-2)
    heads = [distance for name, distance in moved.items() if not name.startswith("sentence_encoder.")]
    assert len(heads) > 20
    assert max(heads) == 0


def weights_before_and_after(config: FinetuneConfig) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    seed_random_generators(config.run.seed)
    start = load_start(config, LABELS, ANY_TYPES)
    before = {name: parameter.detach().numpy().copy() for name, parameter in start.model.named_parameters()}
    finetune(config)
    model, _ = load_extractor(Path(config.run_folder) / "seed-1" / "model")
    return before, {name: parameter.numpy() for name, parameter in model.named_parameters()}


def finetune_with_scores(config: FinetuneConfig, scores: list[float]) -> Result:
    """With these scores after its epochs."""
    true_scores, waiting = module._micro_f1, iter(scores)

    def next_scores(gold, predicted) -> dict[str, float]:
        return dict.fromkeys(true_scores(gold, predicted), next(waiting, 0.0))

    module._micro_f1 = next_scores
    try:
        return finetune(config)
    finally:
        module._micro_f1 = true_scores


@pytest.mark.parametrize(
    ("scores", "best", "epochs"),
    [
        ([0.1, 0.3, 0.2, 0.3, 0.2, 0.4], 2, 5),
        ([0.0, 0.0, 0.0, 0.0, 0.2, 0.3, 0.1, 0.1, 0.2, 0.4], 6, 9),  # nothing was found in the first four
        ([0.0] * 9, 1, 7),
    ],
)
def test_training_ends_when_dev_has_not_become_better(tmp_path, scores, best, epochs):
    config = config_in(tmp_path, train={"epochs": 7 if epochs == 7 else 30, "patience": 2})
    result = run_ranks(finetune_with_scores, 1, config, scores)[0]
    assert (result.best_epoch, result.epochs) == (best, epochs)


def test_seeds_of_other_data_or_other_weights_are_refused(tmp_path):
    config = config_in(tmp_path, train={"epochs": 1}, run={"folder": str(tmp_path), "name": "mixed"})
    run_ranks(finetune, 1, config)
    second = replace(config, run=replace(config.run, seed=2))
    module.prepare_folder(second)
    module.check_same_start(second, str(load_start(config, LABELS, ANY_TYPES).report))
    with pytest.raises(
        UserError, match=r"seed-1 began from other weights \(loaded: .*are now: of x, step 9.*own run\.name"
    ):
        module.check_same_start(second, "of x, step 9")
    write_unified(SENTENCES[:4], Path(config.data.train))
    for one in (config, second):  # also the seed that is done: its scores are of the old data
        with pytest.raises(UserError, match=r"seed-1 holds a fine-tuning of other data: data\.train, data\.dev, data"):
            module.prepare_folder(one)


def test_predictions_of_a_seed_whose_folder_is_gone_are_not_averaged_with_others(tmp_path):
    config = config_in(tmp_path)
    write_predictions(Path(config.run_folder), 4, SENTENCES)
    with pytest.raises(UserError, match=r"seed-4\.jsonl .* seed-4 is not there"):
        module.prepare_folder(config)
    (Path(config.run_folder) / "seed-4").mkdir()
    module.prepare_folder(config)


def test_a_seed_goes_on_though_its_pre_training_has_gone_on(tmp_path):
    config = config_in(tmp_path, train={"epochs": 4, "batch_size": 5})
    run_ranks(finetune_until, 1, config, 2)
    inputs = Path(config.run_folder) / "seed-1" / "inputs.json"
    began = json.loads(inputs.read_text())
    module.check_same_start(config, "of x, step 9")
    assert json.loads(inputs.read_text()) == began
    assert began["start"].startswith("loaded: ") and len(began["data.train"]) == 64


def finetune_in_vain(config: FinetuneConfig) -> str:
    with pytest.raises(UserError) as refused:
        finetune(config)
    return str(refused.value)


def test_a_rate_that_is_too_high_is_said_in_one_line(tmp_path):
    config = config_in(tmp_path, optimizer={"learning_rate": 1e30, "warmup_share": 0.0})
    told = run_ranks(finetune_in_vain, 1, config)[0]
    assert re.fullmatch(r"the gradient is not finite in epoch 1, at step \d: .*run\.name and a lower .* 1e\+30", told)


def test_an_epoch_sees_every_sentence_once_in_an_order_of_its_own():
    orders = [epoch_order(50, epoch, seed=seed).tolist() for epoch, seed in ((0, 1), (0, 1), (1, 1), (0, 2))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]


def test_a_dry_run_says_what_would_be_done(tmp_path):
    config = config_in(tmp_path)
    told = describe(config)
    assert "5 sentences to learn from, 5 to choose the best epoch, 5 to test" in told
    assert "entity types: 'LOC', 'ORG', 'PER'" in told
    assert "cannot learn: nothing" in told
    assert "120 updates in 40 epochs" in told
    assert not Path(config.run_folder).exists()


def test_what_cannot_be_done_is_said_in_one_line(tmp_path):
    config = config_in(tmp_path)
    with pytest.raises(UserError, match="no epoch would be evaluated"):
        describe(config_in(tmp_path, train={"epochs": 3, "first_evaluation": 3}))
    empty = tmp_path / "empty.jsonl"
    write_unified([sentence("nothing here")], empty)
    with pytest.raises(UserError, match="holds no entities: there is nothing to learn"):
        describe(replace(config, data=replace(config.data, train=str(empty))))
    with pytest.raises(UserError, match=r"missing\.jsonl"):
        describe(replace(config, data=replace(config.data, dev=str(tmp_path / "missing.jsonl"))))


def test_labels_are_those_of_all_the_training_data_whatever_the_fraction(tmp_path):
    config = config_in(tmp_path)
    data = read_data(replace(config, data=replace(config.data, fraction=0.2)))
    assert len(data.train) == 1
    assert data.labels == LABELS
    assert np.isin(data.train[0].words, [word for one in SENTENCES for word in one.words]).all()
