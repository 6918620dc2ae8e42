"""Saves in the background: what is written is the state of its step, and a save that fails is tried again."""

import threading

import pytest
import torch

from data_shards.errors import UserError
from spe_dist.checkpoint.background import BackgroundSaver
from spe_dist.checkpoint.reader import LoadedCheckpoint
from spe_dist.checkpoint.snapshot import HostBuffers, Snapshot
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World
from tests.faults.small_disk import filled, mounted


class SlowStore(CheckpointStore):
    """Writes nothing until it may."""

    may_write = threading.Event()

    def save(self, *args):
        assert self.may_write.wait(30)
        return super().save(*args)


def open_saver(folder, most_failures=3, kind=CheckpointStore):
    store = kind(folder, keep_last=2, keep_every=4, world=World())
    return store, BackgroundSaver(store, World(), most_failures=most_failures, saved_step=0)


def taking(tensor, buffers, step=0):
    return lambda: Snapshot({"weight": buffers.copy("weight", tensor)}, {"step": step})


def test_training_goes_on_and_what_it_changes_is_not_in_the_checkpoint(tmp_path):
    store, saver = open_saver(tmp_path / "run", kind=SlowStore)
    weight, buffers = torch.zeros(10_000), HostBuffers()
    saver.save(1, taking(weight, buffers), required=False)
    weight.fill_(2.0)
    assert (saver.saved_step, store.latest()) == (0, None)
    store.may_write.set()
    saver.save(2, taking(weight, buffers), required=True)
    assert saver.saved_step == 2
    saved = {step: load(store, step) for step in (1, 2)}
    assert torch.equal(saved[1], torch.zeros(10_000))
    assert torch.equal(saved[2], torch.full((10_000,), 2.0))


def load(store, step):
    return LoadedCheckpoint(store.folder / f"step-{step:09d}").get("weight")


def test_buffers_are_taken_once():
    buffers, tensor = HostBuffers(), torch.ones(5)
    places = {buffers.copy("a", tensor * step).data_ptr() for step in range(3)}
    assert len(places) == 1
    assert torch.equal(buffers.copy("a", torch.ones(7)), torch.ones(7))


class FakeStream:
    """Notes what is asked of it, as `torch.cuda` and its streams, events and tensors would be asked."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def wait_stream(self, other):
        self.notes.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event):
        self.notes.append(f"{self.name} waits for {event.of}")

    def copy_(self, tensor, non_blocking):
        assert non_blocking
        self.notes.append(f"{self.name} is copied to")

    def record(self, stream):
        self.of = f"an event of {stream.name}"

    def record_stream(self, stream):
        self.notes.append(f"{self.name} is kept for {stream.name}")

    def detach(self):
        return self

    def __enter__(self):
        self.notes.append(f"on {self.name}:")

    def __exit__(self, *_):
        self.notes.append("back")

    shape, dtype, is_cuda = (5,), torch.float32, True


def test_a_gpu_copies_beside_its_work_and_what_changes_the_originals_waits_for_that(monkeypatch):
    notes = []
    side, main, weight = (FakeStream(name, notes) for name in ("side", "main", "weight"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "Event", lambda: FakeStream("event", notes))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, pin_memory: FakeStream(f"pinned {pin_memory}", notes))
    buffers = HostBuffers(beside=torch.device("cuda", 0))
    buffers.wait_for_copies()
    assert notes == []
    buffers.copy("weight", weight)
    assert notes == ["side waits for main", "on side:", "pinned True is copied to", "back", "weight is kept for side"]
    assert buffers.copies_arrived() is not None
    buffers.wait_for_copies()
    buffers.wait_for_copies()
    assert notes[5:] == ["main waits for an event of side"]


def test_the_newest_and_every_so_many_th_are_kept(tmp_path):
    store, saver = open_saver(tmp_path / "run")
    for step in range(1, 12):
        saver.save(step, taking(torch.zeros(10), HostBuffers()), required=False)
    saver.close()
    kept = sorted(path.name for path in store.folder.iterdir())
    assert kept == [f"step-{step:09d}" for step in (4, 8, 10, 11)]


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "disk", 400) as folder:
        yield folder


def save_some(saver, steps, required=False):
    for step in steps:
        saver.save(step, taking(torch.zeros(10_000), HostBuffers()), required=required)


def test_a_failing_save_is_tried_again_until_it_succeeds(disk, caplog):
    store, saver = open_saver(disk / "run")
    save_some(saver, [1])
    saver._wait()
    for steps in ([2, 3], [5, 6]):  # two in a row are not three
        with filled(disk):
            save_some(saver, steps)
            saver._wait()
        assert (saver.failures, store.latest().step) == (2, steps[0] - 1)
        save_some(saver, [steps[-1] + 1], required=True)
        assert (saver.failures, saver.saved_step) == (0, steps[-1] + 1)
    assert "step 2 was not saved (1 in a row): the disk of" in caplog.text


def test_too_many_failures_in_a_row_end_the_run_at_the_last_of_them(disk):
    _, saver = open_saver(disk / "run")
    save_some(saver, [1])
    saver._wait()
    with filled(disk):
        save_some(saver, [2, 3])
        with pytest.raises(UserError, match=r"is full .*; 3 saves in a row have failed; the newest .* step 1"):
            save_some(saver, [4])


def test_a_required_save_may_not_fail(disk):
    _, saver = open_saver(disk / "run")
    with filled(disk), pytest.raises(UserError, match="is full"):
        save_some(saver, [1], required=True)


def test_what_only_a_programmer_can_mend_ends_the_run(tmp_path):
    _, saver = open_saver(tmp_path / "run")
    saver.save(1, lambda: Snapshot({"weight": None}, {}), required=False)
    with pytest.raises(AttributeError):
        save_some(saver, [2])


def test_closing_waits_for_the_save_and_hides_no_other_error(tmp_path, caplog):
    store, saver = open_saver(tmp_path / "run")
    save_some(saver, [1])
    saver.close()
    assert store.latest().step == 1
    _, saver = open_saver(tmp_path / "run")
    saver.save(2, lambda: Snapshot({"weight": None}, {}), required=False)
    saver.close()
    assert "the last save did not finish" in caplog.text
