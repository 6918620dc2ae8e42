"""`spe checkpoint list|verify`, as a person sees them."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from data_shards.errors import UserError
from launcher.cli import dispatch
from spe_dist.checkpoint.reader import newest_checkpoint, step_of
from spe_dist.checkpoint.store import CheckpointStore
from spe_dist.engine.world import World


@pytest.fixture
def run(tmp_path):
    """A run with three checkpoints."""
    store = CheckpointStore(tmp_path / "run" / "checkpoints", keep_last=5, keep_every=0, world=World())
    for step in (100, 200, 300):
        state = {"world_size": 2, "config": {"train": {"zero_stage": 3}}}
        store.save(step, {"weight": torch.zeros(300_000)}, state)
    return tmp_path / "run"


def file_of(run, step):
    return run / "checkpoints" / f"step-{step:09d}" / "rank-00000-of-00001.safetensors"


def rot(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_list_tells_what_there_is(run, capsys):
    file_of(run, 200).write_bytes(b"short")
    (run / "checkpoints" / "step-000000300" / "state.json").unlink()
    dispatch(["checkpoint", "list", str(run)])
    header, _, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert header == ["step", "saved", "size", "ranks", "ZeRO", "state"]
    assert rows[0][0] == "100" and rows[0][3:] == ["1.2", "MB", "2", "3", "complete"]
    assert " ".join(rows[1][5:]) == "2 3 rank-00000-of-00001.safetensors has 5 bytes, not 1200080"
    assert " ".join(rows[2][5:]) == "? ? state.json is missing"
    dispatch(["checkpoint", "list", str(run), "--json"])
    first, second, third = json.loads(capsys.readouterr().out)
    assert (first["step"], first["world_size"], first["zero_stage"], first["fault"]) == (100, 2, 3, None)
    assert second["fault"].endswith("has 5 bytes, not 1200080") and third["fault"] == "state.json is missing"
    with pytest.raises(UserError, match="2 of 3 checkpoints damaged"):
        dispatch(["checkpoint", "verify", str(run), "--json"])
    verified = json.loads(capsys.readouterr().out)
    assert [(one["step"], bool(one["faults"])) for one in verified] == [(100, False), (200, True), (300, True)]


def test_what_was_written_is_verified(run, capsys):
    dispatch(["checkpoint", "verify", str(run)])
    assert capsys.readouterr().out.splitlines() == [
        f"step-{step:09d}: every file is as it was written" for step in (100, 200, 300)
    ]


def test_damage_is_named_and_ends_with_an_error(run, capsys):
    rot(file_of(run, 200))
    with pytest.raises(UserError, match=r"1 of 3 checkpoints damaged"):
        dispatch(["checkpoint", "verify", str(run)])
    assert "step-000000200: rank-00000-of-00001.safetensors does not have the SHA-256" in capsys.readouterr().out
    dispatch(["checkpoint", "verify", str(run), "300"])
    assert capsys.readouterr().out == "step-000000300: every file is as it was written\n"


def test_what_is_not_there_is_said(run, tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint of step 7: `spe checkpoint list`"):
        dispatch(["checkpoint", "verify", str(run), "7"])
    with pytest.raises(UserError, match="is not a run"):
        dispatch(["checkpoint", "list", str(tmp_path)])
    (tmp_path / "new" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="no finished checkpoint yet"):
        dispatch(["checkpoint", "list", str(tmp_path / "new")])


@pytest.fixture
def deleted_while_read(run, monkeypatch):
    """The run goes on, and deletes its newest but one and then its newest as soon as they are looked at."""
    store = CheckpointStore(run / "checkpoints", keep_last=5, keep_every=0, world=World())
    read_bytes = Path.read_bytes

    def prune(path):
        step = step_of(path.parent) if path.name == "manifest.json" else 0
        if step in (200, 300):
            store.save(400, {"weight": torch.ones(3)}, {})
            store._storage.delete(step)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", prune)
    return run


def test_what_the_run_deletes_meanwhile_is_no_damage(deleted_while_read, capsys):
    dispatch(["checkpoint", "verify", str(deleted_while_read)])
    assert capsys.readouterr().out.splitlines() == [
        "step-000000100: every file is as it was written",
        "step-000000200: deleted by its run meanwhile",
        "step-000000300: deleted by its run meanwhile",
    ]


def test_the_list_leaves_out_what_the_run_deletes_meanwhile(deleted_while_read, capsys):
    dispatch(["checkpoint", "list", str(deleted_while_read)])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["step", "----", "100"]


def test_a_reader_of_the_newest_gets_the_one_that_came_instead(deleted_while_read):
    checkpoint = newest_checkpoint(deleted_while_read / "checkpoints")
    assert (checkpoint.step, checkpoint.skipped) == (400, ())
    shutil.rmtree(checkpoint.folder)
    assert torch.equal(checkpoint.get("weight"), torch.ones(3))
