"""What a trained run logs of its speed."""

import json

from spe_dist.train.metric_names import OF_THE_MACHINE
from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import format_metrics
from tests.unit.spe_dist.tiny_run import train_tiny_run


def test_a_line_tells_model_flops_and_padding_saved_and_no_mfu_of_a_cpu(tmp_path):
    folder = train_tiny_run(tmp_path)
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert line["model_tflops_per_second"] > 0
        assert 0 < line["padding_saved"] < 1
        assert line["pieces_per_second"] > line["records_per_second"] > 0
        assert "mfu" not in line
        assert "records/s" in format_metrics(line)
    speeds = {"pieces_per_second", "records_per_second", "model_tflops_per_second", "mfu", "padding_saved"}
    assert speeds <= OF_THE_MACHINE
