"""A whole run, from text to predictions, in which no process unpickles what it has read from a file."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_shards.sample.corpus import generate_annotated, write_annotated, write_corpus
from tests.faults.test_security import Malicious
from tests.forked import clean_environment
from tests.integration.command import small_run
from tests.integration.ray_head import wait_until
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB, ROOT

_SPE = [sys.executable, "-c", "from launcher.cli import main; main()"]
_WAYS = {
    "pickle.load": "pickle.load(open(path, 'rb'))",
    "pickle.Unpickler": "pickle.Unpickler(open(path, 'rb')).load()",
    "pickle.loads": "pickle.loads(open(path, 'rb').read())",
    "_pickle.loads": "_pickle.loads(open(path, 'rb').read())",
    "cloudpickle": "from ray import cloudpickle; cloudpickle.loads(open(path, 'rb').read())",
    "pandas": "import pandas; pandas.read_pickle(path)",
    "torch.load": "import torch; torch.load(path + '.pt', weights_only=False)",
    "weights_only": "import torch; torch.load(path + '.pt')",
    "numpy.load": "import numpy; numpy.load(path + '.npy', allow_pickle=True)",
}


def _environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "tests/faults/no_pickles"), str(ROOT)])
    return clean_environment() | {"PYTHONPATH": path, "NO_PICKLES": str(folder / "refused"), "HF_HUB_OFFLINE": "1"}


@pytest.mark.parametrize("way", _WAYS)
def test_what_would_refuse_a_pickle_does(tmp_path, way):
    """Else the run below would show nothing."""
    path, ran = tmp_path / "file", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Malicious(ran)))
    torch.save(Malicious(ran), tmp_path / "file.pt")
    np.save(tmp_path / "file.npy", np.array([Malicious(ran)], dtype=object), allow_pickle=True)
    program = f"import pickle, _pickle; path = {str(path)!r}; {_WAYS[way]}"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=_environment(tmp_path), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "PickleRefused" in done.stderr
    assert not ran.exists() and (tmp_path / "refused").read_text().count("\n") == 1


@pytest.mark.ray
@pytest.mark.slow  # two minutes
def test_a_whole_run_unpickles_nothing_that_it_reads_from_a_file(tmp_path):
    environment = _environment(tmp_path)
    write_corpus(tmp_path / "text.jsonl", sentences=300, seed=0)
    train, dev = generate_annotated((24, 8), sentences=300, seed=0)
    write_annotated(tmp_path / "train.jsonl", train)
    write_annotated(tmp_path / "dev.jsonl", dev)

    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [*_SPE, *map(str, arguments)]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=400)
        refused = tmp_path / "refused"
        assert not refused.exists(), refused.read_text()
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    run("shards", "build", "text.jsonl", "--out", "shards", "--tokenizer", DEBUG_VOCAB)
    settings = ["--run.name=it", "--train.steps=40", "--train.checkpoint_every=1", "--cluster.workers=1"]
    pretrain = [*_SPE, "pretrain", *small_run(tmp_path, *settings)]
    checkpoints = tmp_path / "runs/it/checkpoints"
    with (tmp_path / "said").open("w") as said:
        call = {"env": environment, "cwd": tmp_path, "stdout": said, "stderr": said, "start_new_session": True}
        killed = subprocess.Popen(pretrain, **call)
        try:
            wait_until(lambda: any(checkpoints.glob("step-*")) or killed.poll() is not None, seconds=400)
        finally:
            os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, (tmp_path / "said").read_text()[-3000:]
    assert "finished step 40" in run("pretrain", *small_run(tmp_path, *settings)).stdout
    run("export", "runs/it")
    fine = ["--run.name=fine", "--run.folder=runs", "--train.epochs=1", "--train.first-evaluation=0"]
    run("finetune", "--from", "runs/it", "--train", "train.jsonl", "--dev", "dev.jsonl", *fine)
    found = run("predict", "runs/fine/seed-1/model", "--text", "Ada works for Acme.").stdout
    assert json.loads(found)["text"] == "Ada works for Acme."
