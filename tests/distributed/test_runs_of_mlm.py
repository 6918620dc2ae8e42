"""Masked language modelling by the engine: the same run at other ranks, stages and stops; it learns; it is exported."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertConfig, BertForMaskedLM

from data_shards.shards.reader import ShardReader
from spe_dist.export.export_run import export_run
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.methods.registry import spec_of
from spe_dist.train.data_order import build_order
from spe_dist.train.run_diff import compare_runs
from tests.exactness.runs import configure, metrics_of, run
from tests.unit.spe_dist.tiny_run import write_dataset

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mlm") / "shards"
    write_dataset(folder, sentences=130)
    return folder


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A longer run of SpanBERT's objectives, on one rank and few sentences."""
    folder = tmp_path_factory.mktemp("learned")
    write_dataset(folder / "shards", sentences=64)
    config = configure(
        folder / "shards",
        folder / "runs",
        method="mlm",
        encoder={"hidden_size": 64, "intermediate_size": 128},
        batch={"lanes": 1, "lane_size": 32},
        optimizer={"learning_rate": 5e-3, "warmup_steps": 10},
        train={"steps": 120, "log_every": 40},
    )
    run(1, [config])
    return config


def test_ranks_stages_fusion_and_a_restart_change_nothing(shards, tmp_path):
    def configured(name, steps, **settings):
        train = {"zero_stage": settings.pop("zero_stage"), "steps": steps, "log_every": 1, "checkpoint_every": 100}
        return configure(shards, tmp_path / name, method="mlm", train=train, **settings)

    fused = configured("fused", 9, zero_stage=1, batch={"lanes_per_forward": 4})
    half, whole = (configured("ranks", steps, zero_stage=2) for steps in (4, 9))
    run(1, [fused])
    run(2, [half, whole])  # the second goes on where the first ended
    comparison = compare_runs(Path(fused.run_folder), Path(whole.run_folder), rtol=1e-5)
    assert comparison.difference is None, str(comparison.difference)
    assert comparison.steps == list(range(1, 10)) and comparison.checkpoint == 9
    assert all(line["sbo_loss"] > 0 for line in metrics_of(Path(whole.run_folder)))


def test_the_head_of_a_checkpoint_is_taken_where_a_run_begins_and_not_where_it_goes_on(shards, tmp_path):
    reader, encoder = ShardReader(str(shards)), tmp_path / "encoder"
    shutil.copytree(reader.tokenizer_folder(), encoder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    bert = BertForMaskedLM(BertConfig(vocab_size=reader.manifest.tokenizer.vocab_size, **sizes))
    bert.save_pretrained(encoder)
    half, whole = (
        configure(shards, tmp_path, method="mlm", encoder={"name_or_path": str(encoder)}, train={"steps": steps})
        for steps in (1, 2)
    )
    run(1, [half, whole])
    log = Path(whole.run_folder, "logs", "rank-0.log")
    assert log.read_text().count(f"loaded the head of masked language modelling from {encoder}") == 1
    method = spec_of(half).build(half, reader, device=torch.device("cpu"))
    head, given = method.model.mlm.block.linear.weight, bert.cls.predictions.transform.dense.weight
    assert not torch.equal(head, given)
    method.begin()
    assert torch.equal(head, given)


def test_both_objectives_beat_the_most_frequent_piece(learned):
    """Of what is hidden in other steps: the one answer that is right most often, chosen in hindsight."""
    reader = ShardReader(learned.data.shards)
    collate = spec_of(learned).build_collate(learned, reader)
    order = build_order(learned, reader.manifest)
    batches = [
        collate(reader.take(ids), ids, step, [0])
        for step in range(80, 120)
        for ids in [order.record_ids(step, [0])]
    ]  # fmt: skip
    last = metrics_of(Path(learned.run_folder))[-1]  # the mean over these steps
    for term in ("mlm", "sbo"):
        targets = torch.cat([getattr(batch, f"{term}_targets") for batch in batches])
        most_frequent = int(targets.bincount().max()) / len(targets)
        deviation = (most_frequent * (1 - most_frequent) / len(targets)) ** 0.5
        assert last[f"{term}_accuracy"] > most_frequent + 5 * deviation, (term, last, most_frequent)


def test_an_export_is_a_sentence_encoder_whose_vectors_are_pooled(learned):
    exported = export_run(Path(learned.run_folder))
    assert torch.isfinite(AutoModel.from_pretrained(exported)(torch.ones(1, 4, dtype=torch.int64))[0]).all()
    model = SpanPairModel.from_pretrained(exported)
    assert model.description.pooling == "mean"
    assert "SpanBERT" in (exported / "README.md").read_text()
