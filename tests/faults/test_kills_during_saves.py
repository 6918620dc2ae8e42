"""A run is killed while it saves, at every change of the file system and at random instants: no checkpoint is lost."""

import random
import shutil
import statistics
import time
from pathlib import Path

import pytest
import torch

from spe_dist.checkpoint.reader import LoadedCheckpoint, fault_of, list_checkpoints, step_of
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World
from tests.faults.savers import KEEP_EVERY, KEEP_LAST, Savers, Trial, expected_tensors, place_of, started_savers

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def savers(tmp_path_factory):
    with started_savers(tmp_path_factory.mktemp("savers")) as processes:
        yield processes


class Run:
    """Checkpoints of a run that is killed again and again."""

    def __init__(self, savers: Savers, folder: Path, url: str | None = None) -> None:
        self.savers, self.folder, self.url = savers, folder, url
        self.starts = 0
        self.newest = 0  # step
        self.seconds: list[float] = []  # to find the newest checkpoint after a kill
        self.kills = self.saved = 0

    def save(self, **details):
        """Save the next step, as a trial says, and look at what a restart would find."""
        ended = self.savers.run(Trial(str(self.folder), step=self.newest + 1, url=self.url, **details))
        self.kills += ended.killed
        found = self.restart(killed=ended.killed)
        assert self.newest <= found <= self.newest + 1
        assert found == self.newest + 1 or not ended.saved, "a save was complete, and then it was not"
        assert found == self.newest + 1 or ended.killed, "nobody was killed, and the save was not complete"
        self.newest = found
        return ended

    def kill_at(self, point, **details):
        """Kill at a point of a save; one that deletes nothing has fewer, so it may be the next one's."""
        assert any(self.save(at_point=point, **details).killed for _ in range(3)), point

    def restart(self, *, killed: bool = False) -> int:
        """Open the store as a new run does; the step of its newest checkpoint, whose content is what was saved."""
        started = time.perf_counter()
        self.starts += 1
        place = place_of(self.folder, self.url, machine=100 + self.starts)  # a machine that knows nothing of the run
        store = CheckpointStore(place, keep_last=KEEP_LAST, keep_every=KEEP_EVERY, world=World())
        loaded = store.latest()
        self.seconds.append(time.perf_counter() - started)
        there = Path(self.url.removeprefix("file://")) if self.url else self.folder
        names = sorted(path.name for path in there.iterdir())
        assert all(name.startswith("step-") for name in names), names
        if loaded is None:
            assert self.newest == 0
            return 0
        assert loaded.skipped == ()
        for checkpoint in list_checkpoints(there):
            assert fault_of(checkpoint) is None
            check_content(LoadedCheckpoint(checkpoint))
        steps = [step_of(checkpoint) for checkpoint in list_checkpoints(there)]
        kept = {step for step in range(1, steps[-1] + 1) if step > steps[-1] - KEEP_LAST or step % KEEP_EVERY == 0}
        # Each kill may come before the oldest was deleted; the next save that nobody kills makes up for it.
        assert set(steps) >= kept if killed else set(steps) == kept
        return loaded.step


def check_content(loaded: LoadedCheckpoint):
    assert loaded.metadata == {"step": loaded.step}
    world_size = len(list(loaded.folder.glob("rank-*")))
    expected = {}
    for rank in range(world_size):
        expected |= expected_tensors(loaded.step, rank)
    assert loaded.names() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(loaded.get(name), tensor)


@pytest.fixture
def run(savers, tmp_path):
    run = Run(savers, tmp_path / "checkpoints")
    for _ in range(KEEP_LAST + 1):  # from here on every save deletes one
        run.save()
    assert run.newest == KEEP_LAST + 1
    return run


def test_killed_at_every_change_of_the_file_system(run, fault_report):
    """Each point once: 25 or so on one rank."""
    points = run.save().points
    assert points >= 20
    for point in range(1, points + 1):
        run.kill_at(point)
        run.save()  # whatever the kill left behind, the next save succeeds
    report(fault_report, "SIGKILL in a save, at each change of the file system in turn, 1 rank", run, points)


@pytest.mark.parametrize("victim", [0, 1])
def test_one_of_two_ranks_killed_at_changes_of_the_file_system(run, fault_report, kills, victim):
    points = run.save(world_size=2, victim=victim).points
    assert points >= (20, 4)[victim]
    chosen = spread(points, kills // 6)
    for point in chosen:
        run.kill_at(point, world_size=2, victim=victim)
    run.save(world_size=2)
    which = "the one that completes it" if victim == 0 else "the other"
    report(fault_report, f"SIGKILL of one of two ranks in a save ({which}), at changes of the file system", run)


@pytest.fixture
def run_at_url(savers, tmp_path):
    """As `run`, but nothing is shared between ranks, and between starts, but a URL."""
    (tmp_path / "bucket").mkdir()
    run = Run(savers, tmp_path / "machines", f"file://{tmp_path / 'bucket'}")
    for _ in range(KEEP_LAST + 1):
        run.save(world_size=2)
    assert run.newest == KEEP_LAST + 1
    return run


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_while_two_machines_save_to_a_url(run_at_url, fault_report, kills, victim):
    run, chooser = run_at_url, random.Random(victim)
    ended = run.save(world_size=2, victim=victim)
    assert ended.points >= (12, 4)[victim]
    for point in spread(ended.points, kills // 8):
        run.kill_at(point, world_size=2, victim=victim)
    for _ in range(kills // 8):
        run.save(world_size=2, victim=victim, after_seconds=chooser.uniform(0, 1.2 * ended.seconds))
    run.save(world_size=2)
    which = "the one that completes it" if victim == 0 else "the other"
    report(fault_report, f"SIGKILL of one of two machines in a save to a URL ({which})", run)


@pytest.mark.parametrize("world_size", [1, 2])
def test_killed_at_random_instants(run, fault_report, kills, world_size):
    chooser = random.Random(world_size)
    typical = statistics.median(run.save(world_size=world_size).seconds for _ in range(3))
    for _ in range(20 * kills):
        if run.kills == kills // 3:  # others come too late, as no two saves take equally long
            break
        victim = chooser.randrange(world_size)
        run.save(world_size=world_size, victim=victim, after_seconds=chooser.uniform(0, typical))
    run.save(world_size=world_size)
    report(fault_report, f"SIGKILL in a save, at random instants, ranks: {world_size}", run, kills // 3)


def spread(points: int, count: int) -> list[int]:
    """Points to be killed at, as evenly as they can be; each comes again if there are fewer than asked for."""
    return [1 + (index * points // count if count <= points else index % points) for index in range(count)]


def report(fault_report, fault: str, run: Run, least: int = 1):
    assert run.kills >= least
    fault_report.append(
        {
            "fault": fault,
            "tried": run.kills,
            "recovered": run.kills,  # a kill without recovery fails the test
            "steps_lost_max": None,
            "batches_lost_or_repeated": None,
            "seconds_median": statistics.median(run.seconds),
            "seconds_max": max(run.seconds),
        }
    )


def test_the_harness_would_see_a_store_that_writes_in_place(savers, tmp_path):
    """Half a checkpoint under a good name is found out: the harness looks at what is there."""
    run = Run(savers, tmp_path / "checkpoints")
    run.save()
    run.save()
    shutil.copytree(run.folder / "step-000000002", run.folder / "step-000000003")
    next((run.folder / "step-000000003").glob("rank-*")).write_bytes(b"half")
    with pytest.raises(AssertionError):
        run.restart()
