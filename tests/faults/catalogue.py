"""Every kind of fault that `python -m tests.faults` does to whole runs, and what must have become of the run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from data_shards.sample.corpus import generate
from data_shards.stop_requests import STOPPED
from spe_dist.checkpoint.reader import list_checkpoints, step_of
from spe_dist.train.run_folder import CHECKPOINTS
from tests.faults.command_runs import PATIENCE, SPE, CommandRun, ray_head, stop_process, torchrun, wait_until_gone
from tests.faults.forked_runs import ForkedRuns
from tests.faults.laboratory import DEBUG, EVERY, Laboratory, Tried
from tests.faults.not_finite import SETTING
from tests.faults.small_disk import filled, mounted
from tests.faults.trials import (
    Injected,
    Verdict,
    inject,
    judge,
    judge_beginning,
    last_step,
    trials_of,
    wait_until,
)
from tests.forked import clean_environment
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

_ENDS_WITHIN = 120.0  # seconds, for a command whose cluster is gone


def killed_at_random(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """SIGKILL of one or all ranks at random instants, again and again; each start has another number of ranks."""
    yield from _killed_at_random(laboratory, times, laboratory.alone, method="spe")


def killed_at_random_with_erica(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """The same of a method that talks between ranks before the first backward pass of a step."""
    yield from _killed_at_random(laboratory, times, laboratory.erica_alone, method="erica")


def _killed_at_random(laboratory: Laboratory, times: int, alone: Path, *, method: str) -> Iterator[Tried]:
    runs, kills = ForkedRuns(laboratory.chooser), 0
    while kills < times:
        config = laboratory.config(method=method)
        faults = runs.complete(config, kills=times - kills)
        kills += len(faults)
        yield Tried(len(faults), trials_of(Path(config.run_folder), faults), judge(Path(config.run_folder), alone))


def worker_killed_on_ray(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """With the debug recipe."""
    alone = laboratory.debug_alone  # before the run starts
    yield _killed(laboratory, CommandRun(laboratory.config(**DEBUG)), alone, times, _one)


def workers_killed_on_ray(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """All of them at once."""
    alone = laboratory.alone
    yield _killed(laboratory, CommandRun(laboratory.config()), alone, times, _all)


def worker_killed_on_torchrun(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """torchrun starts all again."""
    alone = laboratory.alone
    run = CommandRun(laboratory.config(), launcher=torchrun(2, restarts=times))
    yield _killed(laboratory, run, alone, times, _one)


def workers_killed_on_torchrun(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """All of them at once."""
    alone = laboratory.alone
    run = CommandRun(laboratory.config(), launcher=torchrun(2, restarts=times))
    yield _killed(laboratory, run, alone, times, _all)


def worker_hangs_on_ray(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """SIGSTOP; `--cluster.hang_seconds=10`."""
    for index in range(times):
        run = CommandRun(laboratory.config(cluster={"hang_seconds": 10.0}))
        yield _hanging(laboratory, run, victim=index % 2)


def worker_hangs_on_torchrun(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """SIGSTOP; `--cluster.hang_seconds=10`."""
    for index in range(times):
        config = laboratory.config(cluster={"hang_seconds": 10.0})
        yield _hanging(laboratory, CommandRun(config, launcher=torchrun(2, restarts=1)), victim=index % 2)


def driver_killed(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """Then the same command at once, while ranks of the first may still be there: they must write no more."""
    for _ in range(times):
        config = laboratory.config()
        with CommandRun(config) as run:
            run.wait_for_step(laboratory.a_step())
            ranks = list(run.ranks().values())
            fault = inject(run.folder, run.process.kill)
            with CommandRun(config) as again:
                _must_end_well(again)
            wait_until_gone(ranks, seconds=10)
            yield Tried(1, trials_of(run.folder, [fault]), judge(run.folder, laboratory.alone))


def head_killed(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """Ray's gcs_server and raylet; then a new head, and the same command."""
    for _ in range(times):
        config = laboratory.config()
        with ray_head(cpus=2) as (cluster, head), CommandRun(config, **cluster) as run:
            run.wait_for_step(laboratory.a_step())
            ranks = list(run.ranks().values())
            servers = [child for child in head.children() if child.name() in ("gcs_server", "raylet")]
            assert len(servers) == 2, servers
            fault = inject(run.folder, lambda servers=servers: [server.kill() for server in servers])
            said = _must_end_with_one_line(run, seconds=_ENDS_WITHIN)
            wait_until_gone(ranks, seconds=10)
        fault = replace(fault, time=time.time())  # somebody mends it now
        with ray_head(cpus=2) as (cluster, _), CommandRun(config, **cluster) as again:
            _must_end_well(again)
        yield Tried(1, trials_of(again.folder, [fault]), judge(again.folder, laboratory.alone), said)


