"""Epochs, resuming, rates of parts and the end of training, seen in tiny extractors."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_shards.annotated.unified import write_unified
from data_shards.errors import UserError
from spe_dist.checkpoint.random_states import seed_random_generators
from spe_dist.extraction.config import ExtractionConfig
from spe_dist.extraction.predict.extractor_folder import load_extractor
from spe_dist.extraction.scores.joint_scoring import JointScoring
from spe_dist.finetuning.folder import Result
from spe_dist.finetuning.loop import describe, epoch_order, finetune
from spe_dist.train.run_log import read_metrics
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.extraction.tiny import sentence
from tests.unit.spe_dist.extraction.tiny_finetuning import config_in, finetune_until, start_of

pytestmark = pytest.mark.any_version

SCORING = JointScoring()


def test_the_best_epoch_is_the_first_of_the_highest_score(learned):
    config, result = learned
    metrics = read_metrics(Path(config.run_folder) / "seed-1")
    scores = [line["dev_entity_f1"] + line["dev_relation_strict_f1"] for line in metrics]
    assert result.best_epoch == 1 + scores.index(max(scores))
    assert len(set(scores)) > 2


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
    assert max(line["dev_entity_f1"] + line["dev_relation_strict_f1"] for line in one) == SCORING.selection_score(
        expected.dev
    )
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


def weights_before_and_after(config: ExtractionConfig) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    seed_random_generators(config.run.seed)
    start = start_of(config)
    before = {name: parameter.detach().numpy().copy() for name, parameter in start.model.named_parameters()}
    finetune(config)
    model, _ = load_extractor(Path(config.run_folder) / "seed-1" / "model")
    return before, {name: parameter.numpy() for name, parameter in model.named_parameters()}


def finetune_with_scores(config: ExtractionConfig, scores: list[float]) -> Result:
    """With these scores after its epochs."""
    true_scores, waiting = JointScoring.scores, iter(scores)

    def next_scores(self, gold, predicted) -> dict[str, float]:
        return dict.fromkeys(true_scores(self, gold, predicted), next(waiting, 0.0))

    JointScoring.scores = next_scores
    try:
        return finetune(config)
    finally:
        JointScoring.scores = true_scores


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


def finetune_in_vain(config: ExtractionConfig) -> str:
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
