"""`spe checkpoint list|verify`, as a person sees them."""

import pytest
import torch

from data_shards.errors import UserError
from launcher.cli import dispatch
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
    header, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert header == ["step", "saved", "size", "ranks", "ZeRO", "state"]
    assert rows[0][0] == "100" and rows[0][3:] == ["1.2", "MB", "2", "3", "complete"]
    assert " ".join(rows[1][5:]) == "2 3 rank-00000-of-00001.safetensors has 5 bytes, not 1200080"
    assert " ".join(rows[2][5:]) == "? ? state.json is missing"


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
