"""What works, and how fast it imports, where neither the libraries of extras nor those of POSIX are there."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from launcher.cli import dispatch
from launcher.extras import EXTRAS
from tests.unit.spe_dist.extraction.lively import save_lively
from tests.unit.spe_dist.tiny_run import ROOT

DISTRIBUTIONS = {"grpc": "grpcio"}  # where the name differs from that of the import
# Windows has none of these; nothing may need them before a command is at its work.
POSIX = ("fcntl", "resource", "termios", "pwd", "grp")
RUN = """
import json, os, select, signal, sys
for name in ("SIGHUP", "SIGPIPE", "SIGUSR1", "SIGCHLD"):
    delattr(signal, name)
del select.poll, os.EX_TEMPFAIL
absent, commands = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(absent))
from launcher.cli import main
for command in commands:
    sys.argv[1:], said = command, 0
    try:
        main()
    except SystemExit as end:
        said = end.code
    heavy = ("torch", "torch._dynamo", "transformers", "spacy", "webdataset")
    heavy = [name for name in heavy if sys.modules.get(name)]
    print(json.dumps([said, heavy]), file=sys.stderr)
"""


def run(commands):
    """Exit status and heavy imports so far of each command, and all that was printed."""
    absent = [library for libraries in EXTRAS.values() for library in libraries] + [*POSIX]
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([absent, commands])],
        capture_output=True, text=True, timeout=300, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]
    return results, done.stdout, [line for line in done.stderr.splitlines() if not line.startswith("[")]


def test_without_extras_and_posix_the_base_commands_work_and_others_say_what_they_need(tmp_path):
    model = save_lively(tmp_path / "model")
    (tmp_path / "data.json").write_text(json.dumps({"tokens": ["Ann", "."], "entities": [], "relations": []}) + "\n")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    data, out = str(tmp_path / "data.json"), str(tmp_path / "out.jsonl")
    results, printed, said = run([
        ["--version"], ["--help"],
        ["data", "check", data], ["data", "convert", data, out],
        ["predict", str(model), "--text", "Marie Curie was born in Warsaw."],
        ["pretrain", "--config", "debug"], ["predict", str(model), str(tmp_path / "a.parquet")],
    ])  # fmt: skip
    assert [status for status, _ in results] == [0] * 5 + [1] * 2, said
    assert results[3][1] == []  # nothing heavy until then
    assert results[4][1] == ["torch", "spacy"]  # transformers, or Dynamo, would take longer than all the rest
    assert re.search(r"^spe_dist \S", printed) and '"entities": [{' in printed and Path(out).is_file()
    pretrain, parquet = said[-2:]
    assert re.fullmatch(
        r'error: spe pretrain needs \w+, which is not installed: pip install "spe_dist\[train\]"', pretrain
    )
    assert re.fullmatch(r'error: spe predict needs pyarrow, .* "spe_dist\[parquet\]"', parquet)


def test_what_is_said_to_be_in_an_extra_is_there_and_not_in_the_base():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}

    for extra, libraries in EXTRAS.items():
        distributions = {DISTRIBUTIONS.get(library, library) for library in libraries}
        assert distributions <= names(project["optional-dependencies"][extra])
        assert not distributions & names(project["dependencies"])
    assert {*EXTRAS} == project["optional-dependencies"].keys() - {"test", "dev"}


def test_another_missing_module_is_no_matter_of_extras(monkeypatch):
    monkeypatch.setitem(sys.modules, "launcher.plan", None)
    with pytest.raises(ModuleNotFoundError):
        dispatch(["plan"])
