"""A rank that was killed while it loaded DeepSpeed's extension does not stop the ranks that come after it."""

import os
import subprocess
import sys
import time

import pytest

from spe_dist.engine.compiler import extension_folder, one_at_a_time

pytestmark = pytest.mark.any_version

WAITS = """
import os
from spe_dist.engine.compiler import extension_folder, one_at_a_time
with one_at_a_time("extension"):
    (extension_folder("extension") / "lock").touch()
    print("in", flush=True)
    input()
"""


def test_the_lock_of_a_process_that_was_killed_is_removed(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = extension_folder("extension") / "lock"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", WAITS], **pipes) as builder:
        assert builder.stdout.readline() == "in\n" and lock.exists()
        builder.kill()
    caplog.set_level("INFO")
    with one_at_a_time("extension"):
        assert not lock.exists()
        (lock.parent / "extension.so").touch()
    with one_at_a_time("extension"):
        pass
    assert [text.partition(",")[0] for text in caplog.messages][1:] == ["compiling extension of DeepSpeed"]


def test_the_lock_of_one_that_lives_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([sys.executable, "-c", WAITS], **pipes) as first,
        subprocess.Popen([sys.executable, "-c", WAITS], **pipes) as second,
    ):
        began = time.monotonic()
        lines = {first: None, second: None}
        while not any(lines.values()):
            for process in lines:
                os.set_blocking(process.stdout.fileno(), False)
                lines[process] = process.stdout.readline()
            assert time.monotonic() - began < 60
            time.sleep(0.05)
        (holder,) = (process for process, line in lines.items() if line)
        (waiting,) = {first, second} - {holder}
        time.sleep(1)
        assert not waiting.stdout.readline()
        holder.communicate("\n")
        os.set_blocking(waiting.stdout.fileno(), True)
        assert waiting.stdout.readline() == "in\n"
        waiting.communicate("\n")


def test_where_extensions_are_built(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = extension_folder("extension")
    assert folder.is_relative_to(tmp_path) and os.environ["TORCH_EXTENSIONS_DIR"] == str(folder.parent)
    del os.environ["TORCH_EXTENSIONS_DIR"]  # monkeypatch would put this one back for all later tests
