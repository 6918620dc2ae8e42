"""`spe predict` into a folder is killed at changes of the file system: nothing is lost, twice or half there."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_shards.stop_requests import STOPPED
from launcher.cli import main
from launcher.predict_corpus.counts import Counts
from tests.forked import clean_environment, forking_context
from tests.unit.spe_dist.extraction.lively import save_lively

_CHANGES = ("fsync", "replace", "unlink", "mkdir", "rmdir")  # of os, by which Python changes folders
_SECONDS = 400.0
TEXTS = [f"In {place} lives {name}, who works for Acme Inc." for place in ("Paris", "Rome") for name in ("Ann", "Bob")]


def predict(arguments: list[str], point: int, slow: bool, err: str) -> None:
    """In a process of its own, which dies before its n-th change of the file system."""
    os.environ |= clean_environment()
    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    passed = 0

    def dying(change: Callable) -> Callable:
        def call(*args, **more):
            nonlocal passed
            passed += 1
            if passed == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*args, **more)

        return call

    for name in _CHANGES:
        setattr(os, name, dying(getattr(os, name)))
    if slow:
        add = Counts.add
        Counts.add = lambda self, text: (time.sleep(0.2), add(self, text))
    sys.argv = ["spe", "predict", *arguments]
    main()


class Corpus:
    """Predictions that are begun again and again."""

    def __init__(self, folder: Path) -> None:
        self.err = folder / "err"
        self.model = save_lively(folder / "model")
        self.inputs = [folder / "a.txt", folder / "b.txt"]
        for number, path in enumerate(self.inputs):
            path.write_text("".join(f"{number}. {text}\n" for text in TEXTS * 3))
        ended = self.run(folder / "expected")
        assert ended == 0, self.err.read_text()
        self.expected = content(folder / "expected")
        assert len(self.expected) == 6  # 24 texts, and the manifest

    def start(self, out: Path, *, point: int = 0, slow: bool = False):
        arguments = [self.model, *self.inputs, "--out", out, *([] if out.suffix else ["--records-per-file=5"])]
        self.err.unlink(missing_ok=True)
        process = forking_context().Process(target=predict, args=([*map(str, arguments)], point, slow, str(self.err)))
        process.start()
        return process

    def run(self, out: Path, **details) -> int:
        process = self.start(out, **details)
        process.join(_SECONDS)
        return process.exitcode

    def check(self, out: Path) -> None:
        """What may be seen at any time: whole shards, and a manifest only of all of them."""
        found = content(out)
        assert found.items() <= self.expected.items()
        assert "manifest.json" not in found or found == self.expected


def content(folder: Path) -> dict[str, bytes]:
    """Of all files that are not hidden."""
    if not folder.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 9))])
def test_killed_at_random_points_until_it_is_done(corpus, tmp_path, seed):
    draw, kills = random.Random(seed), 0
    while (ended := corpus.run(tmp_path / "found", point=draw.randint(1, 24))) != 0:
        assert ended == -signal.SIGKILL, corpus.err.read_text()
        kills += 1
        corpus.check(tmp_path / "found")
    assert kills > 1
    assert content(tmp_path / "found") == corpus.expected
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == sorted(corpus.expected)  # nothing hidden


@pytest.mark.slow
def test_killed_at_every_point(corpus, tmp_path):
    point = 1
    while (ended := corpus.run(tmp_path / str(point), point=point)) != 0:
        assert ended == -signal.SIGKILL
        corpus.check(tmp_path / str(point))
        assert corpus.run(tmp_path / str(point)) == 0, corpus.err.read_text()
        assert content(tmp_path / str(point)) == corpus.expected
        point += 1
    assert point > 40


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("out", ["found", "found.jsonl"])
def test_a_request_to_stop_keeps_finished_shards_and_no_part_of_a_file(corpus, tmp_path, number, out):
    process = corpus.start(tmp_path / out, slow=True)
    end = time.monotonic() + _SECONDS
    begun = "found/.units/0*.json" if out == "found" else ".found.jsonl.*.tmp"  # the first is written after its shard
    while not list(tmp_path.glob(begun)):
        assert process.is_alive() and time.monotonic() < end, corpus.err.read_text()
        time.sleep(0.05)
    os.kill(process.pid, number)
    process.join(_SECONDS)
    if out == "found":
        assert process.exitcode == STOPPED
        assert content(tmp_path / out) and "manifest.json" not in content(tmp_path / out)
        assert not list((tmp_path / out).glob(".*.tmp"))
        corpus.check(tmp_path / out)
        assert corpus.run(tmp_path / out) == 0 and content(tmp_path / out) == corpus.expected
        assert "finished before: " in corpus.err.read_text()
    else:
        assert process.exitcode == 128 + number and not list(tmp_path.iterdir())
        assert "found.jsonl is not written (a folder keeps what is finished)" in corpus.err.read_text()
