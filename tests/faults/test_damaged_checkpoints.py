"""Whatever happens to the files of a checkpoint, it is not loaded; the newest whole one is, and it is said why."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from data_shards.files import sha256_of_file
from spe_dist.checkpoint.reader import LoadedCheckpoint, fault_of, faults_of, list_checkpoints
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World

NEWEST = "step-000000002"


def open_store(folder):
    return CheckpointStore(folder, keep_last=5, keep_every=0, world=World())


@pytest.fixture
def store(tmp_path):
    """A store with the checkpoints of steps 1 and 2."""
    store = open_store(tmp_path / "run")
    for step in (1, 2):
        store.save(step, {"weight": torch.full((20,), float(step))}, {"step": step})
    return store


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A checkpoint to copy and damage."""
    store = open_store(tmp_path_factory.mktemp("pristine"))
    store.save(2, {"weight": torch.arange(20.0)}, {"step": 2})
    return store.folder / NEWEST


def files_of(checkpoint):
    return sorted(checkpoint.iterdir())


def test_every_bit_of_every_file_counts(pristine):
    assert fault_of(pristine) is None
    flips = 0
    for path in files_of(pristine):
        content = path.read_bytes()
        for bit in range(8 * len(content)):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(flipped)
            assert fault_of(pristine) is not None, (path.name, bit)
            flips += 1
        path.write_bytes(content)
    assert fault_of(pristine) is None
    assert flips > 3000


def test_every_length_but_the_right_one_is_found_out(pristine):
    for path in files_of(pristine):
        content = path.read_bytes()
        for length in range(len(content)):
            path.write_bytes(content[:length])
            assert fault_of(pristine) is not None, (path.name, length)
        path.write_bytes(content + b" ")
        assert fault_of(pristine) is not None or path.name == "manifest.json"
        path.write_bytes(content)
    assert fault_of(pristine) is None


_KEYS = st.sampled_from(["files", "format_version", "step", "bytes", "sha256", "state.json"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(max_size=300) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_a_manifest_of_garbage_is_a_reason_and_no_crash(pristine, garbage):
    manifest = pristine / "manifest.json"
    content = manifest.read_bytes()
    try:
        manifest.write_bytes(garbage)
        assert fault_of(pristine)
    finally:
        manifest.write_bytes(content)


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "rank-00000-of-00001.safetensors"])
def test_a_missing_file_is_named_and_the_older_checkpoint_taken(store, name):
    (store.folder / NEWEST / name).unlink()
    loaded = store.latest()
    assert loaded.step == 1
    assert [(skipped.name, skipped.reason) for skipped in loaded.skipped] == [(NEWEST, f"{name} is missing")]


def test_a_file_that_cannot_be_read_is_no_crash(store):
    for name in ("rank-00000-of-00001.safetensors", "manifest.json"):
        path = store.folder / NEWEST / name
        path.unlink()
        path.mkdir()
        assert store.latest().step == 1


def test_the_manifest_of_another_step_does_not_pass(store):
    shutil.rmtree(store.folder / NEWEST)
    shutil.copytree(store.folder / "step-000000001", store.folder / NEWEST)
    loaded = store.latest()
    assert (loaded.step, loaded.skipped[0].reason) == (1, "its manifest.json is that of step 1")


def test_all_faults_are_told(store):
    for name in ("state.json", "rank-00000-of-00001.safetensors"):
        (store.folder / NEWEST / name).unlink()
    assert len(faults_of(store.folder / NEWEST)) == 2


def test_folders_of_people_are_left_alone(store):
    (store.folder / "step-000000002.bak").mkdir()
    (store.folder / "notes").mkdir()
    assert [path.name for path in list_checkpoints(store.folder)] == ["step-000000001", NEWEST]
    open_store(store.folder).save(3, {"weight": torch.zeros(1)}, {})
    assert (store.folder / "step-000000002.bak").is_dir()


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_was_slipped_in_is_not_run(store, tmp_path):
    ran = tmp_path / "ran"
    checkpoint = store.folder / NEWEST
    (checkpoint / "rank-00001-of-00002.safetensors").write_bytes(pickle.dumps(Payload(ran)))
    (checkpoint / "optimizer.pt").write_bytes(pickle.dumps(Payload(ran)))
    loaded = store.latest()
    assert loaded.step == 1
    assert loaded.skipped[0].reason == "rank-00001-of-00002.safetensors is not in its manifest.json"
    assert not ran.exists()


def test_a_pickle_with_the_right_hash_is_not_run_either(store, tmp_path):
    """By somebody who can write the manifest too."""
    ran = tmp_path / "ran"
    checkpoint = store.folder / NEWEST
    path = checkpoint / "rank-00000-of-00001.safetensors"
    path.write_bytes(pickle.dumps(Payload(ran)))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"][path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is not a safetensors file"):
        LoadedCheckpoint(checkpoint).names()
    assert not ran.exists()
