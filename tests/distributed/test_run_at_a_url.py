"""Machines that share nothing but a URL: what a run knows goes up, and comes down on another machine."""

import json
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from data_shards.errors import UserError
from spe_dist.checkpoint.reader import list_checkpoints
from spe_dist.checkpoint.remote_folder import RemoteFolder
from spe_dist.checkpoint.storage_backends import ObjectStorage
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World
from spe_dist.train.loop import train
from spe_dist.train.remote_sync import RemoteSync
from spe_dist.train.start_times import read_starts
from tests.distributed.ranks import run_ranks
from tests.exactness.runs import DROPOUT, configure, metrics_of, stopped_after
from tests.integration.command import PRETRAIN, run, small_run
from tests.unit.spe_dist.tiny_run import write_dataset

pytestmark = pytest.mark.distributed


def open_store(url, machine, world=None, keep_last=2):
    place = ObjectStorage(RemoteFolder(str(url)), machine, before_completing=lambda: None)
    return CheckpointStore(place, keep_last=keep_last, keep_every=0, world=world or World())


@pytest.fixture
def bucket(tmp_path):
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"


@pytest.fixture
def url(bucket):
    return f"file://{bucket}"


def save(store, *steps):
    for step in steps:
        store.save(step, {"weight": torch.full((100,), float(step))}, {"step": step})


def test_the_newest_is_read_on_a_machine_that_has_nothing(url, bucket, tmp_path):
    save(open_store(url, tmp_path / "one"), 1, 2, 3)
    assert [path.name for path in list_checkpoints(bucket)] == ["step-000000002", "step-000000003"]
    other = open_store(url, tmp_path / "other")
    loaded = other.latest()
    assert (loaded.step, loaded.metadata) == (3, {"step": 3})
    assert torch.equal(loaded.get("weight"), torch.full((100,), 3.0))
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["step-000000003"]
    assert not any(path.is_file() for path in (tmp_path / "one").rglob("*.safetensors"))


