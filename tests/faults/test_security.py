"""What must not happen: a Ray open to anybody, a token in a file, a pickle that runs, a path that leads out."""

import functools
import hashlib
import http.server
import io
import json
import pickle
import re
import secrets
import shutil
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest

from cluster.security import Access, probe_access
from data_shards.errors import UserError
from data_shards.shards.reader import ShardReader
from spe_dist.checkpoint.reader import newest_checkpoint
from tests.forked import clean_environment, run_as_only_rank, run_script
from tests.integration.command import PRETRAIN, only_error, run, small_run
from tests.integration.ray_head import ray_head, wait_until
from tests.unit.spe_dist.tiny_run import ROOT, train_tiny_run

SCRIPT = ROOT / "launcher/pretrain.py"


@pytest.fixture
def home(tmp_path):
    """A home folder without a token."""
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


# Ray


@pytest.mark.ray
@pytest.mark.parametrize(
    ("mode", "join"),
    [
        pytest.param({}, False, id="not set"),
        pytest.param({}, True, id="not set, and joined", marks=pytest.mark.slow),
        pytest.param({"RAY_AUTH_MODE": "disabled"}, True, id="switched off, and joined", marks=pytest.mark.slow),
    ],
)
def test_an_open_cluster_is_joined_only_if_a_flag_says_so(shards, tmp_path, home, mode, join):
    environment = clean_environment() | home | mode
    arguments = small_run(shards, f"--run.folder={tmp_path / 'runs'}", "--train.steps=1")
    with ray_head(environment, "--dashboard-host=0.0.0.0") as head:
        # A token of ours must not travel to a cluster that does not ask for one.
        for ours in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}):
            error = only_error(run_script(SCRIPT, *arguments, f"--cluster.address={head.address}", **home, **ours))
            assert head.address in error and "asks for no token" in error and "--cluster.allow-unauthenticated" in error
        assert not (tmp_path / "runs").exists()
        if join:
            allowed = f"--cluster.address={head.address}", "--cluster.allow-unauthenticated"
            done = run(*PRETRAIN, *arguments, *allowed, **home)
            assert done.returncode == 0, done.stderr[-3000:]
            assert "finished step 1" in done.stdout and "asks for no token" in done.stderr


@pytest.mark.ray
def test_a_local_ray_is_not_started_open(shards, tmp_path, home):
    arguments = small_run(shards, f"--run.folder={tmp_path / 'runs'}")
    error = only_error(run_script(SCRIPT, *arguments, **home, RAY_AUTH_MODE="disabled"))
    assert "asks for no token" in error and "unset RAY_AUTH_MODE" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.ray
def test_a_local_ray_of_a_run_refuses_whoever_has_no_token_and_its_token_is_in_no_file(shards, tmp_path, home):
    arguments = small_run(shards, f"--run.folder={tmp_path / 'runs'}", "--cluster.workers=1")
    environment = clean_environment() | home
    with (tmp_path / "said").open("w") as said:
        driver = subprocess.Popen([*PRETRAIN, *arguments], env=environment, stdout=said, stderr=subprocess.STDOUT)
        wait_until(lambda: _children(driver.pid, "gcs_server") and _children(driver.pid, "raylet"))
        (gcs,) = _children(driver.pid, "gcs_server")
        wait_until(lambda: _ports(gcs))
        assert [probe_access(f"127.0.0.1:{port}") for port in _ports(gcs)] == [Access.TOKEN]
        assert driver.poll() is None
        assert driver.wait(timeout=300) == 0, (tmp_path / "said").read_text()[-3000:]
    made = Path(home["HOME"], ".ray", "auth_token")
    assert made.stat().st_mode & 0o077 == 0
    token = made.read_text().strip()
    assert _files_with(token, tmp_path / "runs", tmp_path / "said") == []


