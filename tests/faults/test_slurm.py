"""Runs under a real Slurm of one node: stopped before the time limit, requeued, resumed; and two jobs at once."""

import re
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from spe_dist.recipe import config_yaml
from spe_dist.train.run_folder import METRICS
from spe_dist.train.run_log import read_metrics
from tests.exactness.runs import configure
from tests.faults.slurm_daemons import running_slurm
from tests.integration.command import TORCHRUN, run
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

SPE = str(Path(sys.executable).parent / "spe")
DIGESTS = ("digest_records", "digest_masks", "digest_queue")
STEPS_BEFORE, STEPS_AFTER = 10, 30
# What scontrol calls a job that goes on or ends well; on a slow machine a look meets the short ones too.
UNFINISHED = {"PENDING", "CONFIGURING", "RUNNING", "SIGNALING", "COMPLETING", "REQUEUED"}
pytestmark = [pytest.mark.slurm, pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def slurm():
    """The environment of Slurm's commands."""
    with running_slurm() as environment:
        yield environment


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Folder of a tiny dataset."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    write_dataset(folder)
    return folder


@dataclass
class Job:
    """A job of one run, and what Slurm and its files say of it."""

    number: str
    environment: dict[str, str]
    output: Path
    folder: Path

    def field(self, name: str) -> str:
        return re.findall(rf"\b{name}=(\S+)", self.command("scontrol", "show", "job", self.number))[0]

    def command(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait_until(self, condition, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while True:
            state = self.field("JobState")  # before the condition, which may end it well
            if condition():
                return
            assert state in UNFINISHED, (state, self.output.read_text()[-3000:])
            assert time.monotonic() < end, (state, self.output.exists() and self.output.read_text()[-3000:])
            time.sleep(0.2)

    def steps_logged(self) -> int:
        return (self.folder / METRICS).read_text().count("\n") if (self.folder / METRICS).exists() else 0

    def is_over(self) -> bool:
        return self.field("JobState") == "COMPLETED"


def write_recipe(path: Path, shards: Path, steps: int) -> None:
    train = {"steps": steps, "checkpoint_every": 1_000_000}
    config = configure(shards, path.parent / "runs", run={"name": path.stem}, train=train, cluster={"workers": 1})
    path.write_text(config_yaml(config))


def submit(recipe: Path, environment: dict[str, str], *options: str) -> Job:
    """Render the script of a recipe as people do, and submit it."""
    script, output = recipe.with_suffix(".sbatch"), recipe.with_suffix(".log")
    rendered = run(SPE, "slurm", "--config", recipe, "--out", script, *options, "--sbatch", f"output={output}")
    assert rendered.returncode == 0, rendered.stderr
    submitted = run("sbatch", "--parsable", script, **environment)
    assert submitted.returncode == 0, submitted.stderr
    return Job(submitted.stdout.strip(), environment, output, recipe.parent / "runs" / recipe.stem)


def test_a_run_goes_on_after_its_time_limit_as_if_there_were_none(slurm, shards, tmp_path):
    """USR1 while it trains, saved, requeued, resumed, done; and every batch is that of a run left alone."""
    recipe = tmp_path / "limited.yaml"
    write_recipe(recipe, shards, steps=1_000_000)
    job = submit(recipe, slurm, "--time=60", "--stop-before=60")
    job.wait_until(lambda: job.steps_logged() >= STEPS_BEFORE)
    token = read_token(job)
    # The node takes nothing new until the recipe says where the run ends, which only its stop decides.
    job.command("scontrol", "update", "NodeName=node", "State=DRAIN", "Reason=test")
    job.command("scontrol", "update", f"JobId={job.number}", "TimeLimit=1")
    job.wait_until(lambda: job.field("Restarts") == "1" and job.field("JobState") == "PENDING")
    job.command("scontrol", "update", f"JobId={job.number}", "TimeLimit=60")
    stopped = job.steps_logged()
    steps = stopped + STEPS_AFTER  # how fast this machine is decides where the limit comes
    write_recipe(recipe, shards, steps)
    job.command("scontrol", "update", "NodeName=node", "State=RESUME")
    alone = run_left_alone(recipe, tmp_path)
    job.wait_until(job.is_over)

    assert [line["step"] for line in read_metrics(job.folder)] == list(range(1, steps + 1))
    assert digests(job.folder) == digests(alone)
    log = job.output.read_text()
    for words in (
        "start 1: asked to stop",
        f"stopped after step {stopped} on request",
        "start 2: 1 nodes",
        "2: finished",
    ):
        assert words in log, log
    assert (job.folder / "logs" / "rank-0.log").read_text().count(f"step-{stopped:09d}") == 2  # saved, resumed
    assert not list(Path("/tmp").glob(f"spe-{job.number}-*"))
    holds_token = [path for path in files_below(tmp_path, slurm) if token in path.read_bytes()]
    assert not holds_token


def run_left_alone(recipe: Path, folder: Path) -> Path:
    done = run(*TORCHRUN, "1", ROOT / "launcher/pretrain.py", "--config", recipe, f"--run.folder={folder / 'alone'}")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "alone" / recipe.stem


def digests(folder: Path) -> list[dict]:
    return [{key: line[key] for key in ("step", *DIGESTS)} for line in read_metrics(folder)]


def read_token(job: Job) -> bytes:
    """The running job's token; nobody else may read it, and no process says it on its command line."""
    path = Path(f"/tmp/spe-{job.number}-0/token")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    token = path.read_bytes()
    assert len(token) == 64
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert token not in (process / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
    return token


def files_below(folder: Path, slurm: dict[str, str]) -> list[Path]:
    """All files of the run, the script, the output and Slurm's own state and logs."""
    roots = (folder, Path(slurm["SLURM_CONF"]).parent)
    return [path for root in roots for path in root.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_two_jobs_on_one_node_do_not_meet(slurm, shards, tmp_path):
    jobs = []
    for name in ("one", "other"):
        write_recipe(tmp_path / f"{name}.yaml", shards, steps=6)
        jobs.append(submit(tmp_path / f"{name}.yaml", slurm))
    for job in jobs:
        job.wait_until(job.is_over)
        assert [line["step"] for line in read_metrics(job.folder)] == [1, 2, 3, 4, 5, 6]
    starts, ends = ([job.field(name) for job in jobs] for name in ("StartTime", "EndTime"))
    assert max(starts) < min(ends), "they did not run at the same time"
    assert digests(jobs[0].folder) == digests(jobs[1].folder)
