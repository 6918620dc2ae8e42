"""Trackers: stand-ins for their libraries write down what they are told, fail, hang or are not there."""

import json
import re
import time

import pytest

from data_shards.errors import UserError
from spe_dist.train import tracking
from spe_dist.train.run_log import RunLog

NOTES = """
import json, os, sys
def note(*what):
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps(what) + "\\n")
"""
WANDB = """
class Run:
    def __init__(self, id): self.id = id
    def log(self, points, step): note("point", step, points)
    def finish(self): note("finish")
def login(prompt): return False
def init(*, project, name, id, resume, config, dir, mode):
    note("init", project, name[:4], resume, config, mode)
    return Run(id)
"""
TRACKIO = """
class Run:
    def log(self, points, step): note("point", step, points)
    def finish(self): note("finish")
def init(*, project, name, config, resume):
    note("init", project, name, "allow", config, None)
    note("resume", resume)
    return Run()
"""
MLFLOW = """
from types import SimpleNamespace
class MlflowClient:
    def __init__(self, tracking_uri): self.uri = tracking_uri
    def get_experiment_by_name(self, name): return None
    def create_experiment(self, name): self.project = name; return "1"
    def create_run(self, experiment, run_name):
        self.name = run_name
        return SimpleNamespace(info=SimpleNamespace(run_id="7"))
    def update_run(self, id, status): note("init", "spe_dist", "demo", "allow", {"run.seed": "3"}, None)
    def log_batch(self, id, params=(), metrics=()):
        if params: note("init", self.project, self.name, "allow", {one[0]: one[1] for one in params}, None)
        if metrics: note("point", metrics[0][3], {one[0]: one[1] for one in metrics})
    def set_terminated(self, id): note("finish")
"""
ENTITIES = "def Param(*values): return values\ndef Metric(*values): return values\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run's folder; libraries of trackers are looked for in `libraries` beside it."""
    libraries = tmp_path / "libraries"
    for name, code in {"wandb": WANDB, "trackio": TRACKIO, "mlflow": MLFLOW}.items():
        (libraries / name).mkdir(parents=True)
        (libraries / name / "__init__.py").write_text(NOTES + code)
    (libraries / "mlflow" / "entities.py").write_text(ENTITIES)
    monkeypatch.syspath_prepend(libraries)
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("run: {seed: 3}")
    return folder


def write(log, steps):
    for step in steps:
        log.write({"step": step, "loss": 1 / step, "learning_rate": float("nan"), "mfu": 0.5, "digest_masks": "ff"})


@pytest.mark.parametrize("tracker", ["wandb", "trackio", "mlflow"])
def test_a_tracker_is_told_every_step_once_and_goes_on_with_the_run(run, tmp_path, tracker, caplog):
    """The second start makes steps 3 and 4 again, which were sent by the first."""
    for first, last, name in ((0, 4, "demo"), (2, 6, "demo2")):
        log = RunLog(run, first_step=first, tracker=tracker, name=name)
        write(log, range(first + 1, last + 1))
        log.close()
    notes = [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]
    resumed = [note for note in notes if note[0] == "resume"]
    assert resumed in ([], [["resume", "never"], ["resume", "allow"]])
    notes = [note for note in notes if note[0] != "resume"]
    seed = "3" if tracker == "mlflow" else 3
    mode = "offline" if tracker == "wandb" else None
    begin = ["init", "spe_dist", "demo", "allow", {"run.seed": seed}, mode]
    if tracker == "trackio":  # which takes the newest run of a name
        begin[2] = json.loads((run / "tracker.json").read_text())[tracker]["identity"]
        assert re.fullmatch("demo-[0-9a-f]{6}", begin[2])
    points = [["point", step, {"objective/loss": 1 / step, "speed/mfu": 0.5}] for step in range(1, 7)]
    assert notes == [begin, *points[:4], ["finish"], begin, *points[4:], ["finish"]]
    assert json.loads((run / "tracker.json").read_text())[tracker]["step"] == 6
    assert not [record for record in caplog.records if record.name == tracking.__name__]


def test_a_tracker_that_fails_or_hangs_is_told_of_once_and_costs_the_run_nothing(run, monkeypatch, caplog, tmp_path):
    broken = tmp_path / "libraries" / "trackio" / "__init__.py"
    broken.write_text("import time\ndef init(**_): raise OSError('no network here')\n")
    log = RunLog(run, first_step=0, tracker="trackio", name="demo")
    log._tracked._process.wait(30)
    write(log, range(1, 4))
    log.close()
    (told,) = [record.getMessage() for record in caplog.records if record.name == tracking.__name__]
    assert told == "trackio has failed, the run continues without it: OSError: no network here"

    caplog.clear()
    monkeypatch.setattr(tracking, "_SECONDS_TO_END", 0.5)
    broken.write_text("import time\ndef init(**_): time.sleep(600)\n")
    began = time.monotonic()
    log = RunLog(run, first_step=3, tracker="trackio", name="demo")
    write(log, range(4, 8))
    process = log._tracked._process
    log.close()
    assert time.monotonic() - began < 10 and process.poll() is not None
    (told,) = [record.getMessage() for record in caplog.records if record.name == tracking.__name__]
    assert told.startswith("trackio did not end in 0.5 seconds and was stopped (")
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 7


def test_a_library_that_is_not_there_is_named(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()  # as the library makes it beside a run
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"^run\.track is wandb, which is not installed: pip install wandb$"):
        tracking.require_tracker("wandb")
    tracking.require_tracker(None)
