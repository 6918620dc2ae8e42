"""A tiny run, really trained: shards written without Ray, three steps in a process of their own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

import data_shards
from data_shards.pipeline.build import _tokenizer_info
from data_shards.pipeline.build_config import RecordLimits
from data_shards.pipeline.corpus import Source, WorkUnit
from data_shards.pipeline.ner_pipeline import EntityPlan
from data_shards.pipeline.unit_builder import TOKENIZER_FOLDER, UnitPlan, build_unit
from data_shards.sample.corpus import _as_json, generate
from data_shards.shards.manifest import Manifest, Statistics
from data_shards.shards.record import ENTITIES, TEXT_LAYERS
from data_shards.text.word_pieces import WordPieces
from spe_dist.recipe import config_from_values, config_yaml, load_recipe
from spe_dist.train.loop import train
from tests.forked import run_forked

ROOT = Path(data_shards.__file__).parent.parent
DEBUG_VOCAB = ROOT / "data_shards" / "debug_vocab.txt"
SMALL = {
    "encoder": {"hidden_size": 32, "heads": 2, "intermediate_size": 48},
    "batch": {"lanes": 2, "lanes_per_forward": 2},
    "span_encoder": {"channels": 8, "size": 24},
    "pair_encoder": {"attention_size": 16, "position_size": 4},
    "tbo": {"offset_size": 8},
    "cspo": {"queue_size": 64, "momentum": 0.5},
    "optimizer": {"warmup_steps": 0, "learning_rate": 0.01},
    "train": {"steps": 3, "log_every": 1},
}
SMALL_ENPAR = SMALL | {
    "entity_encoder": {"channels": 8, "size": 20},
    "context_encoder": {"channels": 6, "size": 12},
    "pair_encoder": {"size": 14},
}
NEW_ENCODER = {"name_or_path": None, "layers": 1, "max_positions": 200, "dropout": 0.0}
SMALL_SPANBERT = {
    "encoder": SMALL["encoder"] | NEW_ENCODER,
    "batch": SMALL["batch"],
    "sbo": {"position_size": 8},
    "optimizer": SMALL["optimizer"],
    "train": SMALL["train"] | {"precision": "fp32"},
}
SMALL_ERICA = SMALL | {"encoder": SMALL["encoder"] | {"max_positions": 200}}


def write_dataset(
    folder: Path, sentences: int = 200, shards: int = 1, *, entities: bool = False, tokenizer: str = str(DEBUG_VOCAB)
) -> Manifest:
    """A dataset of shards of equally many sentences; with entities, of those that have two or more."""
    word_pieces = WordPieces.load(tokenizer)
    folder.mkdir(parents=True)
    word_pieces.save(folder / TOKENIZER_FOLDER)
    told = list(generate(sentences, seed=3))
    if entities:
        lines = [json.dumps(_as_json(sentence)).encode() + b"\n" for sentence in told]
    else:
        lines = [" ".join(sentence.words).encode() + b"\n" for sentence in told]
    source = Source("corpus", folder, "jsonl" if entities else "text")
    types = tuple(sorted({entity.type for sentence in told for entity in sentence.entities}))
    entity_plan = EntityPlan(types, None, 2) if entities else None
    plan = UnitPlan(folder, (source,), "", "text", "en", 64, RecordLimits(2, 128, 64), entity_plan)
    (folder / ".units").mkdir()
    size = sentences // shards
    built = [
        build_unit(plan, WorkUnit(0, i, 1 + i * size, b"".join(lines[i * size : (i + 1) * size])))[0]
        for i in range(shards)
    ]
    tokenizer_info = _tokenizer_info(folder / TOKENIZER_FOLDER, word_pieces)
    build: dict[str, Any] = {"language": "en"}
    statistics = sum((unit.statistics for unit in built), Statistics())
    listed = tuple(unit.shard for unit in built if unit.shard is not None)
    manifest = Manifest("tiny", listed, TEXT_LAYERS, 64, 64, tokenizer_info, build, statistics)
    if entity_plan is not None:
        counts = {name: sum(unit.entity_counts[i] for unit in built) for i, name in enumerate(types)}
        build["entities"] = entity_plan.settings
        manifest = replace(manifest, layers=(*TEXT_LAYERS, ENTITIES), entity_types=counts)
    manifest.save(folder)
    return manifest


def train_tiny_run(folder: Path, recipe_name: str = "debug", **overrides: dict) -> Path:
    """Train three steps in `folder`/runs/tiny on shards in `folder`/shards; gives the run's folder."""
    values = yaml.safe_load(config_yaml(load_recipe(ROOT / "launcher" / "recipes" / f"{recipe_name}.yaml")))
    places = {"run": {"name": "tiny", "folder": str(folder / "runs")}, "data": {"shards": str(folder / "shards")}}
    for settings in (SMALL if recipe_name == "debug" else SMALL_ENPAR, places, overrides):
        values = {
            key: value | settings.get(key, {}) if isinstance(value, dict) else value for key, value in values.items()
        }
    config = config_from_values(values, source="tiny")
    if not (folder / "shards").exists():
        write_dataset(folder / "shards", entities=recipe_name == "enpar_debug")
    done = run_forked(train, config)
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(config.run_folder)
