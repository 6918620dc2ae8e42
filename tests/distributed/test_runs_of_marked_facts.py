"""CP and MTB by the engine: the same run at other ranks, stages, fusions and stops; and what is exported of one."""

from pathlib import Path

import pytest
import yaml

from data_shards.pipeline.build_config import PairConfig
from data_shards.pipeline.pairs import pair_sentences
from data_shards.text.word_pieces import WordPieces
from spe_dist.documents.marked_facts import MARKERS
from spe_dist.export.export_run import export_run
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.recipe import config_from_values, config_yaml, load_recipe
from spe_dist.train.dry_run import describe_run
from spe_dist.train.run_diff import compare_runs
from tests.exactness.runs import metrics_of, run
from tests.unit.data_shards.derive_here import derived_here
from tests.unit.spe_dist.fact_sentences import write_fact_sentences
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = pytest.mark.distributed
DIGESTS = {"cp": ("digest_records", "digest_masks", "digest_relations"), "mtb": ("digest_records", "digest_masks")}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("facts")
    write_fact_sentences(folder / "cp", 80, shards=1)
    with derived_here():
        pair_sentences(PairConfig(str(folder / "cp"), folder / "mtb", most_sentences=3))
    return {name: folder / name for name in ("cp", "mtb")}


def configured(name: str, shards: dict[str, Path], runs: Path, steps: int, *, stage: int, fused: int):
    values = yaml.safe_load(config_yaml(load_recipe(ROOT / f"launcher/recipes/{name}_minilm_cpu.yaml")))
    sizes = {"layers": 1, "hidden_size": 32, "heads": 2, "intermediate_size": 48, "max_positions": 400}
    small = {
        "run": {"folder": str(runs), "name": name},
        "data": {"shards": str(shards[name]), "held_out": 18},
        "encoder": sizes | {"name_or_path": None, "dropout": 0.0},
        "batch": {"lanes": 4, "lane_size": 4, "lanes_per_forward": fused},
        "optimizer": {"warmup_steps": 4},  # whose rates do not depend on the number of steps
        "train": {"steps": steps, "zero_stage": stage, "precision": "fp32", "log_every": 1, "evaluate_every": 2},
    }
    small["train"]["gradients_every"] = 3
    return config_from_values(
        {key: v | small.get(key, {}) if isinstance(v, dict) else v for key, v in values.items()}, source="test"
    )


def test_ranks_stages_fusion_and_a_restart_change_nothing_and_a_run_is_exported(shards, tmp_path):
    one = [configured(name, shards, tmp_path / "one", 6, stage=1, fused=4) for name in DIGESTS]
    half, two = (
        [configured(name, shards, tmp_path / "two", steps, stage=2, fused=1) for name in DIGESTS] for steps in (3, 6)
    )
    run(1, one)
    run(2, [*half, *two])  # the latter go on where the former ended
    for name, mine, other in zip(DIGESTS, one, two, strict=True):
        mine, other = Path(mine.run_folder), Path(other.run_folder)
        comparison = compare_runs(mine, other, rtol=1e-5)
        assert comparison.difference is None, str(comparison.difference)
        assert comparison.steps == [1, 2, 3, 4, 5, 6] and comparison.checkpoint == 6
        for first, second in zip(metrics_of(mine), metrics_of(other), strict=True):
            assert all(first[digest] == second[digest] for digest in DIGESTS[name])
        exported = export_run(mine)
        assert name.upper() in (exported / "README.md").read_text()
        encoder, words = (SpanPairModel.from_pretrained(exported).sentence_encoder, mine / "tokenizer")
        assert encoder.model.config.vocab_size == WordPieces.load(str(words)).vocab_size + len(MARKERS)
        assert "marked" in describe_run(configured(name, shards, tmp_path / "one", 6, stage=1, fused=4))