@pytest.mark.ray
@pytest.mark.slow
def test_a_head_with_a_token_is_closed_to_others_and_the_token_is_in_no_file(shards, tmp_path, home):
    token = secrets.token_hex(16)
    ours = home | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    arguments = small_run(shards, f"--run.folder={tmp_path / 'runs'}", "--cluster.workers=1")
    with ray_head(clean_environment() | ours) as head:
        arguments += [f"--cluster.address={head.address}"]
        assert "asks for a token" in only_error(run_script(SCRIPT, *arguments, **home))
        wrong = run(*PRETRAIN, *arguments, **ours | {"RAY_AUTH_TOKEN": "wrong"})
        assert "rejects the token found here" in only_error(wrong)
        with (tmp_path / "said").open("w") as said:
            call = {"env": clean_environment() | ours, "stdout": said, "stderr": subprocess.STDOUT}
            driver = subprocess.Popen([*PRETRAIN, *arguments], **call)
            wait_until(lambda: (tmp_path / "runs" / "debug" / "metrics.jsonl").exists() or driver.poll() is not None)
            assert probe_access(head.address) is Access.TOKEN
            for path in ("/api/version", "/api/jobs/", "/api/cluster_status"):
                assert _status(head.dashboard + path) == 401
                assert _status(head.dashboard + path, token) == 200
            assert driver.wait(timeout=300) == 0, (tmp_path / "said").read_text()[-3000:]
        assert (tmp_path / "runs" / "debug" / "tensorboard").is_dir()
        assert _files_with(token, tmp_path / "runs", tmp_path / "said", head.folder) == []
    (tmp_path / "leak").write_text(f"a {token} b")
    assert _files_with(token, tmp_path) == [tmp_path / "leak"]  # the search does work


def _children(pid, name):
    return [child for child in psutil.Process(pid).children(recursive=True) if child.name() == name]


def _ports(process):
    connections = process.net_connections(kind="tcp")
    return [connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN]


def _status(url, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def _files_with(token, *places):
    """Files below some places that hold a token, as text or in hexadecimal bytes."""
    files = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place])]
    wanted = (token.encode(), bytes.fromhex(token))
    return [path for path in files if path.is_file() and any(form in path.read_bytes() for form in wanted)]


# Shards


class Malicious:
    """Creates a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def trap(tmp_path):
    """A payload, and the file that shows that it ran."""
    path = tmp_path / "ran"
    payload = pickle.dumps(Malicious(path))
    yield payload, path
    assert not path.exists()
    pickle.loads(payload)  # noqa: S301
    assert path.exists()  # the trap does work


@pytest.fixture
def copy(shards, tmp_path):
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def _rewrite_shard(folder, change):
    """Change a shard's members, and its hash in the manifest with it, as an attacker would."""
    document = json.loads((folder / "manifest.json").read_text())
    entry = document["shardlist"][0]
    path = folder / entry["url"]
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    with tarfile.open(path, "w") as tar:
        for name, data in change(members).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    list_shard_as_it_is(folder)


