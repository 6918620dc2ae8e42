"""A third method from outside the package: one installed folder, one recipe, no file of the project touched."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModel

from data_shards.errors import UserError
from launcher import report, shards
from spe_dist.export.export_run import export_run
from spe_dist.recipe import load_recipe
from spe_dist.train.dry_run import describe_run
from spe_dist.train.loop import train
from spe_dist.train.run_log import format_metrics, read_metrics
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

pytestmark = pytest.mark.distributed

PARITY = '''
"""Is the number of words of a sentence even or odd? And how many odd ones has the step, over all ranks?"""

from typing import Literal

import torch
import torch.distributed as dist
from pydantic.dataclasses import dataclass
from torch import nn

from spe_dist.batches.batch import Batch
from spe_dist.batches.packing import as_tensor, lane_digest, pack
from spe_dist.config import STRICT, Config, Weight
from spe_dist.methods.run_summary import RunSummary, Objective
from spe_dist.methods.method import Method
from spe_dist.methods.method_spec import Column, MethodSpec
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.objectives.classifier import Classifier


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ParityConfig(Config):
    method: Literal["parity"]
    weight: Weight


class ParityCollate:
    def __init__(self, special):
        self.special = special

    def __call__(self, records, record_ids, step, lanes):
        places, packed = pack(records.pieces.values, records.pieces.lengths, self.special)
        digest = sum(lane_digest(lane, [ids]) for lane, ids in zip(lanes, record_ids, strict=True))
        return Batch(
            packed=packed,
            word_pieces=as_tensor(places[records.first_pieces]),
            counts=torch.tensor([len(records)]),
            record_ids=as_tensor(record_ids.reshape(-1)),
            digests=torch.tensor([digest, 0]),
        )


def words_of(batch):
    sequences = torch.searchsorted(batch.packed.sequence_starts.long(), batch.word_pieces, right=True) - 1
    return torch.bincount(sequences, minlength=len(batch.record_ids))


class ParityModel(nn.Module):
    def __init__(self, sentence_encoder):
        super().__init__()
        self.encoder = nn.ModuleDict({"sentence_encoder": sentence_encoder})
        self.parity = Classifier(sentence_encoder.hidden_size, 2)

    def forward(self, batch):
        states = self.encoder["sentence_encoder"](batch.packed)
        losses, found = self.parity(states[batch.packed.sequence_starts[:-1]], words_of(batch) % 2)
        return losses.sum()[None], found.sum()[None].float()


class Parity(Method):
    terms, metrics, counted = ("parity",), ("parity_found",), ("odd",)

    def __init__(self, config, reader):
        super().__init__(config, reader)
        self.collate = ParityCollate(reader.manifest.tokenizer.special_ids)
        self.model = ParityModel(self.new_encoder())
        self.term_weights = (config.weight,)
        self.odd_of_step = torch.zeros((), dtype=torch.int64)

    def before_step(self, engine, world, plan, batches):
        odd = sum(int((words_of(batch) % 2).sum()) for batch in batches)
        self.odd_of_step.fill_(odd)
        dist.all_reduce(self.odd_of_step)
        assert odd <= int(self.odd_of_step) <= plan.global_batch
        return {"odd": odd}

    def state(self):
        return {"odd_of_step": self.odd_of_step}

    def report(self, sums):
        return super().report(sums) | {"parity_odd": int(self.odd_of_step)}


SPEC = MethodSpec(
    title="Parity",
    config=ParityConfig,
    build=lambda config, reader, *, device: Parity(config, reader),
    build_collate=lambda config, reader: ParityCollate(reader.manifest.tokenizer.special_ids),
    new_model=lambda config, encoder, manifest: ParityModel(new_sentence_encoder(encoder)),
    summarize=lambda config, encoder: RunSummary(
        "Parity", "none", "text", (Objective("parity", "parity", config.weight),)
    ),
    sequences=lambda config: "each record once",
    columns=(Column("parity_loss", "parity loss", "parity {:.2f}"), Column("parity_odd", "odd records", "odd {:.0f}")),
)
'''


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A folder of installed packages that holds the method."""
    folder = tmp_path / "site-packages"
    about = folder / "parity-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "parity.py").write_text(PARITY)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: parity\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[spe_dist.methods]\nparity = parity:SPEC\nbroken = parity:MISSING\n")
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("parity", None)


def write_recipe(folder: Path, *, steps: int) -> Path:
    values = yaml.safe_load((ROOT / "launcher/recipes/debug.yaml").read_text())
    shared = {name: values[name] for name in ("run", "data", "batch", "encoder", "optimizer", "train", "cluster")}
    shared["run"] |= {"name": "parity", "folder": str(folder / "runs")}
    shared["data"] |= {"shards": str(folder / "shards"), "workers": 0}
    shared["batch"] |= {"lanes": 4, "lane_size": 8, "lanes_per_forward": 1}
    shared["encoder"] |= {"layers": 1, "hidden_size": 32, "heads": 2, "intermediate_size": 48}
    shared["optimizer"] |= {"warmup_steps": 2, "learning_rate": 0.01}
    shared["train"] |= {"steps": steps, "log_every": 1, "checkpoint_every": 5, "zero_stage": 2}
    recipe = folder / f"parity_{steps}.yaml"
    recipe.write_text(yaml.safe_dump({"method": "parity", "weight": 1.0} | shared))
    return recipe


def train_with(package: Path, recipe: Path) -> None:
    sys.path.insert(0, str(package))
    try:
        train(load_recipe(recipe))
    finally:
        sys.path.remove(str(package))


def test_a_method_from_outside_trains_saves_resumes_and_is_exported(package, tmp_path, capsys):
    write_dataset(tmp_path / "shards")
    half, whole = (write_recipe(tmp_path, steps=steps) for steps in (5, 10))
    assert "each record once" in describe_run(load_recipe(whole))
    for recipe in (half, whole):  # the second goes on where the first ended
        run_ranks(train_with, 2, package, recipe)
    run = tmp_path / "runs" / "parity"
    metrics = read_metrics(run)
    assert [line["step"] for line in metrics] == list(range(1, 11))
    assert all(0 < line["parity_odd"] < 32 and line["parity_loss"] > 0 for line in metrics)
    assert "resumed" in (run / "logs" / "rank-0.log").read_text()
    assert (run / "logs" / "rank-0.log").read_text().count("parity 0.") >= 10
    assert "parity" not in format_metrics(metrics[-1])

    model = AutoModel.from_pretrained(export_run(run))
    assert torch.isfinite(model(torch.ones(1, 4, dtype=torch.int64)).last_hidden_state).all()
    report.main([str(run), "--out", str(tmp_path / "report")])
    assert "| parity loss | odd records |" in (tmp_path / "report" / "parity.md").read_text()
    shards.main(["show", str(tmp_path / "shards"), "--config", str(whole)])
    assert "pieces" in capsys.readouterr().out


def test_a_method_that_is_not_installed_is_named_with_those_that_are(package, tmp_path):
    recipe = write_recipe(tmp_path, steps=5)
    for name, message in (
        ("parrot", r"method is 'parrot'; these are offered: spe, enpar, .*parity"),
        ("broken", r"cannot import the method 'broken' \(parity:MISSING\)"),
        (["spe"], r"method is \['spe'\]; these are offered"),
    ):
        recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | {"method": name}))
        with pytest.raises(UserError, match=message):
            load_recipe(recipe)
