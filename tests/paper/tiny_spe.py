"""The smallest SPE there can be, without shards and without DeepSpeed."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import yaml

import launcher
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.methods.spe.method import build_spe as build_method
from spe_dist.recipe import config_from_values
from tests.unit.spe_dist.batches.sentences import SPECIAL, random_sentences, records_of

RECIPES = Path(launcher.__file__).with_name("recipes")
LANES, LANE_SIZE = 6, 3
SENTENCES = random_sentences(LANES * LANE_SIZE, seed=0, least=8, longest=16)


def recipe_values(name="debug"):
    return yaml.safe_load((RECIPES / f"{name}.yaml").read_text())


def tiny_config(**sections):
    """The debug recipe, smaller; `cspo={"weight": 0.0}` changes a setting."""
    values = recipe_values()
    small = {
        "batch": {"lanes": LANES, "lane_size": LANE_SIZE, "lanes_per_forward": 2},
        "encoder": {"layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 24, "max_positions": 128},
        "span_encoder": {"channels": 4, "size": 10},
        "pair_encoder": {"attention_size": 8, "position_size": 4},
        "tbo": {"offset_size": 4},
        "cspo": {"queue_size": 40},
    }
    for changes in (small, sections):
        for section, change in changes.items():
            values[section] = values.get(section, {}) | change if isinstance(change, dict) else change
    return config_from_values(values, source="test")


class Reader:
    """A dataset of SENTENCES."""

    manifest = SimpleNamespace(
        tokenizer=SimpleNamespace(vocab_size=20, special_ids=SPECIAL),
        max_pieces=128,
        build={"min_words": 2},
        shard_records=(len(SENTENCES),),
    )

    def __len__(self):
        return len(SENTENCES)

    def take(self, ids):
        return records_of(SENTENCES).take(np.asarray(ids).reshape(-1))


class PlainEngine:
    """What a method asks of an engine; remembers what it was given."""

    def __init__(self, model):
        self.model, self.calls = model, []

    def forward(self, *args):
        self.calls.append(args)
        return self.model(*args)

    def backward(self, loss):
        loss.backward()

    @contextmanager
    def gather_parameters(self, names):
        yield {name: parameter.detach() for name, parameter in self.model.named_parameters() if name in names}


def build_spe(**sections):
    torch.manual_seed(0)
    spe = build_method(tiny_config(**sections), Reader(), device=torch.device("cpu"))
    return spe, PlainEngine(spe.model)


def forwards_of_step(spe, *, step=0, lanes_per_forward=2):
    plan = BatchPlan(LANES, LANE_SIZE, lanes_per_forward, world_size=1)
    batches = []
    for lanes in plan.forwards(0):
        ids = np.array([[lane * LANE_SIZE + i for i in range(LANE_SIZE)] for lane in lanes], dtype=np.int64)
        batches.append(spe.collate(Reader().take(ids), ids.reshape(len(lanes), LANE_SIZE), step, lanes))
    return plan, batches
