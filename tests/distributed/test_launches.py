"""A step launches little on a GPU, and compiled layers are compiled once: counted without one."""

import sys
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

from spe_dist.benchmarks.launches import count_launches, grouped_launches
from spe_dist.models import sentence_encoder
from spe_dist.models.packed_attention import varlen_layout
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.recipe import config_from_values, read_values
from spe_dist.train.session import open_session
from tests.distributed.ranks import Ranks
from tests.exactness.runs import configure
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

pytestmark = pytest.mark.distributed
# BERT-base, one forward. Before gradients and averages were grouped: 2,653 at stage 1 and 5,909 at stage 2.
MOST = {1: 1_050, 2: 2_250}
MOST_OF_A_PART = {
    "key pass": 185,
    "forward pass": 295,
    "backward pass, gradients in fp32": 450,
    "norm, clipping, Adam": 50,
    "average of the key encoder": 12,
    "queue": 30,
    "losses and counts": 40,
}
STEPS, WARM_UP = 50, 3


def in_a_new_process(function, *args):
    """Other tests leave settings of torch in ranks that they share, such as determinism, which fills new memory."""
    ranks = Ranks(1)
    try:
        return ranks.call(function, args)
    finally:
        ranks.kill()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("launches") / "shards"
    write_dataset(folder, sentences=400)
    return folder


def recipe_of_the_paper(shards, stage):
    values = read_values(ROOT / "launcher/recipes/spe_wiki.yaml")
    values["data"] |= {"shards": str(shards), "workers": 0}
    values["encoder"] |= {"name_or_path": None}
    values["cluster"] = {"workers": 1}
    values["train"] |= {"zero_stage": stage}
    return config_from_values(values, source="test")


def count_all(configs):
    return [count_launches(config) for config in configs]


def test_a_step_of_bert_base_launches_little(shards):
    (counts,) = in_a_new_process(count_all, [recipe_of_the_paper(shards, stage) for stage in MOST])
    for (stage, most), parts in zip(MOST.items(), counts, strict=True):
        by_part = {part.part: part.launches for part in parts}
        sys.stdout.write(f"ZeRO-{stage}: {sum(by_part.values())} launches a step, {by_part}\n")  # of a failure
        assert sum(by_part.values()) <= most, stage
    of_stage_1 = {part.part: part for part in counts[0]}
    assert {name: part.launches for name, part in of_stage_1.items() if part.launches > MOST_OF_A_PART[name]} == {}
    key_pass, forward = of_stage_1["key pass"].operators, of_stage_1["forward pass"].operators
    # The rounded copy needs no casts of weights, and joint projections no copies: their memory lies side by side.
    assert key_pass["spe_dist.short_attention"] == forward["spe_dist.short_attention"] == 12
    assert key_pass["aten._to_copy"] < 10 and "aten.cat" not in key_pass
    assert key_pass["aten._foreach_copy_"] == 1


@pytest.mark.parametrize(
    ("sizes", "lists", "launches"),
    [
        ([1] * 110, 1, 1), ([1] * 111, 1, 2), ([1] * 64, 2, 1), ([1] * 65, 2, 2), ([320 * 65_536], 2, 1),
        ([320 * 65_536 + 1], 2, 2), ([65_536 * 160] * 4, 3, 2), ([1] * 61, 7, 3),
    ],
)  # fmt: skip
def test_grouped_operators_count_as_many_launches_as_torch_makes(sizes, lists, launches):
    assert grouped_launches(sizes, lists) == launches


def compiled_steps(config, graph_pieces):
    """Graphs of a run with compiled layers after the warm-up and in the end, broken ones, and sizes that they met."""
    compile_layers, sizes, seen = SentenceEncoder.compile_layers, set(), []

    def traced(encoder, **_):  # a session on a CPU refuses `compute.graph_pieces`
        compile_layers(encoder, graph_pieces=graph_pieces, backend="eager")

    def layout_of(packed, **_):
        sizes.add((len(packed.piece_ids), len(packed.sequence_starts), packed.longest))
        return varlen_layout(packed)

    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    with (
        patch.object(SentenceEncoder, "compile_layers", traced),
        patch.object(sentence_encoder, "layout_of", layout_of),
        open_session(replace(config, train=replace(config.train, steps=STEPS))) as session,
    ):
        for step, batches in enumerate(session.batches()):
            session.take_step(batches, 1e-3)
            if step + 1 in (WARM_UP, STEPS):
                seen.append(counters["stats"]["unique_graphs"])
    return seen, sum(counters["graph_break"].values()), len(sizes)


def compiled_runs(runs):
    return [compiled_steps(*run) for run in runs]


def test_compiled_layers_meet_fifty_batches_with_two_graphs(shards, tmp_path):
    runs = [
        (configure(
            shards, tmp_path / f"{stage}-{pieces}", train={"zero_stage": stage, "precision": "bf16"},
            compute={"compile": True}, encoder={"hidden_size": 64, "layers": 2, "dropout": 0.1},
            batch={"lanes_per_forward": 4},
        ), pieces)
        for stage, pieces in ((1, 0), (2, 0), (1, 256))
    ]  # fmt: skip
    for (_, pieces), (seen, breaks, sizes) in zip(runs, in_a_new_process(compiled_runs, runs)[0], strict=True):
        assert seen == [2, 2] and not breaks  # of queries and of keys
        assert sizes <= 6 if pieces else sizes > 40  # for each of them, CUDA graphs would be recorded
