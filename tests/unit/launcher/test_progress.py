"""How far many fine-tunings are, from their folders."""

import json
import time
from dataclasses import asdict

from launcher.progress import _Overview
from spe_dist.finetuning.folder import Result

SCORES = {"entity_f1": 0.5, "relation_f1": 0.25, "relation_strict_f1": 0.25}


def test_each_end_is_told_and_every_ten_seconds_how_far_the_others_are(tmp_path):
    names = ("a", "b", "c", "d")
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "a/finetune.log").write_text("of a run before this one\n")
    overview = _Overview({name: tmp_path / name for name in names})
    now = time.monotonic()
    assert overview.new_lines(now) == []
    for name in ("a", "b", "c"):
        with (tmp_path / name / "finetune.log").open("a") as log:
            log.write("2026-01-01 10:00:00,000 INFO spe_dist.x: begins\n")
    (tmp_path / "a/metrics.jsonl").write_text('{"epoch": 3}\n{"epoch": 4}\n')
    (tmp_path / "c/finetune.log").write_text("2026-01-01 10:00:00,000 ERROR spe_dist.x: the run ends here\n" * 2)
    assert overview.new_lines(now + 1) == []
    assert overview.new_lines(now + 11) == ["0 of 4 fine-tunings done; a, epoch 4; b, beginning"]
    assert overview.new_lines(now + 12) == []
    (tmp_path / "a/result.json").write_text(json.dumps(asdict(Result(1, 5, 4, SCORES, None))))
    (told,) = overview.new_lines(now + 13)
    assert told == "a: best after epoch 4 of 5; dev entity_f1 50.00, relation_f1 25.00, relation_strict_f1 25.00"
    assert overview.new_lines(now + 22) == ["1 of 4 fine-tunings done; b, beginning"]