def list_shard_as_it_is(folder):
    """Make the manifest agree with the present content of the first shard."""
    document = json.loads((folder / "manifest.json").read_text())
    entry = document["shardlist"][0]
    content = (folder / entry["url"]).read_bytes()
    entry |= {"filesize": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize("ending", ["pyd", "pkl", "pickle", "pth", "pt", "dill"])
def test_a_pickle_beside_the_members_of_a_block_does_not_run(copy, trap, ending):
    _rewrite_shard(copy / "shards", lambda members: {f"{min(members).split('.')[0]}.{ending}": trap[0], **members})
    ShardReader(copy / "shards").read_shard(0)


def test_a_pickle_in_an_array_does_not_run_and_ends_a_run_with_one_line(copy, trap, tmp_path):
    array = io.BytesIO()
    np.save(array, np.array([Malicious(trap[1])], dtype=object), allow_pickle=True)
    key = "pieces.npy"
    _rewrite_shard(
        copy / "shards",
        lambda members: {name: array.getvalue() if name.endswith(key) else data for name, data in members.items()},
    )
    error = only_error(run_as_only_rank(SCRIPT, *small_run(copy, "--data.workers=0")))
    assert "00-000000.tar" in error and "not a shard of this program" in error


def test_a_shard_that_is_a_pickle_does_not_run(copy, trap):
    (copy / "shards" / "00-000000.tar").write_bytes(trap[0])
    list_shard_as_it_is(copy / "shards")
    with pytest.raises(UserError, match="not a shard of this program"):
        ShardReader(copy / "shards").read_shard(0)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b.tar", "..", "pipe:touch x"])
@pytest.mark.parametrize("place", ["shard", "tokenizer folder", "tokenizer file"])
def test_a_dataset_that_names_files_elsewhere_is_refused(copy, name, place):
    document = json.loads((copy / "shards" / "manifest.json").read_text())
    if place == "shard":
        document["shardlist"][0]["url"] = name
    elif place == "tokenizer folder":
        document["tokenizer"]["folder"] = name
    else:
        document["tokenizer"]["files"][name] = "0" * 64
    (copy / "shards" / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="not a plain file name"):
        ShardReader(copy / "shards")


class _Half(http.server.SimpleHTTPRequestHandler):
    """Serves shards cut in the middle, as a lost connection does, until told to serve them whole."""

    whole = False

    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        content = source.read()
        half = content[: len(content) // 2] if self.path.endswith(".tar") and not _Half.whole else content
        outputfile.write(half)


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset opens http with curl")
def test_a_download_that_breaks_off_is_not_kept(shards, tmp_path):
    handler = functools.partial(_Half, directory=str(shards / "shards"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(UserError, match=r"00-000000\.tar"):
            ShardReader(url, cache_dir=tmp_path / "cache").read_shard(0)
        assert not list((tmp_path / "cache").rglob("*.tar*"))
        _Half.whole = True
        assert len(ShardReader(url, cache_dir=tmp_path / "cache").read_shard(0)) > 0
        server.shutdown()


# Checkpoints


@pytest.fixture(scope="module")
def trained(shards):
    train_tiny_run(shards)
    return shards


@pytest.fixture
def checkpoint(trained, tmp_path):
    """The only checkpoint of a run of its own."""
    runs = shutil.copytree(trained / "runs", tmp_path / "runs")
    (newest,) = (runs / "tiny" / "checkpoints").glob("step-*")
    return newest


def _list_as_it_is(checkpoint, name, listed_as=None):
    """Make the manifest agree with a file's present content."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    content = (checkpoint / name).read_bytes()
    manifest["files"][listed_as or name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def _go_on(checkpoint, shards):
    """Start the run again for one more step."""
    config = checkpoint.parent.parent / "config.yaml"
    places = [f"--run.folder={checkpoint.parents[2]}", f"--data.shards={shards / 'shards'}", "--train.steps=4"]
    return run_as_only_rank(SCRIPT, "--config", config, *places)


def test_a_pickle_in_place_of_tensors_does_not_run_and_ends_a_run_with_one_line(checkpoint, trained, trap):
    (tensors,) = checkpoint.glob("rank-*.safetensors")
    tensors.write_bytes(trap[0])
    with pytest.raises(UserError, match=r"SHA-256|bytes, not"):
        newest_checkpoint(checkpoint.parent)
    _list_as_it_is(checkpoint, tensors.name)
    error = only_error(_go_on(checkpoint, trained))
    assert tensors.name in error and "is not a safetensors file" in error


def test_files_that_the_manifest_does_not_list_are_not_opened(checkpoint, trained, trap):
    for name in ("extra.pt", "pytorch_model.bin", "model.safetensors", "mp_rank_00_model_states.pt"):
        (checkpoint / name).write_bytes(trap[0])
    done = _go_on(checkpoint, trained)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "finished step 4" in done.stdout


def test_a_share_that_the_manifest_does_not_list_makes_a_checkpoint_unusable(checkpoint, trap):
    (checkpoint / "rank-00001-of-00002.safetensors").write_bytes(trap[0])
    with pytest.raises(UserError, match=r"rank-00001-of-00002\.safetensors is not in its manifest"):
        newest_checkpoint(checkpoint.parent)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"\x80\x04nonsense", "is not JSON"), (b"[1, 2]", "does not hold a run's state"), (b"{}", "lacks adam_step")],
)
def test_a_state_that_is_nonsense_ends_a_run_with_one_line(checkpoint, trained, content, reason):
    (checkpoint / "state.json").write_bytes(content)
    _list_as_it_is(checkpoint, "state.json")
    assert reason in only_error(_go_on(checkpoint, trained))


@pytest.mark.parametrize("name", ["../../../metrics.jsonl", "/etc/hostname", "..", "a/b"])
def test_a_checkpoint_that_names_files_elsewhere_is_refused(checkpoint, name):
    _list_as_it_is(checkpoint, "state.json", listed_as=name)
    with pytest.raises(UserError, match="not a plain file name"):
        newest_checkpoint(checkpoint.parent)


def test_a_checkpoint_whose_state_is_not_listed_is_refused(checkpoint):
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    del manifest["files"]["state.json"]
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"state\.json is not in its manifest"):
        newest_checkpoint(checkpoint.parent)


def test_no_program_of_ours_loads_pickles():
    """`S301` of ruff sees pickle itself; these are the other ways in."""
    forbidden = re.compile(r"torch\.load\(|pickle\.load|allow_pickle=True|yaml\.(unsafe_)?load\(|(?<![.\w])eval\(")
    folders = ("data_shards", "spe_dist", "cluster", "launcher")
    sources = [path for name in folders for path in (ROOT / name).rglob("*.py")]
    assert len(sources) > 50
    assert [path for path in sources if forbidden.search(path.read_text())] == []
