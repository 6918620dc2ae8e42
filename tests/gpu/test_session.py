"""The session itself, with stages of its own; needs no GPU."""

import json
import sys
import time
from pathlib import Path

import pytest

from tests.gpu.session import Session, Stage, _keep_benchmarks, find_pack, stages, wheels_to_install


@pytest.fixture
def session(tmp_path, capsys):
    return Session(tmp_path / "out", {"PATH": "/usr/bin:/bin"}, seconds=60, slower=1)


def python(code):
    return [sys.executable, "-c", code]


def test_what_a_stage_says_is_kept_at_once_and_the_next_one_begins_when_one_fails(session):
    session.run(Stage("first", 20, python("print('one'); print('two')"), lambda text: text.splitlines()[:1]))
    assert (session.out / "summary.txt").read_text().splitlines()[1:] == ["    one"]
    session.run(Stage("second", 20, python("print('why'); raise SystemExit(3)")))
    session.run(Stage("third", 20, python("print('three')")))
    assert (session.passed, session.failed) == (["first", "third"], ["second"])
    summary = (session.out / "summary.txt").read_text()
    assert "first: passed, " in summary and "second: failed with exit status 3, " in summary and "    why\n" in summary
    assert "== third: " in (session.out / "log.txt").read_text()


def test_a_stage_whose_command_succeeds_may_still_have_found_a_fault(session):
    session.run(Stage("compiled", 20, python("print('| 1 |')"), fault=lambda: "2 graphs compiled after the warm-up"))
    assert session.failed == ["compiled"]
    summary = (session.out / "summary.txt").read_text()
    assert "compiled: 2 graphs compiled after the warm-up, " in summary and "    | 1 |" in summary


def test_steps_of_other_settings_are_told_beside_the_first_one(tmp_path):
    by_name = {stage.name: stage for stage in stages(tmp_path, tmp_path, tmp_path, gpu=True)}
    (tmp_path / "bench").mkdir()
    for stage, notes in (
        ("step-256", {"records/s": 100.0, "peak GiB": 8.0, "MFU": "40%"}),
        ("step-compiled", {"records/s": 125.0, "peak GiB": 7.0, "MFU": "50%", "graphs after warm-up": 0}),
    ):
        (tmp_path / "bench" / "bench_step.json").write_text(json.dumps({"rows": [{"notes": notes}]}))
        told, fault = by_name[stage].tell("other\n| table |"), by_name[stage].fault()
        _keep_benchmarks(tmp_path, tmp_path, stage)
    assert told == ["records/s: 125, in step-256 100", "peak GiB: 7, in step-256 8", "| table |"] and not fault
    (tmp_path / "bench" / "bench_step.json").write_text(json.dumps({"rows": [{"notes": {"graphs after warm-up": 3}}]}))
    assert by_name["step-compiled"].fault() == "3 graphs compiled after the warm-up"


def test_a_stage_that_takes_too_long_is_ended_with_all_that_it_has_started(session, tmp_path):
    child = "import time; from pathlib import Path\nwhile True: Path('beat').write_text(''); time.sleep(0.1)"
    code = f"import os, subprocess, sys; os.chdir({str(tmp_path)!r})\nsubprocess.run([sys.executable, '-c', {child!r}])"
    asked = []
    session.run(Stage("endless", 2, python(code), meanwhile=lambda: asked.append(1)))
    assert session.failed == ["endless"] and len(asked) >= 2
    assert "endless: not finished in 2 s" in (session.out / "summary.txt").read_text()
    beat = (tmp_path / "beat").stat().st_mtime
    time.sleep(0.5)
    assert (tmp_path / "beat").stat().st_mtime == beat


def test_no_stage_begins_when_the_time_is_up(tmp_path):
    session = Session(tmp_path, {}, seconds=5, slower=1)
    session.run(Stage("late", 20, python("print(1)")))
    assert session.failed == ["late"] and "no time left" in (tmp_path / "summary.txt").read_text()


def test_wheels_of_packages_that_are_missing_or_older_are_installed(tmp_path):
    names = ("pytest-0.1-py3-none-any", "pytest-9999-py3-none-any", "no_such_thing-1.0-py3-none-any")
    for name in names:
        (tmp_path / f"{name}.whl").touch()
    assert [Path(wheel).stem for wheel in wheels_to_install(tmp_path)] == [names[2], names[1]]


def test_without_a_gpu_the_stages_are_the_same_and_only_sizes_differ(tmp_path):
    on_gpu, on_cpu = (stages(tmp_path, tmp_path, tmp_path, gpu=gpu) for gpu in (True, False))
    assert [stage.name for stage in on_gpu] == [stage.name for stage in on_cpu]
    assert {"tests", "step-256", "pretrain", "resume", "export", "fine-tune"} <= {s.name for s in on_cpu if s.on_cpu}


def test_a_folder_that_is_no_pack_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.gpu.session.ROOT", tmp_path / "source")  # the sources themselves may lie in a pack
    with pytest.raises(SystemExit, match="make gpu-pack writes one"):
        find_pack(tmp_path)
