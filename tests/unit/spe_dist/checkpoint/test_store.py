import errno
import json
import os
import re
import stat
import subprocess

import pytest
import torch

from data_shards.errors import UserError
from spe_dist.checkpoint.reader import LoadedCheckpoint, list_checkpoints
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World

RANK_FILE = "rank-00000-of-00001.safetensors"


def open_store(folder, keep_last=10, keep_every=0):
    return CheckpointStore(folder, keep_last=keep_last, keep_every=keep_every, world=World())


def save(store, step):
    return store.save(step, {"weight": torch.full((1000,), float(step))}, {"step": step})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def two(tmp_path):
    """A store with the checkpoints 100 and 200."""
    store = open_store(tmp_path / "run")
    save(store, 100)
    save(store, 200)
    return store


def test_what_was_saved_is_read(two):
    loaded = two.latest()
    assert loaded.step == 200
    assert loaded.skipped == ()
    assert loaded.names() == {"weight"}
    assert torch.equal(loaded.get("weight"), torch.full((1000,), 200.0))
    assert loaded.metadata == {"step": 200}
    assert names(loaded.folder) == ["manifest.json", RANK_FILE, "state.json"]


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert open_store(tmp_path / "run").latest() is None


def test_a_tensor_that_is_not_there_is_named(two):
    with pytest.raises(UserError, match=r"step-000000200 has no tensor bias: resume with"):
        two.latest().get("bias")


def flip_a_bit(checkpoint):
    content = bytearray((checkpoint / RANK_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / RANK_FILE).write_bytes(content)


def cut_short(checkpoint):
    content = (checkpoint / RANK_FILE).read_bytes()
    (checkpoint / RANK_FILE).write_bytes(content[:-7])


def edit_state(checkpoint):
    (checkpoint / "state.json").write_text(json.dumps({"step": 201}, indent=1, sort_keys=True))


def later_format(checkpoint):
    path = checkpoint / "manifest.json"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 3'))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_a_bit, f"{RANK_FILE} does not have the SHA-256 it was written with"),
        (cut_short, f"{RANK_FILE} has 40[0-9]+ bytes, not 40[0-9]+"),
        (edit_state, "state.json does not have the SHA-256 it was written with"),
        (later_format, "its format version is 3, this program reads 2"),
        (lambda checkpoint: (checkpoint / RANK_FILE).unlink(), f"{RANK_FILE} is missing"),
        (lambda checkpoint: (checkpoint / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda checkpoint: (checkpoint / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda checkpoint: (checkpoint / "manifest.json").write_text("[]"), "manifest.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_with_the_reason_and_the_older_one_taken(two, damage, reason):
    damage(two.folder / "step-000000200")
    loaded = two.latest()
    assert loaded.step == 100
    (skipped,) = loaded.skipped
    assert skipped.name == "step-000000200"
    assert re.fullmatch(reason, skipped.reason)


def test_nothing_but_damaged_checkpoints_is_no_fresh_start(two):
    for checkpoint in list_checkpoints(two.folder):
        cut_short(checkpoint)
    with pytest.raises(UserError, match=r"no checkpoint in .* can be used \(step-000000200: .*; step-000000100: "):
        two.latest()


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(two):
    flip_a_bit(two.folder / "step-000000200")
    save(two, 200)
    assert (two.latest().step, two.latest().skipped) == (200, ())


def test_a_complete_checkpoint_is_left_as_it_is_when_its_step_comes_again(two):
    before = (two.folder / "step-000000200").stat().st_ino
    save(two, 200)
    assert (two.folder / "step-000000200").stat().st_ino == before


def test_a_leftover_is_no_checkpoint_and_the_next_start_removes_it(two):
    leftover = two.folder / ".partial-step-000000300"
    leftover.mkdir()
    (leftover / RANK_FILE).write_bytes(b"half")
    assert two.latest().step == 200
    open_store(two.folder)
    assert names(two.folder) == ["step-000000100", "step-000000200"]


def test_the_newest_and_every_so_many_th_are_kept(tmp_path):
    store = open_store(tmp_path / "run", keep_last=2, keep_every=300)
    for step in range(100, 1100, 100):
        save(store, step)
    kept = [LoadedCheckpoint(path).step for path in list_checkpoints(store.folder)]
    assert kept == [300, 600, 900, 1000]


def test_an_old_checkpoint_on_another_disk_stays_with_one_warning(two, tmp_path, caplog):
    """Somebody has moved it there and left a symbolic link."""
    old = two.folder / "step-000000100"
    old.rename(tmp_path / "elsewhere")
    old.symlink_to(tmp_path / "elsewhere")
    store = open_store(two.folder, keep_last=1)
    save(store, 300)
    save(store, 400)
    assert names(store.folder) == ["step-000000100", "step-000000400"]
    assert caplog.text.count("step 100 cannot be deleted and remains") == caplog.text.count("WARNING") == 1
    assert open_store(two.folder).latest().step == 400


def test_a_busy_file_in_what_is_deleted_is_a_warning(two, monkeypatch, caplog):
    def busy(path):
        raise OSError(errno.EBUSY, "Device or resource busy", f"{path}/.nfs01")

    monkeypatch.setattr("shutil.rmtree", busy)
    store = open_store(two.folder, keep_last=1)
    save(store, 300)
    left = [".partial-deleting-step-000000100", ".partial-deleting-step-000000200"]
    assert names(store.folder) == [*left, "step-000000300"]
    assert open_store(two.folder).latest().step == 300
    assert caplog.text.count("cannot delete") == 4


def test_files_are_as_readable_as_umask_says(tmp_path):
    store = open_store(tmp_path / "run")
    before = os.umask(0o022)
    try:
        save(store, 100)
        os.umask(0o027)
        save(store, 200)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (store.folder / "step-000000100").iterdir()}
    assert modes == {0o644}
    assert (store.folder / "step-000000200" / RANK_FILE).stat().st_mode & 0o777 == 0o640


def test_a_file_system_that_cannot_sync_folders_is_good_enough(tmp_path, monkeypatch):
    fsync = os.fsync

    def of_files_alone(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", of_files_alone)
    store = open_store(tmp_path / "run")
    save(store, 100)
    assert store.latest().step == 100


def test_a_damaged_later_checkpoint_does_not_push_out_the_one_just_written(two):
    flip_a_bit(two.folder / "step-000000200")
    store = open_store(two.folder, keep_last=1)
    save(store, 150)
    assert store.latest().step == 150


def test_steps_are_ordered_as_numbers(tmp_path):
    store = open_store(tmp_path / "run")
    save(store, 999_999_999)
    save(store, 1_000_000_000)
    assert store.latest().step == 1_000_000_000


def test_keeping_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"train.keep_last is 0"):
        open_store(tmp_path / "run", keep_last=0)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mount.returncode:
        pytest.skip(f"cannot mount a small file system here (needs root): {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_named_and_leaves_the_older_checkpoint(small_disk):
    store = open_store(small_disk / "run")
    save(store, 100)
    with pytest.raises(UserError, match=r"the disk of .* is full \(ENOSPC\): free some space"):
        store.save(200, {"weight": torch.zeros(100_000)}, {})
    assert names(store.folder) == ["step-000000100"]
    assert store.latest().step == 100


def test_a_disk_that_is_full_only_for_the_state_file(small_disk):
    store = open_store(small_disk / "run")
    with pytest.raises(UserError, match="ENOSPC"):
        store.save(200, {"weight": torch.zeros(1000)}, {"text": "x" * 400_000})
    assert names(store.folder) == []