def test_nothing_there_is_a_fresh_start(url, tmp_path):
    assert open_store(url, tmp_path / "one").latest() is None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda newest: next(newest.glob("rank-*")).write_bytes(b"half"), "rank-.* has 4 bytes, not .*"),
        (lambda newest: next(newest.glob("rank-*")).unlink(), "rank-.* is missing"),
        (lambda newest: (newest / "manifest.json").write_text("{"), "manifest.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_and_replaced_when_its_step_comes_again(url, bucket, tmp_path, damage, reason):
    save(open_store(url, tmp_path / "one"), 1, 2)
    damage(bucket / "step-000000002")
    store = open_store(url, tmp_path / "other")
    loaded = store.latest()
    assert loaded.step == 1 and re.fullmatch(reason, loaded.skipped[0].reason)
    save(store, 2)
    assert open_store(url, tmp_path / "third").latest().step == 2


def test_files_without_a_manifest_are_no_checkpoint_and_are_removed(url, bucket, tmp_path):
    save(open_store(url, tmp_path / "one"), 1, 2)
    (bucket / "step-000000002" / "manifest.json").unlink()
    (bucket / "notes").mkdir()
    (bucket / "notes" / "manifest.json").write_text("a person's")
    (bucket / "readme").write_text("a person's")
    assert open_store(url, tmp_path / "other").latest().step == 1
    assert {path.name for path in bucket.iterdir()} == {"step-000000001", "notes", "readme"}


def test_a_manifest_cannot_write_outside_of_its_folder(url, bucket, tmp_path):
    save(open_store(url, tmp_path / "one"), 1)
    (bucket / "evil").write_text("evil")
    manifest = bucket / "step-000000001" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"state.json"', '"../../evil"'))
    with pytest.raises(UserError, match="no checkpoint in"):
        open_store(url, tmp_path / "machines" / "other").latest()
    assert not (tmp_path / "machines" / "evil").exists() and not (tmp_path / "evil").exists()


def test_no_clock_says_which_machine_knows_more(url, bucket, tmp_path):
    """Machine one, two hours ahead, starts a run; the other goes on; one goes on and crashes; one goes on."""
    one, other = tmp_path / "one", tmp_path / "other"

    def go_on(machine, text, *, sent):
        remote_sync = RemoteSync(RemoteFolder(url), machine)
        remote_sync.download()
        with (machine / "metrics.jsonl").open("a") as file:
            file.write(text)
        (machine / "config.yaml").write_text(text)
        if machine == one:
            ahead = time.time() + 7200
            for path in machine.iterdir():
                os.utime(path, (ahead, ahead))
        if sent:
            remote_sync.upload()

    one.mkdir()
    go_on(one, "1\n", sent=True)
    go_on(other, "2\n", sent=True)
    go_on(one, "3\n", sent=False)
    assert (one / "metrics.jsonl").read_text() == "1\n2\n3\n"
    go_on(one, "4\n", sent=True)
    assert (bucket / "metrics.jsonl").read_text() == "1\n2\n3\n4\n"
    assert (bucket / "config.yaml").read_text() == "4\n"
    go_on(other, "", sent=False)
    assert sorted(path.name for path in other.iterdir()) == ["config.yaml", "metrics.jsonl"]
    assert (other / "metrics.jsonl").read_text() == "1\n2\n3\n4\n"


def test_a_run_that_was_deleted_at_the_url_is_forgotten_here(url, bucket, tmp_path):
    machine = tmp_path / "machine"
    (machine / "tensorboard").mkdir(parents=True)
    for name in ("config.yaml", "latest", "metrics.jsonl", "tensorboard/events", "LOCK"):
        (machine / name).write_text("1\n")
    remote_sync = RemoteSync(RemoteFolder(url), machine)
    remote_sync.upload()
    remote_sync.download()
    assert (machine / "tensorboard/events").exists()
    shutil.rmtree(bucket)
    RemoteSync(RemoteFolder(url), machine).download()
    assert [path.name for path in machine.iterdir()] == ["LOCK"]


def test_a_url_that_nothing_opens_is_said_without_its_secrets():
    with pytest.raises(UserError, match=r"^ftp2://host/runs cannot be opened \((?!.*secret)"):
        RemoteFolder("ftp2://host/runs?key=secret")
    with pytest.raises(UserError, match=r"^s3://bucket/runs contains a secret"):
        RemoteFolder("s3://key:secret@bucket/runs")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_the_command_as_a_person_types_it_from_two_machines(tmp_path, bucket, url):
    """Under Ray, which keeps its own notes at the URL too."""
    write_dataset(tmp_path / "shards")
    for machine, steps in (("one", 4), ("other", 7)):
        settings = small_run(tmp_path, f"--run.folder={url}", "--cluster.workers=1", f"--train.steps={steps}")
        done = run(*PRETRAIN, *settings, XDG_CACHE_HOME=str(tmp_path / machine))
        assert done.returncode == 0, done.stderr[-3000:]
        assert f"finished step {steps}" in done.stdout
    lines = [json.loads(line) for line in (bucket / "debug" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 8))
    assert [start["after_step"] for start in read_starts(bucket / "debug")] == [0, 4]


def train_on_machines(config_of, folder, stop):
    """Every rank is a machine with a cache of its own."""
    rank = os.environ["RANK"]
    before = {name: os.environ.get(name) for name in ("XDG_CACHE_HOME", "LOCAL_RANK")}
    os.environ.update(XDG_CACHE_HOME=str(folder / f"machine-{rank}"), LOCAL_RANK="0")
    try:
        if stop is None:
            return train(config_of).step, config_of.run_folder
        with stopped_after(stop, rank=0):
            return train(config_of).step, config_of.run_folder
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.mark.timeout(600)
def test_a_run_goes_on_on_other_machines_as_if_it_had_not_moved(tmp_path, bucket, url):
    write_dataset(tmp_path / "shards", sentences=130)
    settings = DROPOUT | {"train": {"steps": 16, "checkpoint_every": 4, "log_every": 1, "keep_last": 2}}
    alone = configure(tmp_path / "shards", tmp_path / "alone", **settings)
    run_ranks(train_on_machines, 2, alone, tmp_path / "cache", None)
    moved = configure(tmp_path / "shards", url, **settings)
    first = run_ranks(train_on_machines, 2, moved, tmp_path / "first", 9)
    assert [step for step, _ in first] == [9, 9]
    assert len({folder for _, folder in first}) == 2
    second = run_ranks(train_on_machines, 2, moved, tmp_path / "second", None)
    assert [step for step, _ in second] == [16, 16]
    there = bucket / "debug"
    assert metrics_of(there) == metrics_of(Path(alone.run_folder))
    assert [path.name for path in list_checkpoints(there / "checkpoints")] == ["step-000000012", "step-000000016"]
    assert {"config.yaml", "versions.json", "dataset.json", "encoder.json", "tokenizer", "tensorboard", "logs"} <= {
        path.name for path in there.iterdir()
    }
    assert not (there / "LOCK").exists()


@contextmanager
def s3_server():
    """An S3 of this machine; skips without moto (`pip install 'moto[server]'`)."""
    program = os.environ.get("MOTO_SERVER") or shutil.which("moto_server")
    if program is None:
        pytest.skip("no moto_server: pip install 'moto[server]'")
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([program, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
def test_a_real_s3(tmp_path, monkeypatch):
    from pyarrow import fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with s3_server() as endpoint:
        fs.S3FileSystem(endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True).create_dir("bucket")
        url = f"s3://bucket/runs/debug/checkpoints?endpoint_override={endpoint}&region=us-east-1"
        store = open_store(url, tmp_path / "one")
        assert store.latest() is None
        save(store, 1, 2, 3)
        remote = RemoteFolder(url)
        assert {name.partition("/")[0] for name in remote.files()} == {"step-000000002", "step-000000003"}
        remote.delete("step-000000003/manifest.json")
        loaded = open_store(url, tmp_path / "other").latest()
        assert loaded.step == 2 and torch.equal(loaded.get("weight"), torch.full((100,), 2.0))
        assert {name.partition("/")[0] for name in remote.files()} == {"step-000000002"}
