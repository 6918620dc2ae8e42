"""`spe report` of a run whose metrics are made up."""

import json
import sys

import pytest
import yaml
from PIL import Image

from data_shards.errors import UserError
from launcher.cli import dispatch
from spe_dist.methods.registry import find_method


def test_tables_and_pictures_have_what_was_measured(tmp_path, capsys, monkeypatch):
    columns = [column.metric for column in find_method("mtb", source="").columns]
    lines = [
        {"step": step, "loss": 2.0, "gradient_norm": 1.0, "learning_rate": 1e-5, "records_per_second": 1234.5}
        | dict.fromkeys(columns, 1 / step)
        | ({"held_out_mtb_loss": 0.25, "held_out_mtb_accuracy": 0.5} if step % 20 else {})
        | ({} if step % 40 else {"gradients_mtb": 0.01, "gradients_mtb_share": 0.75})
        for step in range(10, 130, 10)
    ]
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump({"method": "mtb"}))
    (run / "versions.json").write_text("{}")
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with monkeypatch.context() as without, pytest.raises(UserError, match=r'spe report needs matplotlib.*\[plots\]"$'):
        without.setitem(sys.modules, "matplotlib", None)
        dispatch(["report", str(run), "--out", str(tmp_path / "out")])
    dispatch(["report", str(run), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "held out: MTB loss" in printed and "held out: MTB accuracy" in printed
    assert "held out: MLM loss" not in printed
    assert "MTB: share of the gradient" in printed and printed.count("75.0%") == 3
    rows = json.loads((tmp_path / "out" / "run.json").read_text())["rows"]
    assert [row["held_out_mtb_loss"] for row in rows] == [0.25, None] * 6  # the last line has none
    assert rows[2]["mtb_loss"] == 0.0333333  # of step 30: six digits are kept
    assert Image.open(tmp_path / "out" / "run.png").size == (
        1000,
        5 * 260,
    )  # two objectives, their gradients, two rows of every run
