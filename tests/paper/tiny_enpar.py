"""The smallest ENPAR there can be, without shards and without DeepSpeed."""

from types import SimpleNamespace

import numpy as np
import torch

from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.methods.enpar.method import Enpar
from spe_dist.recipe import config_from_values
from tests.paper.tiny_spe import LANE_SIZE, LANES, PlainEngine, recipe_values
from tests.unit.spe_dist.batches.entity_sentences import random_records
from tests.unit.spe_dist.batches.sentences import SPECIAL

TYPES = ("Person", "Place", "Work", "Year")
_, _, RECORDS = random_records(LANES * LANE_SIZE, seed=0, least=8, longest=16)


def tiny_config(**sections):
    """The debug recipe, smaller; `acd={"weight": 0.0}` changes a setting."""
    values = recipe_values("enpar_debug")
    small = {
        "batch": {"lanes": LANES, "lane_size": LANE_SIZE, "lanes_per_forward": 2},
        "encoder": {"layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 24, "max_positions": 128},
        "entity_encoder": {"channels": 4, "size": 10},
        "context_encoder": {"channels": 3, "size": 6},
        "pair_encoder": {"size": 12},
        "masking": {"masked": 0.3, "replaced": 0.2},
    }
    for changes in (small, sections):
        for section, change in changes.items():
            values[section] = values.get(section, {}) | change if isinstance(change, dict) else change
    return config_from_values(values, source="test")


class Reader:
    """A dataset of RECORDS."""

    location = "tiny"
    manifest = SimpleNamespace(
        tokenizer=SimpleNamespace(vocab_size=20, special_ids=SPECIAL),
        max_pieces=128,
        build={"entities": {"min_entities": 2}},
        require_entities=lambda location: TYPES,
        entity_types=dict.fromkeys(TYPES, 1),
    )

    def __len__(self):
        return len(RECORDS)

    def take(self, ids):
        return RECORDS.take(np.asarray(ids).reshape(-1))


def build_enpar(**sections):
    torch.manual_seed(0)
    enpar = Enpar(tiny_config(**sections), Reader())
    return enpar, PlainEngine(enpar.model)


def forwards_of_step(enpar, *, step=0, lanes_per_forward=2):
    plan = BatchPlan(LANES, LANE_SIZE, lanes_per_forward, world_size=1)
    batches = []
    for lanes in plan.forwards(0):
        ids = np.array([[lane * LANE_SIZE + i for i in range(LANE_SIZE)] for lane in lanes], dtype=np.int64)
        batches.append(enpar.collate(Reader().take(ids), ids.reshape(len(lanes), LANE_SIZE), step, lanes))
    return plan, batches
