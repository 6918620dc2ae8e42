import json

import torch

from launcher.recipe_arguments import PROFILED_STEPS, read_arguments
from spe_dist.engine.world import World
from spe_dist.train.profiler import traced


def test_the_trace_holds_the_steps_asked_for_and_a_table_of_operators(tmp_path):
    with traced(tmp_path / "profile", World(), steps=2) as step_done:
        for _ in range(12):
            torch.randn(4, 4) @ torch.randn(4, 4)
            step_done()
    events = json.loads((tmp_path / "profile" / "rank-0.json").read_text())["traceEvents"]
    assert sum(event["name"] == "aten::mm" for event in events) == 2
    table = (tmp_path / "profile" / "rank-0.txt").read_text()
    assert table.startswith("2 steps\n") and "aten::mm" in table


def test_nothing_is_written_unless_asked_for(tmp_path):
    with traced(tmp_path / "profile", World(), steps=0) as step_done:
        step_done()
    assert not (tmp_path / "profile").exists()


def test_the_flag_asks_for_a_few_steps():
    assert read_arguments(["--profile"])[0].train.profile_steps == PROFILED_STEPS
    assert read_arguments([])[0].train.profile_steps == 0