def shard_truncated(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """Before a run goes on; then the shard is put back."""
    for _ in range(times):
        config = laboratory.config()
        shard = next(laboratory.shards.glob("*.tar"))
        whole = shard.read_bytes()
        with CommandRun(config) as run:
            run.wait_for_step(laboratory.a_step())
            fault = inject(run.folder, run.process.kill)
            run.wait()
        try:
            shard.write_bytes(whole[: laboratory.chooser.randrange(len(whole))])
            with CommandRun(config) as run:
                said = _must_end_with_one_line(run)
                assert str(shard) in said, said
        finally:
            shard.write_bytes(whole)
        fault = replace(fault, time=time.time())  # mended here
        with CommandRun(config) as again:
            _must_end_well(again)
        yield Tried(1, trials_of(again.folder, [fault]), judge(again.folder, laboratory.alone), said)


def loss_not_finite_once(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """On one rank, under Ray: the run goes back to its checkpoint by itself."""
    for index in range(times):
        once = laboratory.folder / f"spoiled-{index}"
        step = laboratory.a_step()
        with _setting(f"{step}:{once}"), CommandRun(laboratory.config(), launcher=_NOT_FINITE) as run:
            _must_end_well(run)
        fault = Injected(once.stat().st_mtime, step - 1)
        yield Tried(1, trials_of(run.folder, [fault]), judge(run.folder, laboratory.alone))


def loss_not_finite_for_good(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """On one rank, whenever that step is made: one line after the second time."""
    for _ in range(times):
        config = laboratory.config()
        step = laboratory.a_step()
        with _setting(str(step)), CommandRun(config, launcher=_NOT_FINITE) as run:
            said = _must_end_with_one_line(run)
            assert "not finite" in said, said
        fault = Injected(time.time(), last_step(run.folder))
        with CommandRun(config) as again:
            _must_end_well(again)
        yield Tried(1, trials_of(run.folder, [fault]), judge(run.folder, laboratory.alone), said)


def second_run(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """The same command while the first still goes on, by mistake: it is told who is there; the first is unharmed."""
    for _ in range(times):
        config = laboratory.config(train={"steps": 100_000})
        with CommandRun(config) as first:
            first.wait_for_step(laboratory.a_step())
            holder = first.ranks()[0].pid
            with CommandRun(config) as second:
                said = _must_end_with_one_line(second)
            assert f"process {holder} on" in said, said
            first.wait_for_step(last_step(first.folder) + EVERY)
            first.process.terminate()
            assert first.wait() == STOPPED, first.output[-3000:]
        yield Tried(1, [], judge_beginning(first.folder, laboratory.alone), said)


def disk_full_during_a_build(laboratory: Laboratory, times: int) -> Iterator[Tried]:
    """`spe shards build` ends with one line; with room, the same command goes on and writes the same bytes."""
    for index in range(times):
        yield _build_on_a_full_disk(laboratory.folder / f"build-{index}")


_NOT_FINITE = [sys.executable, "-m", "tests.faults.not_finite"]


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Args:
        name: for people.
        try_it: so many times.
        times: that `make faults` does.
    """

    name: str
    try_it: Callable[[Laboratory, int], Iterator[Tried]]
    times: int

    @property
    def key(self) -> str:
        """Its name for the command line."""
        return self.try_it.__name__.replace("_", "-")


def _one(laboratory: Laboratory, ranks: list[psutil.Process]) -> list[psutil.Process]:
    return [laboratory.chooser.choice(ranks)]


def _all(laboratory: Laboratory, ranks: list[psutil.Process]) -> list[psutil.Process]:
    return ranks


def _killed(laboratory: Laboratory, run: CommandRun, alone: Path, times: int, choose: Callable[..., Any]) -> Tried:
    """Kill ranks of a run that is started again by its launcher, at random steps, several times."""
    faults: list[Injected] = []
    with run:
        for _ in range(times):
            run.wait_for_step(laboratory.a_step(after=_saved_step(run.folder)))
            victims = choose(laboratory, list(run.ranks().values()))
            faults.append(inject(run.folder, lambda victims=victims: [victim.kill() for victim in victims]))
            _wait_for_a_start(run, faults[-1])
        _must_end_well(run)
    return Tried(len(faults), trials_of(run.folder, faults), judge(run.folder, alone))


def _hanging(laboratory: Laboratory, run: CommandRun, *, victim: int) -> Tried:
    with run:
        run.wait_for_step(laboratory.a_step())
        stopped = run.ranks()[victim]
        fault = inject(run.folder, lambda: stop_process(stopped))
        _must_end_well(run)
        wait_until_gone([stopped], seconds=10)
    return Tried(1, trials_of(run.folder, [fault]), judge(run.folder, laboratory.alone))


def _must_end_well(run: CommandRun) -> None:
    status = run.wait()
    assert status == 0, f"ended with {status}: {run.output[-3000:]}"


def _must_end_with_one_line(run: CommandRun, *, seconds: float = PATIENCE) -> str:
    status = run.wait(seconds=seconds)
    said = run.errors()
    assert status != 0, f"ended well: {run.output[-3000:]}"
    assert len(said) == 1 and "Traceback" not in run.output, run.output[-6000:]
    return said[0]


def _wait_for_a_start(run: CommandRun, fault: Injected) -> None:
    wait_until(
        lambda: trials_of(run.folder, [fault]) or run.process.poll() is not None,
        seconds=PATIENCE,
        what=f"a start after the fault in {run.folder}",
    )


def _saved_step(folder: Path) -> int:
    return max(map(step_of, list_checkpoints(folder / CHECKPOINTS)), default=0)


@contextmanager
def _setting(value: str) -> Iterator[None]:
    """For `tests.faults.not_finite`."""
    os.environ[SETTING] = value
    try:
        yield
    finally:
        del os.environ[SETTING]


def _build_on_a_full_disk(folder: Path) -> Tried:
    folder.mkdir()
    text = folder / "text.txt"
    text.write_text("\n".join(" ".join(sentence.words) for sentence in generate(3000, seed=3)) + "\n")
    with mounted(folder / "disk", 2_000) as disk:
        with filled(disk, leaving_kilobytes=200):
            full = _build(text, disk / "shards")
        said = [line for line in full.stderr.splitlines() if line.startswith("error")]
        assert full.returncode != 0 and len(said) == 1 and "Traceback" not in full.stderr, full.stderr[-3000:]
        assert not (disk / "shards" / "manifest.json").exists()
        for place in (disk, folder):
            done = _build(text, place / "shards")
            assert done.returncode == 0, done.stderr[-3000:]
        one, other = (_shards(place / "shards") for place in (disk, folder))
    wrong = None if one == other else "other bytes than a build with room from the start"
    return Tried(1, [], Verdict(wrong, 0), said[0])


def _build(text: Path, out: Path) -> subprocess.CompletedProcess:
    command = [SPE, "shards", "build", text, "--out", out, "--tokenizer", DEBUG_VOCAB, "--unit-documents=300"]
    return subprocess.run(list(map(str, command)), env=clean_environment(), capture_output=True, text=True, timeout=300)


def _shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


FAULTS = (
    Fault("SIGKILL of one or all ranks at random instants, 1 to 3 ranks (forked)", killed_at_random, 200),
    Fault("the same, ERICA", killed_at_random_with_erica, 20),
    Fault("SIGKILL of a worker, Ray, debug recipe", worker_killed_on_ray, 3),
    Fault("SIGKILL of all workers, Ray", workers_killed_on_ray, 3),
    Fault("SIGKILL of a worker, torchrun", worker_killed_on_torchrun, 3),
    Fault("SIGKILL of all workers, torchrun", workers_killed_on_torchrun, 3),
    Fault("SIGKILL of the driver, Ray", driver_killed, 2),
    Fault("SIGKILL of the Ray head", head_killed, 2),
    Fault("SIGSTOP of a worker (a hang), Ray", worker_hangs_on_ray, 2),
    Fault("SIGSTOP of a worker (a hang), torchrun", worker_hangs_on_torchrun, 2),
    Fault("truncated shard", shard_truncated, 2),
    Fault("loss not a number on one rank, once", loss_not_finite_once, 2),
    Fault("loss not a number on one rank, for good", loss_not_finite_for_good, 1),
    Fault("second run on the same folder", second_run, 1),
    Fault("disk full during a build", disk_full_during_a_build, 1),
)
