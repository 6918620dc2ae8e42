"""`spe predict --ray`: the shards of one process, whatever is killed meanwhile."""

import json
import os
import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from data_shards.errors import UserError
from launcher.cli import dispatch
from tests.faults.command_runs import PATIENCE, SPE
from tests.forked import clean_environment
from tests.integration.ray_head import wait_until
from tests.unit.spe_dist.extraction.lively import save_lively

pytestmark = pytest.mark.ray
TEXTS = [f"In {place} lives {name}, who works for Acme Inc." for place in ("Paris", "Rome") for name in ("Ann", "Bob")]


@pytest.fixture
def command(tmp_path) -> list[str]:
    """But for the folder of the shards."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("\n".join(TEXTS * 2))
    lines = [json.dumps({"id": number, "text": text}) for number, text in enumerate(TEXTS * 6)]
    (tmp_path / "in" / "b.jsonl").write_text("\n".join([*lines[:13], "{", *lines[13:]]))
    model = save_lively(tmp_path / "model")
    return ["predict", str(model), str(tmp_path / "in"), "--records-per-file=4", "--max-bad-lines=1", "--out"]


def content(folder: Path) -> dict[str, bytes]:
    """Of all files; there is nothing hidden."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("ray_session")
def test_a_bad_record_is_named_and_the_rest_is_what_one_process_gives(command, tmp_path):
    ray = [*command, str(tmp_path / "there"), "--ray", "--workers=1"]
    with pytest.raises(UserError, match=r"b\.jsonl, line 14: invalid JSON: .*: fix or remove it"):
        dispatch([*ray, "--max-bad-lines=0"])
    assert not (tmp_path / "there" / "manifest.json").exists()
    dispatch(ray)
    dispatch([*command, str(tmp_path / "here")])
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert len(content(tmp_path / "here")) == 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_worker_is_replaced_and_a_killed_command_resumes(command, tmp_path, seed):
    dispatch([*command, str(tmp_path / "here")])
    draw, out = random.Random(seed), tmp_path / "there"
    ray = [SPE, *command, str(out), "--ray", "--workers=1"]
    environment = clean_environment() | {"RAY_TMPDIR": "/tmp"}
    with (tmp_path / "err").open("w") as err:
        first = psutil.Popen(ray, env=environment, stdout=err, stderr=err)
        wait_until(lambda: list(out.glob("*.jsonl")), process=first, seconds=PATIENCE)
        time.sleep(draw.random())
        first.kill()
        first.wait()
        before = {path.name for path in out.glob("*.jsonl")}
        second = psutil.Popen(ray, env=environment, stdout=subprocess.DEVNULL, stderr=err)
        wait_until(lambda: workers_of(second), process=second, seconds=PATIENCE)
        time.sleep(draw.random())
        for worker in workers_of(second):
            worker.kill()
        assert second.wait(PATIENCE) == os.EX_OK, (tmp_path / "err").read_text()
    assert before and content(out) == content(tmp_path / "here")
    assert "Traceback" not in (tmp_path / "err").read_text()


def workers_of(command: psutil.Popen) -> list[psutil.Process]:
    """Actors that predict."""
    return [one for one in command.children(recursive=True) if "MapWorker" in " ".join(one.cmdline())]
