"""`spe bench` on tiny sizes: every case measures, compares and writes its table and JSON."""

import json
import re
import statistics
from unittest.mock import patch

import pytest
import torch

from data_shards.errors import UserError
from launcher.cli import dispatch
from spe_dist.benchmarks import launches, loader, saving, span_pool
from spe_dist.benchmarks.launches import PartLaunches
from spe_dist.benchmarks.span_pool import Size
from tests.forked import run_script
from tests.unit.spe_dist.extraction.lively import save_lively
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

pytestmark = pytest.mark.any_version

TINY = {
    "encoder.layers": 1,
    "encoder.hidden-size": 32,
    "encoder.heads": 2,
    "encoder.intermediate-size": 48,
    "batch.lanes": 2,
    "batch.lanes-per-forward": 2,
    "cspo.queue-size": 64,
    "span-encoder.channels": 8,
    "span-encoder.size": 24,
}


@pytest.fixture
def settings(tmp_path):
    write_dataset(tmp_path / "shards")
    return ["--", "--data.shards", str(tmp_path / "shards"), *(f"--{name}={value}" for name, value in TINY.items())]


def bench(case, tmp_path, *settings):
    dispatch(["bench", case, "--out", str(tmp_path / "out"), "--repeats", "2", "--no-compiled", *settings])
    table = (tmp_path / "out" / f"bench_{case}.md").read_text()
    return json.loads((tmp_path / "out" / f"bench_{case}.json").read_text()), table


def test_span_pool_computes_what_the_padded_way_does_in_less_memory(tmp_path, capsys):
    with patch.object(span_pool, "ON_CPU", (Size(4, 12, 5, 16, 8), Size(4, 12, 20, 16, 8))):
        data, table = bench("span-pool", tmp_path, "--json")
    assert [len(row["seconds"]) for row in data["rows"]] == [2] * 12
    for padded, ours, *alone in zip(*(data["rows"][first::6] for first in range(6)), strict=True):
        names = [f"{name} {what} alone" for name in ("span_pool", "span_gelu_pool") for what in ("forward", "backward")]
        assert [row["case"].partition(": ")[2] for row in alone] == names
        assert all(row["notes"]["GB/s"] > 0 and row["notes"]["of a copy's speed"].endswith("%") for row in alone)
        assert ours["case"] == padded["case"]
        assert ours["notes"]["largest difference"] < 1e-5
        assert ours["notes"]["peak MiB"] < padded["notes"]["peak MiB"]
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"span-pool": data} and table in printed.err
    assert data["machine"]["device"] == "CPU" and data["versions"]["torch"]


def test_the_compiled_baseline_is_compiled_at_every_size():
    """torch compiles a function eight times; then it runs as it is, which the table would not show."""
    compile_, graphs = torch.compile, []

    def seen(graph, _):
        graphs.append(graph)
        return graph.forward

    sizes = [Size(2, 8, 20, 8, channels) for channels in (2, 3, 4)]
    with (
        patch.object(span_pool, "ON_CPU", sizes),
        patch.object(torch, "compile", lambda way, **options: compile_(way, backend=seen, **options)),
        torch._dynamo.config.patch(recompile_limit=1),
    ):
        span_pool.measure_span_pool(torch.device("cpu"), repeats=1, dtype=torch.float32, compiled=True)
    assert len(graphs) == len(sizes)


@pytest.mark.distributed
def test_whole_steps(tmp_path, settings):
    """In a process of its own, as it becomes a rank."""
    options = ["--out", str(tmp_path), "--repeats", "2", *settings]
    done = run_script(ROOT / "launcher/cli.py", "bench", "step", "packing", "objectives", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    (step,) = json.loads((tmp_path / "bench_step.json").read_text())["rows"]
    assert step["variant"] == "SPE, 16 records" and len(step["seconds"]) == 2
    assert step["notes"]["records/s"] == pytest.approx(16 / statistics.median(step["seconds"]), rel=1e-4)
    assert 0 < step["notes"]["host ms"] <= 1e3 * max(step["seconds"])
    assert 10 < step["notes"]["pieces/s"] / step["notes"]["records/s"] < 2 * 128  # of both views
    packing, objectives = (
        [row["notes"]["TFLOP per step"] for row in json.loads((tmp_path / f"bench_{case}.json").read_text())["rows"]]
        for case in ("packing", "objectives")
    )
    assert packing[0] == packing[1] > packing[2]  # no padding in the linear layers
    assert objectives[1] > 2 * objectives[0]  # two views, and keys


def test_ceilings_of_the_encoders_shapes(tmp_path):
    data, _ = bench("ceilings", tmp_path, "--", "--encoder.hidden-size=32", "--encoder.intermediate-size=64")
    copy, *products = data["rows"]
    assert copy["notes"]["GB/s"] == pytest.approx(2 * 2**26 / statistics.median(copy["seconds"]) / 1e9, rel=1e-4)
    assert len(products) == 4 * 3 + 3
    widest = next(row for row in products if "in one" in row["case"])
    rate = 2 * 256 * 32 * 96 / statistics.median(widest["seconds"])
    assert widest["notes"]["TFLOP/s"] == pytest.approx(rate / 1e12, rel=1e-4)


def test_the_loader(tmp_path, settings):
    with patch.object(loader, "_STEPS", 2):
        data, _ = bench("loader", tmp_path, *settings)
    (row,) = data["rows"]
    assert row["notes"]["records/s"] > 0
    assert set(loader.PARTS) < set(row["notes"])
    assert len(row["seconds"]) == 2


@pytest.mark.distributed
@pytest.mark.slow
def test_saving_and_restarting(tmp_path, settings):
    ranks = ["--cluster.workers=2"]
    with patch.object(saving, "STEPS_PER_SAVE", 3):
        data, table = bench("saving", tmp_path, *settings, *ranks)
    rows = {row["variant"]: row for row in data["rows"]}
    assert [len(rows[name]["seconds"]) for name in ("never saved", "often saved", "training waits")] == [2, 2, 2]
    assert (
        rows["never saved"]["notes"]["waiting for saves"]
        == "0.00%"
        != rows["often saved"]["notes"]["waiting for saves"]
    )
    assert 0 < rows["training waits"]["seconds"][0] < rows["often saved"]["seconds"][0]
    parts = [row["seconds"][0] for row in data["rows"] if row["case"] == "restart"]
    assert sum(parts[:-1]) == pytest.approx(parts[-1], rel=1e-4)
    assert "process and imports" in table


def test_prediction(tmp_path):
    model = save_lively(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("Ann lives in Paris. Bob works for Acme Inc.\n" * 2000)
    settings = ["--", str(model), str(tmp_path / "texts.txt"), "--sentences", "3000"]
    data, table = bench("predict", tmp_path, *settings)
    assert [len(row["seconds"]) for row in data["rows"]] == [2, 2]
    for row in data["rows"]:
        notes = row["notes"]
        assert notes["sentences/s"] == pytest.approx(3000 / statistics.median(row["seconds"]), rel=1e-4)
        assert 0 < notes["MiB after a tenth"] <= notes["MiB at most"]
    assert "bf16 on cpu, batches of 256" in table
    with pytest.raises(UserError, match="4,000 sentences, fewer than 5,000"):
        bench("predict", tmp_path, *settings[:-1], "5000")
    with pytest.raises(UserError, match="measure it alone"):
        dispatch(["bench", "predict", "loader", *settings])


def test_gradients_are_those_of_the_recipes_objectives(tmp_path, settings):
    data, table = bench("gradients", tmp_path, *settings)
    assert [row["objective"] for row in data["rows"]] == ["tbo", "spo", "cspo"]
    assert sum(row["share"] for row in data["rows"]) == pytest.approx(1, abs=1e-4)
    assert all(row["norm"] > 0 for row in data["rows"])
    assert re.search(r"\| cspo +\| +0\.3 \|", table)


def test_launches_of_parts_are_added_up(tmp_path, settings):
    parts = [PartLaunches("key pass", 3, {"aten.mm": 2, "aten.add": 1}), PartLaunches("queue", 4, {"aten.mm": 4})]
    with patch.object(launches, "count_launches", return_value=parts) as count:
        data, table = bench("launches", tmp_path, *settings)
    assert count.call_args.args[0].encoder.layers == 1
    assert [row["launches"] for row in data["rows"]] == [3, 4]
    assert re.search(r"\| key pass +\| +3 \| aten.mm 2, aten.add 1 +\|", table) and re.search(
        r"\| a step +\| +7 \|", table
    )


def test_gradients_of_an_objective_that_is_off_are_left_out(tmp_path, settings):
    data, _ = bench("gradients", tmp_path, *settings, "--cspo.weight=0")
    assert [row["objective"] for row in data["rows"]] == ["tbo", "spo"]
